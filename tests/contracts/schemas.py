"""The written schemas as validators."""

import json
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


def message(name: str) -> Draft202012Validator:
    """Of a message of the AsyncAPI document by its model's name."""
    document = read("asyncapi.json")
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})
