"""Names from the names of others: valid where the contract asks for it, and each given once."""

import re
import unicodedata

from shared.contracts.sendable import BUILT_IN

DOLLAR = "dollar"
LONGEST_ACTION = 80
LONGEST_SYSTEM = 32
LONGEST_VARIABLE = 48
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake(text: str, otherwise: str = "value") -> str:
    """Lower case, ``_`` between words, letters and digits of ASCII only."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", _HUMPS.sub("_", plain).lower()).strip("_") or otherwise


def action_name(text: str, otherwise: str) -> str:
    """``text`` as it is where that is a name of the contract, else with ``_`` for what a name cannot hold."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")
    return name[:LONGEST_ACTION] or otherwise


def scenario_name(text: str) -> str:
    return snake(text, "imported")[:LONGEST_ACTION].strip("_")


def system_id(text: str) -> str:
    return snake(text, "system")[:LONGEST_SYSTEM].strip("_")


def singular(word: str) -> str:
    """``entries`` is of an ``entry``; good enough for names."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


def one_line(text: str, most: int = 200) -> str:
    """Text that can stand in a comment or title: no line breaks, no signs without width, not too long."""
    clean = "".join(sign if sign.isprintable() else " " for sign in text)
    short = " ".join(clean.split())
    return short if len(short) <= most else short[: most - 1] + "…"


class Names:
    """Gives each name once: a second ``id`` becomes ``id_2``. What templates have built in is taken from the start."""

    def __init__(self, longest: int = LONGEST_VARIABLE, taken: frozenset[str] = BUILT_IN | {DOLLAR}) -> None:
        self._longest = longest
        self._taken = set(taken)

    def give(self, wanted: str) -> str:
        name = wanted[: self._longest]
        number = 1
        while name in self._taken:
            number += 1
            end = f"_{number}"
            name = wanted[: self._longest - len(end)] + end
        self._taken.add(name)
        return name
