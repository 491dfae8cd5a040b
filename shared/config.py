"""Documents people write (YAML) become contracts here, or one clear line that names file, field and what is wrong."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from shared.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def read_text(path: Path, said: str | None = None) -> str:
    """UTF-8 text of a file, a byte order mark left out; ``ConfigError`` begins with ``said``, else with the path."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{said or path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{said or path}: not UTF-8 text") from error


def read_yaml(path: Path) -> Any:
    """Plain data of a YAML file; ``ConfigError`` with the line for bad syntax, with the path for no such file."""
    text = read_text(path)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise not_yaml(path, error) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep") from error


def not_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    """What is wrong with a file's syntax, and in which line."""
    mark = getattr(error, "problem_mark", None)
    where = f" line {mark.line + 1}" if mark else ""
    return ConfigError(f"{path}{where}: {getattr(error, 'problem', None) or 'not YAML'}")


def parse(kind: type[M], data: Any, source: str) -> M:
    """Validate plain data as a document; ``ConfigError`` names the source and each wrong field with its value."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{source}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """One line for all errors of a validation: where, what is wrong, and the value when it is short."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "document"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown field"
        value = item.get("input")
        shown = f" (got {value!r})" if isinstance(value, str | int | float) and len(repr(value)) < 80 else ""
        lines.append(f"{where}: {message}{shown}")
    return "; ".join(lines)


def load_document(kind: type[M], path: Path) -> M:
    """Read and validate one YAML document."""
    return parse(kind, read_yaml(path), str(path))
