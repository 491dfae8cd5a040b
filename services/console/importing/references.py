"""Local references of an OpenAPI document, and samples of values from its schemas; bounded where schemas recurse."""

from typing import Any
from urllib.parse import unquote

from shared.errors import ConfigError

MOST_HOPS = 32
MOST_DEPTH = 16
MOST_NODES = 5_000
OMITTED = object()
_FORMATS = {
    "uuid": "00000000-0000-4000-8000-000000000000",
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1M",
    "email": "user@example.com",
    "idn-email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "url": "https://example.com",
    "uri-reference": "/example",
    "byte": "ZXhhbXBsZQ==",
    "binary": "example",
}
_BRANCHES = ("oneOf", "anyOf")


class References:
    """Finds what ``$ref`` points to within a document; ``ConfigError`` for a reference to nothing."""

    def __init__(self, document: dict[str, Any], source: str) -> None:
        self._document, self._source = document, source

    def resolve(self, node: Any) -> dict[str, Any]:
        """The object itself, behind any references; empty for what is no object or lies in another document."""
        for _ in range(MOST_HOPS):
            if not isinstance(node, dict):
                return {}
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node
            own = {key: value for key, value in node.items() if key != "$ref"}
            found = self._at(reference)
            node = {**found, **own} if isinstance(found, dict) and own else found
        raise ConfigError(f"{self._source}: $ref {reference!r}: points to itself in the end")

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return {}
        node: Any = self._document
        for part in reference[1:].strip("/").split("/") if reference != "#" else []:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            node = _member(node, key)
            if node is None:
                raise ConfigError(f"{self._source}: $ref {reference!r}: points to nothing")
        return node


def _member(node: Any, key: str) -> Any:
    if isinstance(node, list):
        return node[int(key)] if key.isdecimal() and int(key) < len(node) else None
    if not isinstance(node, dict):
        return None
    # The keys of responses may have been read as numbers.
    return node.get(key, node.get(int(key)) if key.isdecimal() else None)


class Sampler:
    """One value for a schema: its example, default or first choice, else one of its type.

    ``answers``: as the service gives it (with what is read-only) rather than as it is sent.
    """

    def __init__(self, references: References, *, answers: bool = False) -> None:
        self._references = references
        self._hidden = "writeOnly" if answers else "readOnly"
        self._left = 0

    def sample(self, schema: Any) -> Any:
        """The value; None where the schema recurses without end."""
        self._left = MOST_NODES
        value = self._value(schema, ())
        return None if value is OMITTED else value

    def _value(self, schema: Any, trail: tuple[str, ...]) -> Any:
        flat, trail = self._flat(schema, trail)
        if flat is None or self._left <= 0 or len(trail) > MOST_DEPTH:
            return OMITTED
        for given in ("const", "example", "default"):
            if given in flat:
                return flat[given]
        for several in ("examples", "enum"):
            if isinstance(flat.get(several), list) and flat[several]:
                return flat[several][0]
        kind = _type(flat)
        trail = (*trail, "")
        if kind == "object":
            return self._members(flat, trail)
        if kind == "array":
            item = self._value(flat.get("items", {}), trail)
            return [] if item is OMITTED else [item]
        return _plain_sample(kind, flat)

    def _members(self, flat: dict[str, Any], trail: tuple[str, ...]) -> dict[str, Any]:
        made = {}
        properties = flat.get("properties")
        for name, schema in properties.items() if isinstance(properties, dict) else ():
            whole = self._references.resolve(schema)
            if whole.get(self._hidden) is True or whole.get("deprecated") is True:
                continue
            value = self._value(schema, trail)
            if value is not OMITTED:
                made[str(name)] = value
        return made

    def _flat(self, schema: Any, trail: tuple[str, ...]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """A schema with its references, ``allOf`` and first choice folded in; None where it is within itself."""
        self._left -= 1
        if not isinstance(schema, dict) or self._left <= 0 or len(trail) > MOST_DEPTH:
            return ({} if not isinstance(schema, dict) else None), trail
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in trail:
                return None, trail
            trail = (*trail, reference)
        flat = dict(self._references.resolve(schema))
        for part in _listed(flat.pop("allOf", None)):
            folded, trail = self._flat(part, trail)
            flat = _folded(flat, folded or {})
        for branch in _BRANCHES:
            for choice in _listed(flat.pop(branch, None)):
                folded, within = self._flat(choice, trail)
                if folded is not None and folded.get("type") != "null":
                    flat, trail = _folded(flat, folded), within
                    break
        return flat, trail


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _folded(flat: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Both; what stands in ``flat`` already wins."""
    made = {**part, **flat}
    if isinstance(flat.get("properties"), dict) and isinstance(part.get("properties"), dict):
        made["properties"] = {**part["properties"], **flat["properties"]}
    return made


def _type(flat: dict[str, Any]) -> str:
    kind = flat.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in flat or "additionalProperties" in flat:
        return "object"
    return "array" if "items" in flat else "string"


def _plain_sample(kind: str, flat: dict[str, Any]) -> Any:
    if kind in ("integer", "number"):
        return _number(flat)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    if str(flat.get("format")) in _FORMATS:
        return _FORMATS[str(flat["format"])]
    least, most = flat.get("minLength"), flat.get("maxLength")
    text = "string"
    if isinstance(least, int) and len(text) < least <= MOST_NODES:
        text = (text * least)[:least]
    return text[:most] if isinstance(most, int) and most > 0 else text


def _number(flat: dict[str, Any]) -> Any:
    least, above = flat.get("minimum"), flat.get("exclusiveMinimum")
    if isinstance(above, int | float) and not isinstance(above, bool):
        return above + 1
    if isinstance(least, int | float) and not isinstance(least, bool):
        return least + 1 if above is True else least
    most = flat.get("maximum")
    return most if isinstance(most, int | float) and most < 1 else 1
