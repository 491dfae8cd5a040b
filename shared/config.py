"""Documents people write (YAML) become contracts here, or one clear line: file, line, field and what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.contracts.base import AS_WRITTEN
from shared.errors import ConfigError, WrongFieldError

M = TypeVar("M", bound=BaseModel)
Field = tuple[str | int, ...]
"""Where something stands in a document: the keys and places that lead to it."""
Locate = Callable[[Field], int]


_PLAIN = {
    "extra_forbidden": "unknown field",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping, NAME: VALUE",
    "model_type": "must be a mapping, FIELD: VALUE",
    "string_type": "must be text; in YAML a number, a date, yes and no are text in quotes",
}
"""Errors of validation in the words of those who write YAML."""


@dataclass(frozen=True, slots=True)
class Written:
    """A YAML file as plain data that still knows its lines."""

    path: Path
    data: Any
    root: yaml.Node | None

    def line(self, field: Field) -> int:
        """Line (from 1) on which a field is written; of what encloses it where it is not written at all."""
        node, line = self.root, 1
        for part in field:
            child = _child(node, part)
            if child is not None:
                node, line = child
        return line

    def parse(self, kind: type[M]) -> M:
        """The document as a contract; ``ConfigError`` names the line of what is wrong."""
        return parse(kind, self.data, str(self.path), self.line)


def read_text(path: Path, said: str | None = None) -> str:
    """UTF-8 text of a file, a byte order mark left out; ``ConfigError`` begins with ``said``, else with the path."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{said or path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{said or path}: not UTF-8 text") from error


def read_written(path: Path) -> Written:
    """A YAML file; ``ConfigError`` with the line for bad syntax and for a key that stands twice."""
    text = read_text(path)
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        _refuse_duplicates(root, path)
        return Written(path, None if root is None else loader.construct_document(root), root)
    except yaml.YAMLError as error:
        raise not_yaml(path, error) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep") from error
    except ValueError as error:
        # A date that there is not, a number that is none.
        raise ConfigError(f"{path}: {error}") from error
    finally:
        loader.dispose()


def read_yaml(path: Path) -> Any:
    """Plain data of a YAML file, where its lines do not matter."""
    return read_written(path).data


def not_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    """What is wrong with a file's syntax, and in which line."""
    mark = getattr(error, "problem_mark", None)
    where = f":{mark.line + 1}" if mark else ""
    return ConfigError(f"{path}{where}: {getattr(error, 'problem', None) or 'not YAML'}")


def parse(kind: type[M], data: Any, source: str, locate: Locate | None = None) -> M:
    """Validate plain data as a document; ``ConfigError`` names the source and each wrong field with its value."""
    try:
        return kind.model_validate(data, context=AS_WRITTEN)
    except ValidationError as error:
        raise wrong(error, source, locate) from error


def wrong(error: ValidationError, source: str, locate: Locate | None = None) -> ConfigError:
    """One line for all errors of a validation, each with its line where ``locate`` tells it."""
    if locate is None:
        return ConfigError(f"{source}: {describe(error)}")
    items = _of_their_own(error)
    told = [(locate(_field(item)), _describe(item)) for item in items]
    first, *others = told
    rest = "".join(f"; line {line}: {text}" for line, text in others)
    return ConfigError(f"{source}:{first[0]}: {first[1]}{rest}")


def describe(error: ValidationError) -> str:
    """One line for all errors of a validation: where, what is wrong, and the value when it is short."""
    return "; ".join(_describe(item) for item in _of_their_own(error))


def load_document(kind: type[M], path: Path) -> M:
    """Read and validate one YAML document."""
    return read_written(path).parse(kind)


def _describe(item: ErrorDetails) -> str:
    where = ".".join(str(part) for part in _field(item)) or "document"
    if item["type"] == "too_short":
        message = f"must hold at least {item['ctx']['min_length']}"
    else:
        message = _PLAIN.get(item["type"]) or item["msg"].removeprefix("Value error, ")
    value = item.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float) and len(repr(value)) < 80 else ""
    return f"{where}: {message}{shown}"


def _of_their_own(error: ValidationError) -> list[ErrorDetails]:
    """All errors but those that only follow from others: a list is called too short for want of its wrong items."""
    items = error.errors(include_url=False)
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or all(len(one["loc"]) <= len(item["loc"]) or one["loc"][: len(item["loc"])] != item["loc"] for one in items)
    ]


def _field(item: ErrorDetails) -> Field:
    cause = item.get("ctx", {}).get("error")
    return (*item["loc"], *cause.fields) if isinstance(cause, WrongFieldError) else item["loc"]


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    """A node's value under a key or at a place, with the line it begins on."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value, value.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        # What came by a merge key stands before what is the mapping's own.
        for key, value in reversed(node.value):
            if key.value == str(part):
                return value, key.start_mark.line + 1
    return None


def _refuse_duplicates(root: yaml.Node | None, path: Path) -> None:
    ahead, seen = [root], set[int]()
    while ahead:
        node = ahead.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            ahead += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                ahead += (key, value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if (first := lines.get((key.tag, key.value))) is not None:
                    raise ConfigError(
                        f"{path}:{line}: key {key.value!r} stands on line {first} already; keep one of the two"
                    )
                lines[key.tag, key.value] = line
