"""Secrets from the environment or from files that it names; they never leave the process that reads them."""

import os
from collections.abc import Mapping
from pathlib import Path

from shared.config import read_text
from shared.errors import ConfigError

FILE_SUFFIX = "_FILE"


def read_secrets(prefix: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Secrets by lower-case name, of every variable that begins with ``prefix``.

    Each from ``<prefix><NAME>``, or from the file that ``<prefix><NAME>_FILE`` names, its last line break left out.
    ``ConfigError`` names the variable whose file cannot be used, and never what is in it.
    """
    found: dict[str, str] = {}
    for key in sorted(environment):
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        if name.endswith(FILE_SUFFIX):
            name, value = name.removesuffix(FILE_SUFFIX), _read_secret(key, Path(environment[key]))
        else:
            value = environment[key]
        if name.lower() in found:
            raise ConfigError(f"{prefix}{name} is set, and {key} too; leave one of them out")
        found[name.lower()] = value
    return found


def _read_secret(variable: str, path: Path) -> str:
    text = read_text(path, f"{variable}={path}").removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigError(f"{variable}={path}: the file is empty; it holds the secret and nothing else")
    return text
