"""Data files of a scenario: the rows of ``data: {NAME: {file: …}}`` take the file's place before the scenario travels.

Only columns that a template names travel, since every worker gets all rows with the run.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.config import read_text
from shared.contracts.sendable import TEMPLATE
from shared.errors import ConfigError


def with_rows(document: Any, source: Path) -> Any:
    """The scenario's plain data with rows instead of files, which are looked for beside ``source``.

    ``ConfigError`` names the file, and the line or column that is wrong.
    """
    sets = document.get("data") if isinstance(document, Mapping) else None
    if not isinstance(sets, Mapping):
        return document
    templates = set(TEMPLATE.findall(json.dumps(document, default=str)))
    read = {}
    for name, found in sets.items():
        read[name] = found
        if isinstance(found, Mapping) and "file" in found:
            if "rows" in found:
                raise ConfigError(f"{source}: data.{name}: give file or rows, not both")
            wanted = {text.removeprefix(f"{name}.") for text in templates if text.startswith(f"{name}.")}
            rows = _read(source.parent / str(found["file"]), wanted, f"{source}: data.{name}")
            read[name] = {key: value for key, value in found.items() if key != "file"} | {"rows": rows}
    return {**document, "data": read}


def _read(path: Path, wanted: set[str], where: str) -> list[dict[str, Any]]:
    text = read_text(path, f"{where}: cannot read {path}")
    if path.suffix == ".csv":
        rows = _csv_rows(text, where, path)
    elif path.suffix in {".jsonl", ".ndjson"}:
        rows = _json_rows(text, where, path)
    else:
        raise ConfigError(f"{where}: {path.name} is neither .csv (with a header) nor .jsonl")
    if not rows:
        raise ConfigError(f"{where}: {path} has no rows")
    absent = sorted(wanted - rows[0].keys())
    if absent:
        raise ConfigError(f"{where}: {path} has no column {absent[0]!r}; it has: {', '.join(rows[0])}")
    return [{column: row[column] for column in row if column in wanted} for row in rows]


def _csv_rows(text: str, where: str, path: Path) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{where}: {path} line {reader.line_num}: {error}") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ConfigError(f"{where}: {path} row {number} has not as many fields as the header")
    return rows


def _json_rows(text: str, where: str, path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where}: {path} line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{where}: {path} line {number}: not a JSON object")
        rows.append(row)
    return rows
