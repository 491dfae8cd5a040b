"""A run from the store to files: what is asked for is checked, read, written, and told."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from services.console.exporting.files import Form, Target, check_targets, choose_targets, open_writer, whole_or_nothing
from services.console.exporting.sources import Source
from services.console.exporting.tables import What
from shared.errors import ConfigError
from shared.store.asking import Connection, find_run
from shared.store.runs import read_run


@dataclass(frozen=True, slots=True)
class Asked:
    """A run by id or ``last``; ``out`` and ``form`` are None where they are left to the defaults."""

    run: str
    whats: Sequence[What]
    out: Path | None
    form: Form | None
    force: bool


@dataclass(frozen=True, slots=True)
class Written:
    """One file. ``dropped``: rows that were stored once and are past their age."""

    what: What
    path: str
    format: Form
    rows: int
    bytes: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Exported:
    run: str
    version: str
    files: list[Written]


async def export_run(connection: Connection, dsn: str, environment: str, asked: Asked) -> Exported:
    """Write the tables of a run; nothing is there until all is. ``ConfigError`` for what cannot be done as asked."""
    run = await read_run(connection, await find_run(connection, environment, asked.run))
    if run is None:
        raise ConfigError(f"no run {asked.run!r}")
    targets = choose_targets(run.run, asked.whats, asked.out, asked.form)
    check_targets(targets, asked.force)
    about = {
        "tidegate.run": run.run,
        "tidegate.environment": run.environment,
        "tidegate.version": version("tidegate"),
        "tidegate.exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    source = Source(connection, dsn, run)
    with whole_or_nothing(targets):
        files = [await _write(source, target, about | {"tidegate.what": target.what}) for target in targets]
    return Exported(run.run, about["tidegate.version"], files)


async def _write(source: Source, target: Target, about: dict[str, str]) -> Written:
    rows = 0
    async with aclosing(source.batches(target.what)) as batches:
        with open_writer(target, about) as write:
            async for batch in batches:
                write(batch)
                rows += batch.num_rows
    expected = await source.expected(target.what)
    dropped = 0 if expected is None else max(0, expected - rows)
    return Written(target.what, str(target.path), target.form, rows, target.partial.stat().st_size, dropped)
