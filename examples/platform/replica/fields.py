"""Reading JSON request bodies field by field. A bad field is the caller's fault and is named."""

from __future__ import annotations

import json
from typing import Any, TypeVar

T = TypeVar("T", str, int, float, bool)


class BadRequestError(Exception):
    """The caller's fault; the message names the field, the value and what would be right."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; an empty body counts as an empty object."""
    if not body:
        return {}
    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadRequestError(f"body: is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise BadRequestError("body: is not a JSON object")
    return document


def required_text(document: dict[str, Any], name: str, at: str = "") -> str:
    """The non-empty text `name`."""
    value = document.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadRequestError(f"{at}{name}: {value!r} is not a non-empty text")
    return value


def optional(document: dict[str, Any], name: str, kind: type[T], default: T, at: str = "") -> T:
    """The field `name` of type `kind`, or `default` when it is absent or null."""
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadRequestError(f"{at}{name}: {value!r} is not of type {kind.__name__}")
    return value


def bounded(document: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The whole number `name` within `low` and `high`, or `default`."""
    value = optional(document, name, int, default)
    if not low <= value <= high:
        raise BadRequestError(f"{name}: {value} is outside {low} to {high}")
    return value
