"""Templates into recorded text: captured values and secrets become ``${name}``, a literal ``${`` stays literal.

The contract has no escape for ``${``; a variable that holds the sign alone stands in for it (``${dollar}``). In paths
it is percent-encoded instead.
"""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from services.console.importing.naming import DOLLAR, snake
from services.console.importing.secrecy import Secrets, is_secret_name, looks_opaque, split_secret_looks
from shared.contracts.sendable import TEMPLATE

_TOKENS = tuple(
    re.compile(pattern)
    for pattern in (r"[^\s,;\"'<>(){}\[\]]+", r"[\w.~+/=-]+", r"[\w.~-]+", r"[\w-]+")
)  # fmt: skip
_IN_SEGMENT = ":@,;!'()*~$&+="
_IN_QUERY = "/:@,;!'()*~$?"
Find = Callable[[str | int, bool], str | None]
"""The template of a captured value; the second argument: it stands alone in a JSON body, so its type counts."""


class Template(str):
    """A piece that is a template and not literal text."""

    __slots__ = ()


class Woven(Template):
    """A text with templates in it."""

    __slots__ = ()


class UnwritableError(Exception):
    """A request that a scenario cannot express; the message says why."""


class Weaver:
    """Fills templates in for what is known. ``find`` knows the captured values, ``secrets`` the secrets."""

    def __init__(self, secrets: Secrets, find: Find = lambda _value, _whole: None) -> None:
        self._secrets, self._find = secrets, find
        self.has_dollar = False

    def path(self, target: str, place: str) -> str:
        """A path with its query as it was sent, percent-encoded."""
        path, mark, query = target.partition("?")
        segments = path.split("/")
        before = ["", *segments[:-1]]
        woven = "/".join(
            self._encoded(segment, unquote(segment), _IN_SEGMENT, "" if not is_secret_name(name) else name, place)
            for name, segment in zip(before, segments, strict=True)
        )
        return woven if not mark else f"{woven}?{'&'.join(self._parameter(pair, place) for pair in query.split('&'))}"

    def _parameter(self, pair: str, place: str) -> str:
        name, sign, raw = pair.partition("=")
        key, value = unquote_plus(name), unquote_plus(raw)
        if is_secret_name(key) and value:
            template = self._find(value, False) or self._secrets.template(value, key, f"{place}, query {key}")
            return f"{name}={template}"
        return self._encoded(name, key, _IN_QUERY, "", place) + (
            sign and sign + self._encoded(raw, value, _IN_QUERY, key, place, query=True)
        )

    def _encoded(self, raw: str, value: str, safe: str, key: str, place: str, *, query: bool = False) -> str:
        # A segment after one like /token/ is secret only where it looks it: /token/refresh is a place.
        if not query and key and len(value) >= 16 and any(sign.isdigit() for sign in value):
            pieces: list[str] = [Template(self._find(value, False) or self._secrets.template(value, key, place))]
        else:
            pieces = self._leaf(value, key if query else "", place, whole=False)
        if not any(isinstance(piece, Template) for piece in pieces):
            return raw.replace("${", "$%7B")
        return "".join(_quoted(piece, safe) for piece in pieces)

    def header(self, name: str, value: str, place: str) -> str:
        """A header's value; of ``Authorization`` and its like the scheme stays readable."""
        place = f"{place}, header {name}"
        scheme, space, rest = value.partition(" ")
        if snake(name).endswith("authorization") and space and re.fullmatch(r"[A-Za-z][\w-]*", scheme):
            return f"{scheme} {self._find(rest, False) or self._secrets.template(rest, snake(name), place)}"
        return self._joined(self._leaf(value, name, place, whole=False))

    def text(self, name: str, value: str, place: str) -> str:
        """A text that goes under a name."""
        return self._joined(self._leaf(value, name, place, whole=False))

    def body(self, value: Any, place: str, name: str = "", *, inherited: str = "") -> Any:
        """A JSON body; ``inherited`` is the secret name of a container that it stands in."""
        if isinstance(value, dict):
            within = inherited or (name if name and is_secret_name(name) else "")
            made = {}
            for key, member in value.items():
                if "${" in key or any(secret for secret, _ in split_secret_looks(key)):
                    raise UnwritableError("a key of its body has ${ or a secret in it")
                made[key] = self.body(member, place, key, inherited=within and f"{within}_{key}")
            return made
        if isinstance(value, list):
            return [self.body(item, place, name, inherited=inherited) for item in value]
        where = f"{place}, body {name}".rstrip()
        if isinstance(value, str):
            return self._joined(self._leaf(value, inherited or name, where, whole=True, secret=bool(inherited)))
        if value is None or isinstance(value, bool):
            return value
        if inherited or is_secret_name(name, value):
            return self._secrets.template(str(value), inherited or name, where)
        return (self._find(value, True) if isinstance(value, int) else None) or value

    def _leaf(self, value: str, name: str, place: str, *, whole: bool, secret: bool = False) -> list[str]:
        """The pieces of a text: the whole of it known, secret by name or look, JSON within it, or parts of it known."""
        if not value.strip():
            return [value]
        known = self._find(value, whole) or self._secrets.find(value, place, whole=True)
        if known:
            return [Template(known)]
        inner = self._inner(value, place)
        if inner is not None:
            return [Woven(inner)]
        pieces = self._parts(value, name, place, value if whole else "")
        if (secret or (name and is_secret_name(name))) and not any(isinstance(piece, Template) for piece in pieces):
            return [Template(self._secrets.template(value, name, place))]
        if len(pieces) == 1 and not isinstance(pieces[0], Template) and looks_opaque(name, value):
            return [Template(self._secrets.template(value, name or "secret", place))]
        return pieces

    def _inner(self, value: str, place: str) -> str | None:
        """JSON within a text, written again when something in it became a template."""
        document = _json_within(value)
        if document is None:
            return None
        woven = self.body(document, place)
        if woven == document:
            return None
        # A template in it is text, also where a number stood.
        return json.dumps(woven, ensure_ascii=False, separators=(",", ":"))

    def _parts(self, value: str, name: str, place: str, alone: str) -> list[str]:
        pieces: list[str] = []
        for secret, piece in split_secret_looks(value):
            if secret:
                template = self._find(piece, False) or self._secrets.template(piece, name or "secret", place)
                pieces.append(Template(template))
            else:
                pieces += self._tokens(piece, place, 0, alone)
        merged: list[str] = []
        for piece in pieces:
            if merged and not isinstance(piece, Template) and not isinstance(merged[-1], Template):
                merged[-1] += piece
            else:
                merged.append(piece)
        return merged

    def _tokens(self, text: str, place: str, level: int, alone: str) -> list[str]:
        """Known values that stand in a text as words of their own, the longest kind of word first.

        ``alone`` is none of them: a text in a body, captured elsewhere as a number, which it must not become.
        """
        if level == len(_TOKENS):
            return [text]
        pieces: list[str] = []
        end = 0
        for match in _TOKENS[level].finditer(text):
            pieces.append(text[end : match.start()])
            known = None if match[0] == alone else self._find(match[0], False)
            known = known or self._secrets.find(match[0], place, whole=False)
            pieces += [Template(known)] if known else self._tokens(match[0], place, level + 1, alone)
            end = match.end()
        return [piece for piece in [*pieces, text[end:]] if piece]

    def _joined(self, pieces: list[str]) -> str:
        return "".join(piece if isinstance(piece, Template) else self._literal(piece) for piece in pieces)

    def _literal(self, text: str) -> str:
        if "${" not in text:
            return text
        self.has_dollar = True
        return text.replace("${", f"${{{DOLLAR}}}{{")


def note_secrets(secrets: Secrets, value: Any, name: str = "", *, inherited: str = "") -> None:
    """Remember every secret value of a JSON body, so that it is known wherever else it stands."""
    if isinstance(value, dict):
        within = inherited or (name if name and is_secret_name(name) else "")
        for key, member in value.items():
            note_secrets(secrets, member, key, inherited=within and f"{within}_{key}")
    elif isinstance(value, list):
        for item in value:
            note_secrets(secrets, item, name, inherited=inherited)
    elif isinstance(value, str):
        inner = _json_within(value)
        if inherited or (name and is_secret_name(name)):
            secrets.note(value, inherited or name)
        elif inner is not None:
            note_secrets(secrets, inner)


def _quoted(piece: str, safe: str) -> str:
    if not isinstance(piece, Template):
        return quote(piece, safe=safe)
    if not isinstance(piece, Woven):
        return piece
    parts = TEMPLATE.split(piece)
    return "".join(f"${{{part}}}" if place % 2 else quote(part, safe=safe) for place, part in enumerate(parts))


def _json_within(value: str) -> dict[str, Any] | list[Any] | None:
    if value[:1] not in ("{", "["):
        return None
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict | list) else None
