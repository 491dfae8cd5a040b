"""The written schemas as validators."""

import json
from collections.abc import Iterable
from typing import Any

from jsonschema import Draft202012Validator

from shared.settings import PROJECT_ROOT

CONTRACTS = PROJECT_ROOT / "docs" / "contracts"


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CONTRACTS / name).read_text())
    return document


def breach_events() -> Draft202012Validator:
    """Of the breach event, as the file for subscribers has it."""
    return Draft202012Validator(read("breach-event.schema.json"))


def hold(name: str, bodies: Iterable[bytes]) -> None:
    """Hold messages as they were published, one at least, against the AsyncAPI document."""
    schema, held = message(name), 0
    for body in bodies:
        schema.validate(json.loads(body))
        held += 1
    assert held, f"no {name} was published"


def message(name: str) -> Draft202012Validator:
    """Of a message of the AsyncAPI document by its model's name."""
    document = read("asyncapi.json")
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})
