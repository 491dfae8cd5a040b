"""Templates ``${name}`` compiled once to functions of a user's variables; pure."""

import json
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import orjson

from shared.contracts.sendable import TEMPLATE

Variables = Mapping[str, Any]


class MissingVariableError(KeyError):
    """A template names something this user does not have (an earlier capture failed)."""


def compile_text(text: str) -> Callable[[Variables], str]:
    """Function that fills a text; a text without templates is returned as it is, at no cost."""
    parts = TEMPLATE.split(text)
    names = parts[1::2]
    if not names:
        return lambda _: text
    layout = "%s".join(part.replace("%", "%%") for part in parts[::2])
    pick = itemgetter(*names)
    alone = len(names) == 1

    def fill(variables: Variables) -> str:
        try:
            return layout % ((pick(variables),) if alone else pick(variables))
        except KeyError as missing:
            raise MissingVariableError(*missing.args) from None

    return fill


def compile_value(value: Any) -> Callable[[Variables], Any]:
    """Function that fills a JSON value. A string that is one whole template keeps the variable's own type."""
    if isinstance(value, str):
        whole = TEMPLATE.fullmatch(value)
        if not whole:
            return compile_text(value)
        name = whole[1]

        def one(variables: Variables) -> Any:
            try:
                return variables[name]
            except KeyError as missing:
                raise MissingVariableError(*missing.args) from None

        return one
    if isinstance(value, dict):
        members = [(key, compile_value(member)) for key, member in value.items() if _varies(member)]

        def filled(variables: Variables) -> Any:
            made = value.copy()
            for key, fill in members:
                made[key] = fill(variables)
            return made

        return filled
    if isinstance(value, list):
        items = [compile_value(item) for item in value]
        return lambda variables: [item(variables) for item in items]
    return lambda _: value


def _varies(value: Any) -> bool:
    return TEMPLATE.search(json.dumps(value)) is not None


def compile_body(value: Any) -> Callable[[Variables], bytes | None]:
    """Function that gives the request's bytes: JSON of the filled value, made once when it has no template."""
    if value is None:
        return lambda _: None
    if not _varies(value):
        fixed = _to_json(value)
        return lambda _: fixed
    fill = compile_value(value)
    return lambda variables: _to_json(fill(variables))


def _to_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # Integers beyond 64 bits, and keys that are not text, which the standard library writes.
        return json.dumps(value).encode()
