"""Is an answer good, and what is kept of it: conditions, expectations and captures, compiled once; pure."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.parser import parse as parse_path

from shared.contracts.scenario import Condition, Expect
from shared.contracts.timing import Check, ErrorKind
from shared.errors import ConfigError

MISSING = object()


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Callable[[Any], Any]:
    """Function from a document to the first value at a JSON path, or ``MISSING``; ``ConfigError`` for a bad path."""
    try:
        expression = parse_path(path)
    except (JSONPathError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path!r} is no JSON path: {error}") from error

    def find(document: Any) -> Any:
        found = expression.find(document)
        return found[0].value if found else MISSING

    return find


def parse_json(body: bytes) -> Any:
    """The document, or ``MISSING`` when the body is none."""
    try:
        return json.loads(body)
    except ValueError:
        return MISSING


def holds(condition: Condition, document: Any) -> bool:
    """Whether every test of a condition is met; on an absent value only ``exists: false`` is."""
    value = MISSING if document is MISSING else compile_path(condition.json_path)(document)
    present = value is not MISSING and value is not None
    if condition.exists is not None and condition.exists is not present:
        return False
    if not present:
        return condition.exists is False
    if condition.equals is not None and value != condition.equals:
        return False
    if condition.one_of is not None and value not in condition.one_of:
        return False
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if condition.at_least is not None and not (number and value >= condition.at_least):
        return False
    return condition.at_most is None or (number and value <= condition.at_most)


def judge(expect: Expect, status: int, body: bytes, service_ms: float) -> tuple[ErrorKind, Check]:
    """Outcome of an answered request: wrong status first, then the checks."""
    statuses = expect.statuses
    if not (status in statuses if statuses is not None else 0 < status < 400):
        return ErrorKind.AUTH if status in (401, 403) else ErrorKind.STATUS, Check.NONE
    if not expect.json_is and expect.within_ms is None:
        return ErrorKind.OK, Check.NONE
    if expect.within_ms is not None and service_ms > expect.within_ms:
        return ErrorKind.CHECK, Check.FAILED
    document = parse_json(body) if expect.json_is else MISSING
    if all(holds(condition, document) for condition in expect.json_is):
        return ErrorKind.OK, Check.PASSED
    return ErrorKind.CHECK, Check.FAILED


def captured(capture: dict[str, str], body: bytes) -> dict[str, Any] | None:
    """Values to keep by name, or None when one of them is not in the answer."""
    if not capture:
        return {}
    document = parse_json(body)
    if document is MISSING:
        return None
    values = {name: compile_path(path)(document) for name, path in capture.items()}
    return None if any(value is MISSING for value in values.values()) else values
