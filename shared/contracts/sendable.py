"""What a request can carry and a template can name: checked where a scenario is read, before anything starts."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator

TEMPLATE = re.compile(r"\$\{([^}]*)\}")
BUILT_IN = frozenset({"user", "iteration", "uuid", "run", "arrival"})
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""All of a header's name (RFC 9110, 5.1)."""
UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
"""A sign that no header's value can carry: controls but the tab, and what Latin-1 does not have."""
OWN_HEADERS = frozenset(
    {"content-length", "transfer-encoding", "traceparent", "tracestate", "x-tidegate-run", "x-tidegate-action"}
)
"""What each request is given anyway; a second one beside it would make it another request, or none."""
_VARIABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


def _headers_can_be_sent(headers: dict[str, str]) -> dict[str, str]:
    for name, text in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no header name; letters, digits and - are, without spaces")
        if name.lower() in OWN_HEADERS:
            raise ValueError(f"{name!r} is set on each request by the generator; leave it out")
        if name.lower() == "host" and TEMPLATE.search(text):
            raise ValueError(f"{name!r} must be the same in each request; write it without a template")
        if UNSENDABLE.search(TEMPLATE.sub("", text)):
            raise ValueError(f"the value of {name!r} has a line break or a sign that HTTP cannot carry")
    return headers


def _is_json(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False, default=str)
    except ValueError as error:
        raise ValueError(f"is no JSON ({error}); use numbers, text, lists and mappings") from error
    return value


def _can_be_named(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError(f"{name!r} cannot stand in a template; use letters, digits, _ and -")
    if name in BUILT_IN:
        raise ValueError(f"{name!r} is given to every user ({', '.join(sorted(BUILT_IN))}); choose another name")
    return name


Headers = Annotated[dict[str, str], AfterValidator(_headers_can_be_sent)]
JsonBody = Annotated[Any, AfterValidator(_is_json)]
VariableName = Annotated[str, AfterValidator(_can_be_named)]


def names_in(value: Any) -> set[str]:
    """Every name in a template of a text, or of the texts within lists and mappings; ``ValueError`` for an open one."""
    names: set[str] = set()
    for text in _texts(value):
        found = TEMPLATE.findall(text)
        if text.count("${") != len(found):
            raise ValueError(f"{text[:60]!r} opens a template with ${{ and does not close it")
        names.update(found)
    return names


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
