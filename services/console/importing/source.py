"""The file that is imported as plain data, JSON or YAML, and which kind of document that is."""

import json
import math
import re
from pathlib import Path
from typing import Any, Literal

import yaml

from shared.config import not_yaml, read_text
from shared.errors import ConfigError

Kind = Literal["openapi", "har"]
MAX_NODES = 2_000_000


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # the fast one where it was built
    """YAML by the core schema of 1.2, as OpenAPI asks for: ``no`` and ``2026-01-31`` are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - that is how the library declares it


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", "<<", "<"),
):
    _firsts = [sign if sign != "\0" else "" for sign in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _firsts)


def read_document(path: Path) -> Any:
    """Plain data of a JSON or YAML file; ``ConfigError`` with the line where it is neither."""
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep") from error
    except ValueError as error:
        # What begins as JSON is broken JSON, unless its name says that it is YAML in flow style.
        if text.lstrip()[:1] in ("{", "[") and path.suffix.lower() not in (".yaml", ".yml"):
            line = f" line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ": bad number"
            raise ConfigError(f"{path}{line}; not JSON") from error
    return _read_yaml(path, text)


def _read_yaml(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise not_yaml(path, error) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error


def tell_kind(document: Any, source: str) -> Kind:
    """Which kind a document is by what it holds; ``ConfigError`` when it is neither."""
    if isinstance(document, dict):
        if "openapi" in document or "swagger" in document:
            return "openapi"
        if "log" in document:
            return "har"
    raise ConfigError(f"{source}: neither an OpenAPI document (field openapi or swagger) nor a HAR log (field log)")


def plain(value: Any, most: int = MAX_NODES) -> Any:
    """A copy that both YAML and JSON can hold: keys are text, numbers finite; ``ConfigError`` past ``most`` values.

    Text that is no Unicode (half a surrogate pair) loses the sign; a YAML alias within itself meets the limit.
    """
    left = most

    def copy(node: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > 100:
            raise ConfigError("an example or body is too large or nested too deep")
        if isinstance(node, dict):
            return {_sound(str(key)): copy(member, depth + 1) for key, member in node.items()}
        if isinstance(node, list | tuple):
            return [copy(item, depth + 1) for item in node]
        if isinstance(node, float):
            return node if math.isfinite(node) else None
        if node is None or isinstance(node, bool | int):
            return node
        return _sound(str(node))

    return copy(value, 0)


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
