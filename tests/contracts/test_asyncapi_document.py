"""The AsyncAPI document is one, and its payloads are JSON Schemas."""

from typing import Any

import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tests.contracts.schemas import message, read
from tests.unit.breaches import event

DOCUMENT = read("asyncapi.json")


def test_the_document_keeps_to_asyncapi_3() -> None:
    parsed = ApplicationSchema.model_validate(DOCUMENT)
    assert parsed.asyncapi == "3.0.0"
    assert {operation["action"] for operation in DOCUMENT["operations"].values()} == {"receive"}
    with pytest.raises(ValidationError):
        ApplicationSchema.model_validate({key: value for key, value in DOCUMENT.items() if key != "info"})


def test_every_parameter_of_an_address_is_declared_and_the_other_way_round() -> None:
    for name, channel in DOCUMENT["channels"].items():
        in_address = {part[1:-1] for part in channel["address"].split(".") if part.startswith("{")}
        assert in_address == set(channel["parameters"]), name


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_a_message_can_be_held_against_the_document() -> None:
    told: dict[str, Any] = event().model_dump(mode="json")
    message("BreachEvent").validate(told)
    del told["data"]["breach"]
    assert not message("BreachEvent").is_valid(told)
