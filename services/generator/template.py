"""Templates ``${name}`` compiled once to functions of a user's variables; pure."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from shared.contracts.scenario import TEMPLATE

Variables = Mapping[str, Any]


class MissingVariableError(KeyError):
    """A template names something this user does not have (an earlier capture failed)."""


def _lookup(variables: Variables, name: str) -> Any:
    try:
        return variables[name]
    except KeyError:
        raise MissingVariableError(name) from None


def compile_text(text: str) -> Callable[[Variables], str]:
    """Function that fills a text; a text without templates is returned as it is, at no cost."""
    parts = TEMPLATE.split(text)
    if len(parts) == 1:
        return lambda _: text

    def fill(variables: Variables) -> str:
        return "".join(str(_lookup(variables, part)) if odd % 2 else part for odd, part in enumerate(parts))

    return fill


def compile_value(value: Any) -> Callable[[Variables], Any]:
    """Function that fills a JSON value. A string that is one whole template keeps the variable's own type."""
    if isinstance(value, str):
        whole = TEMPLATE.fullmatch(value)
        if whole:
            return lambda variables: _lookup(variables, whole[1])
        return compile_text(value)
    if isinstance(value, dict):
        members = {key: compile_value(member) for key, member in value.items()}
        return lambda variables: {key: member(variables) for key, member in members.items()}
    if isinstance(value, list):
        items = [compile_value(item) for item in value]
        return lambda variables: [item(variables) for item in items]
    return lambda _: value


def compile_body(value: Any) -> Callable[[Variables], bytes | None]:
    """Function that gives the request's bytes: JSON of the filled value, made once when it has no template."""
    if value is None:
        return lambda _: None
    if not TEMPLATE.search(json.dumps(value)):
        fixed = json.dumps(value).encode()
        return lambda _: fixed
    fill = compile_value(value)
    return lambda variables: json.dumps(fill(variables)).encode()
