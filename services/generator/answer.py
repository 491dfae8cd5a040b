"""Is an answer good, and what is kept of it: conditions, expectations and captures, compiled once per step; pure."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from services.generator.transport import Response
from shared.contracts.scenario import Capture, Condition, Expect
from shared.contracts.timing import Check, ErrorKind
from shared.errors import ConfigError

MISSING = object()
Find = Callable[[Any], Any]
Verdict = tuple[ErrorKind, Check, dict[str, Any]]
"""How it ended, what the checks said, and the captured values by name."""

_SIMPLE = re.compile(r"\$((?:\.[A-Za-z_]\w*|\[\d+\])*)")
_PART = re.compile(r"\.(\w+)|\[(\d+)\]")
_NOTHING: dict[str, Any] = {}
_GOOD: Verdict = (ErrorKind.OK, Check.NONE, _NOTHING)
_UNMET: Verdict = (ErrorKind.CHECK, Check.FAILED, _NOTHING)


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Find:
    """Function from a document to the first value at a JSON path, or ``MISSING``; ``ConfigError`` for a bad path."""
    simple = _SIMPLE.fullmatch(path)
    if simple:
        return _walker(tuple(int(index) if index else name for name, index in _PART.findall(simple[1])))
    return _searcher(path)


def _walker(keys: tuple[str | int, ...]) -> Find:
    """Names and positions alone need no search: an order of magnitude faster than the general library."""
    if len(keys) == 1 and isinstance(keys[0], str):
        key = keys[0]
        return lambda document: document.get(key, MISSING) if type(document) is dict else MISSING
    steps = tuple((key, dict if isinstance(key, str) else list) for key in keys)

    def find(document: Any) -> Any:
        value: Any = document
        for key, kind in steps:
            if type(value) is not kind:
                return MISSING
            try:
                value = value[key]  # type: ignore[index]  # a dict by name, a list by position
            except (KeyError, IndexError):
                return MISSING
        return value

    return find


def _searcher(path: str) -> Find:
    # Loaded where a path needs it: it costs each worker 10 MB.
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.parser import parse

    try:
        expression = parse(path)
    except (JSONPathError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path!r} is no JSON path: {error}") from error

    def find(document: Any) -> Any:
        found = [] if document is MISSING else expression.find(document)
        return found[0].value if found else MISSING

    return find


def parse_json(body: bytes) -> Any:
    """The document, or ``MISSING`` when the body is none."""
    try:
        return orjson.loads(body)
    except ValueError:
        return MISSING


def compile_condition(condition: Condition) -> Callable[[Any], bool]:
    """Whether every test of a condition is met by a document; on an absent value only ``exists: false`` is."""
    find = compile_path(condition.json_path)
    exists, equals, one_of = condition.exists, condition.equals, condition.one_of
    least, most = condition.at_least, condition.at_most
    if equals is not None and all(test is None for test in (exists, one_of, least, most)):
        return lambda document: bool(find(document) == equals)

    def holds(document: Any) -> bool:
        value = MISSING if document is MISSING else find(document)
        present = value is not MISSING and value is not None
        if exists is not None and exists is not present:
            return False
        if not present:
            return exists is False
        if (equals is not None and value != equals) or (one_of is not None and value not in one_of):
            return False
        if least is None and most is None:
            return True
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (least is None or value >= least) and (most is None or value <= most)

    return holds


class Judge:
    """Judges answered requests of one step: a wrong status first, then the checks, then what must be captured.

    ``needs_body`` and ``needs_headers`` tell what of the response it reads.
    """

    __slots__ = (
        "_at_most_us", "_checked", "_conditions", "_contains", "_document", "_from_body", "_from_document",
        "_from_headers", "_matches", "_plain", "_statuses", "needs_body", "needs_headers",
    )  # fmt: skip

    def __init__(self, expect: Expect, capture: Mapping[str, str | Capture]) -> None:
        self._statuses = expect.statuses
        self._at_most_us = None if expect.within_ms is None else expect.within_ms * 1000
        self._conditions = tuple(compile_condition(condition) for condition in expect.json_is)
        self._contains = None if expect.body_contains is None else expect.body_contains.encode()
        self._matches = None if expect.body_matches is None else re.compile(expect.body_matches.encode())
        whole = {
            name: Capture.model_validate({"json": path}) if isinstance(path, str) else path
            for name, path in capture.items()
        }
        self._from_document = tuple(
            (name, compile_path(wanted.json_path)) for name, wanted in whole.items() if wanted.json_path is not None
        )
        self._from_headers = tuple(
            (name, wanted.header.lower(), re.compile(wanted.regex) if wanted.regex else None)
            for name, wanted in whole.items()
            if wanted.header is not None
        )
        self._from_body = tuple(
            (name, re.compile(wanted.regex))
            for name, wanted in whole.items()
            if wanted.regex is not None and wanted.header is None
        )
        self._document = bool(self._conditions or self._from_document)
        texts = self._contains is not None or self._matches is not None
        self._checked = bool(self._conditions or texts or self._at_most_us is not None)
        self._plain = not self._checked and not capture
        self.needs_body = bool(self._document or texts or self._from_body)
        self.needs_headers = bool(self._from_headers)

    def __call__(self, response: Response, service_us: int) -> Verdict:
        if response.error is not ErrorKind.OK:
            return response.error, Check.NONE, _NOTHING
        status, statuses = response.status, self._statuses
        if not (0 < status < 400 if statuses is None else status in statuses):
            return ErrorKind.AUTH if status in (401, 403) else ErrorKind.STATUS, Check.NONE, _NOTHING
        if self._plain:
            return _GOOD
        if self._at_most_us is not None and service_us > self._at_most_us:
            return _UNMET
        document = parse_json(response.body) if self._document else MISSING
        for holds in self._conditions:
            if not holds(document):
                return _UNMET
        if self._contains is not None and self._contains not in response.body:
            return _UNMET
        if self._matches is not None and not self._matches.search(response.body):
            return _UNMET
        kept = self._captured(response, document)
        if kept is None:
            return _UNMET
        return ErrorKind.OK, Check.PASSED if self._checked else Check.NONE, kept

    def _captured(self, response: Response, document: Any) -> dict[str, Any] | None:
        """Values by name, or None when one of them is not in the answer."""
        kept: dict[str, Any] = {}
        for name, find in self._from_document:
            value = MISSING if document is MISSING else find(document)
            if value is MISSING:
                return None
            kept[name] = value
        if self._from_body:
            text = response.body.decode("utf-8", "replace")
            for name, pattern in self._from_body:
                found = pattern.search(text)
                if found is None:
                    return None
                kept[name] = found[1] if pattern.groups else found[0]
        for name, header, pattern_or_none in self._from_headers:
            value = next((text for key, text in response.headers if key.lower() == header), None)
            if value is not None and pattern_or_none is not None:
                found = pattern_or_none.search(value)
                value = None if found is None else found[1] if pattern_or_none.groups else found[0]
            if value is None:
                return None
            kept[name] = value
        return kept
