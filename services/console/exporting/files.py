"""How a table is written: to a temporary name beside its place, and renamed when all that was asked for is whole."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from services.console.exporting.tables import What, schema_of
from shared.errors import ConfigError


class Form(StrEnum):
    """File formats; the value is also the suffix."""

    PARQUET = "parquet"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Target:
    """Where one table goes."""

    what: What
    path: Path
    form: Form

    @property
    def partial(self) -> Path:
        """What it is called until it is whole; of this process alone."""
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")


def choose_targets(run: str, whats: Iterable[What], out: Path | None, form: Form | None) -> list[Target]:
    """Files for these tables. ``out``: a file, told by its suffix, for a single table; else a folder, by default one
    named as the run. ``ConfigError`` where they contradict each other."""
    wanted = list(dict.fromkeys(whats))
    suffix = None if out is None or out.is_dir() else out.suffix.lower().removeprefix(".")
    if out is None or suffix not in set(Form):
        chosen, folder = form or Form.PARQUET, out or Path(run)
        return [Target(what, folder / f"{what}.{chosen}", chosen) for what in wanted]
    if form not in (None, suffix):
        raise ConfigError(f"--out: {out} is named as {suffix}, --format says {form}")
    if len(wanted) != 1:
        raise ConfigError(f"--out: {out} is one file for {len(wanted)} tables; name a folder, or one table with --what")
    return [Target(wanted[0], out, Form(suffix))]


def check_targets(targets: Iterable[Target], force: bool) -> None:
    """``ConfigError`` where a file is there already or cannot be made."""
    for path in (target.path for target in targets):
        if path.is_dir():
            raise ConfigError(f"--out: {path} is a folder")
        if path.exists() and not force:
            raise ConfigError(f"--out: {path} exists; name another place, or overwrite it with --force")
        folder = path.absolute().parent
        above = folder if folder.exists() else folder.parent
        if not above.is_dir():
            raise ConfigError(f"--out: {path}: folder {above} does not exist or is no folder")
        if not os.access(above, os.W_OK):
            raise ConfigError(f"--out: {path}: no permission to write there")


@contextmanager
def whole_or_nothing(targets: list[Target]) -> Iterator[None]:
    """Names what the block has written when all of it is; takes it away when the block fails or is interrupted."""
    made = [folder for folder in {target.path.absolute().parent for target in targets} if not folder.exists()]
    try:
        for folder in made:
            folder.mkdir()
        yield
        for target in targets:
            target.partial.replace(target.path)
    except BaseException as error:
        for target in targets:
            target.partial.unlink(missing_ok=True)
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if isinstance(error, OSError):
            raise ConfigError(f"--out: {targets[0].path.parent}: {error.strerror or error}") from error
        raise


@contextmanager
def open_writer(target: Target, about: dict[str, str]) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Takes batches of a table; ``about`` becomes metadata of a Parquet file. Each batch is a row group there."""
    schema = schema_of(target.what).with_metadata(about)
    with target.partial.open("wb") as file:
        if target.form is Form.PARQUET:
            with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd", **_encodings(schema)) as writer:
                yield lambda batch: writer.write_batch(batch.cast(schema))
        else:
            yield from _csv(file, schema)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Whole numbers and moments as differences: half as large as from a dictionary, in a third of the time."""
    differing = [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)]
    return {
        "column_encoding": dict.fromkeys(differing, "DELTA_BINARY_PACKED"),
        "use_dictionary": [name for name in schema.names if name not in differing],
    }


def _csv(file: IO[bytes], schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Text has no dictionaries, so names are written out."""
    with pyarrow.csv.CSVWriter(file, _plain(pa.RecordBatch.from_pylist([], schema)).schema) as writer:
        yield lambda batch: writer.write_batch(_plain(batch))


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch([_as_text(column) for column in batch], names=batch.schema.names)


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        # As the writer would; but it looks the time zone up for each value, which costs twenty times as much.
        text = column.cast(pa.timestamp("us")).cast(pa.string())
        return pyarrow.compute.binary_join_element_wise(text, "Z", "")
    return column
