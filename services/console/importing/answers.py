"""What recorded JSON answers gave: where an id or token came from, so that its use later becomes a capture there."""

import re
from dataclasses import dataclass
from typing import Any

from services.console.importing.naming import Names, singular, snake
from services.console.importing.secrecy import is_secret_name

SHORTEST_ID = 6
LONGEST_ID = 4096
MOST_NODES = 50_000
_ID_WORDS = re.compile(r"ids?|uuid|guid|key|token|cursor|slug|ref|nonce|ticket|handle")
_GENERIC = frozenset(["id", "ids", "uuid", "guid", "key", "value"])
_DATE = re.compile(r"\d{4}-\d\d-\d\d($|[T ])")
_NUMBER = re.compile(r"-?\d+\.\d+([eE][-+]?\d+)?")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Words that the library of JSON paths keeps for itself.
_RESERVED = frozenset({"parent", "where", "wherenot"})


@dataclass(slots=True)
class Origin:
    """Where a value first stood: the step whose answer gave it, the JSON path there; a name once it is used."""

    step: dict[str, Any]
    path: str
    wanted: str
    is_text: bool
    name: str | None = None


class Answers:
    """Values of the answers heard so far."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._origins: dict[str, Origin] = {}

    def find(self, value: str | int, alone: bool) -> str | None:
        """Template of a value, whose capture is then in its step. ``alone``: its JSON type must be the answer's."""
        origin = self._origins.get(str(value))
        if origin is None or (alone and origin.is_text is not isinstance(value, str)):
            return None
        if origin.name is None:
            origin.name = self._names.give(origin.wanted)
            origin.step.setdefault("capture", {})[origin.name] = origin.path
        return f"${{{origin.name}}}"

    def peek(self, value: str | int, alone: bool) -> str | None:
        """A mark for a value that an answer gave, without any capture of it."""
        return None if alone or str(value) not in self._origins else "…"

    def hear(self, step: dict[str, Any], document: Any, resource: str) -> None:
        """Learn the ids and tokens of an answer. ``resource`` names ids that are just called ``id``."""
        left = MOST_NODES
        waiting: list[tuple[Any, str, str, str]] = [(document, "$", "", resource)]
        while waiting and left > 0:
            left -= 1
            value, path, key, owner = waiting.pop()
            if isinstance(value, dict):
                members = [
                    (member, path + step_in, name, singular(snake(key)) if key else owner)
                    for name, member in value.items()
                    if (step_in := _step_into(name)) is not None
                ]
                waiting += reversed(members)
            elif isinstance(value, list):
                waiting += reversed([(item, f"{path}[{index}]", key, owner) for index, item in enumerate(value)])
            elif _is_id(key, value):
                self._learn(str(value), Origin(step, path, _wanted(key, owner), isinstance(value, str)))

    def _learn(self, value: str, origin: Origin) -> None:
        known = self._origins.get(value)
        # A place in a list may hold another thing next time; the answer that is about the thing itself is better.
        if known is None or (known.name is None and "[" in known.path and "[" not in origin.path):
            self._origins[value] = origin


def _step_into(key: str) -> str | None:
    if _PLAIN_KEY.fullmatch(key):
        return f".{key}" if key not in _RESERVED else f"['{key}']"
    # A key that is itself an id is another one the next time.
    if re.fullmatch(r"[A-Za-z_@][A-Za-z @:._-]{0,63}", key):
        return f"['{key}']"
    return None


def _wanted(key: str, owner: str) -> str:
    name = snake(key)
    return f"{owner}_{singular(name)}" if name in _GENERIC and owner else singular(name)


def _is_id(key: str, value: Any) -> bool:
    last = snake(key).rsplit("_", 1)[-1]
    if isinstance(value, int) and not isinstance(value, bool):
        return _ID_WORDS.fullmatch(last) is not None and len(str(abs(value))) >= SHORTEST_ID
    if not isinstance(value, str) or not SHORTEST_ID <= len(value) <= LONGEST_ID or re.search(r"\s", value):
        return False
    if is_secret_name(key, value):
        return True
    if _DATE.match(value) or _NUMBER.fullmatch(value) or "://" in value or value.startswith("/"):
        return False
    if any(sign.isdigit() for sign in value):
        return True
    return _ID_WORDS.fullmatch(last) is not None and (
        len(value) >= 16 or (value != value.lower() and value != value.upper())
    )
