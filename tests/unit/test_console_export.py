"""Where an export is written, how a run is cut for it, and how rows off the wire become columns."""

import asyncio
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from services.console.commands.export import WHATS
from services.console.exporting.files import Form, Target, check_targets, choose_targets, whole_or_nothing
from services.console.exporting.sources import ahead
from services.console.exporting.tables import TABLES, What
from services.console.exporting.timings import Coded, TimingTable
from shared.errors import ConfigError
from shared.store import exports
from shared.store.series import HOUR, Hour, Series

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_command_knows_every_table() -> None:
    assert WHATS == tuple(What) == tuple(TABLES)


@pytest.mark.parametrize(
    ("whats", "out", "form", "paths"),
    [
        ([What.REQUESTS], None, None, ["run-1/requests.parquet"]),
        ([What.REQUESTS, What.SPANS], None, Form.CSV, ["run-1/requests.csv", "run-1/spans.csv"]),
        ([What.REQUESTS], "there", None, ["there/requests.parquet"]),
        ([What.REQUESTS], "mine.CSV", None, ["mine.CSV"]),
        ([What.REQUESTS, What.REQUESTS], "mine.parquet", Form.PARQUET, ["mine.parquet"]),
        ([What.REQUESTS, What.SPANS], "v1.2", None, ["v1.2/requests.parquet", "v1.2/spans.parquet"]),
    ],
    ids=["default", "csv", "folder", "file", "named twice", "folder with a dot"],
)
def test_files_are_chosen_by_name_and_number_of_tables(
    whats: list[What], out: str | None, form: Form | None, paths: list[str]
) -> None:
    targets = choose_targets("run-1", whats, None if out is None else Path(out), form)
    assert [str(target.path) for target in targets] == paths
    assert all(str(target.path).lower().endswith(target.form) for target in targets)


@pytest.mark.parametrize(
    ("whats", "out", "form", "said"),
    [
        ([What.REQUESTS, What.SPANS], "mine.csv", None, "mine.csv is one file for 2 tables"),
        ([What.REQUESTS], "mine.csv", Form.PARQUET, "mine.csv is named as csv, --format says parquet"),
    ],
    ids=["tables", "formats"],
)
def test_wishes_that_contradict_each_other_are_refused(
    whats: list[What], out: str, form: Form | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        choose_targets("run-1", whats, Path(out), form)


def test_a_place_that_cannot_be_written_is_named_before_anything_is(tmp_path: Path) -> None:
    (tmp_path / "requests.csv").mkdir()
    (tmp_path / "file").write_text("")
    for path, said in (("requests.csv", "is a folder"), ("a/b/c.csv", "a does not exist"), ("file/c.csv", "no folder")):
        with pytest.raises(ConfigError, match=said):
            check_targets([Target(What.REQUESTS, tmp_path / path, Form.CSV)], force=True)


def test_an_interrupted_export_takes_away_what_it_made(tmp_path: Path) -> None:
    target = Target(What.REQUESTS, tmp_path / "new" / "requests.csv", Form.CSV)

    def interrupted() -> None:
        with whole_or_nothing([target]):
            target.partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_hours_are_cut_without_gap_or_overlap() -> None:
    hours = [Hour(NOON, 7), Hour(NOON + 3 * HOUR, 1)]
    slices = exports.cut(hours, rows=3)
    assert [(part.since - NOON) / timedelta(minutes=1) for part in slices] == [0, 20, 40, 180]
    assert [(part.until - NOON) / timedelta(minutes=1) for part in slices] == [20, 40, 60, 240]
    assert [part.until - part.since for part in exports.hourly(NOON, NOON + HOUR * 1.5)] == [HOUR, HOUR / 2]
    assert exports.hourly(NOON, NOON) == []


def wire(count: int) -> bytes:
    """Rows as PostgreSQL sends them, all zero but for what every row has."""
    rows = np.zeros(count, exports.ROW)
    rows["fields"] = len(exports.ROW.names or ()) // 2
    return rows.tobytes()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_stream_is_decoded_with_and_without_its_ends(count: int) -> None:
    head, tail = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
    for stream in (head + wire(count) + tail, wire(count), wire(count) + tail, head + wire(count)):
        assert len(exports.decode(stream)) == count


def test_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="another width"):
        exports.decode(wire(2)[:-1])
    with pytest.raises(ValueError, match="other columns"):
        exports.decode(bytes(exports.ROW.itemsize))


def test_what_is_not_known_is_null_and_a_name_not_known_is_refused() -> None:
    table = TimingTable("run-1", [Series(3, "shop", "story", "look", 0)], {9: "w1"})
    rows = exports.decode(wire(2)).copy()
    with pytest.raises(KeyError, match="no name"):
        table.batch(rows)
    rows["series_id"], rows["producer_id"], rows["error"] = 3, 9, 40
    rows["at"] = 500_000
    (row, _) = table.batch(rows).to_pylist()
    nulls = {name for name, value in row.items() if value is None}
    assert nulls == {"time_to_first_byte_us", "time_to_first_token_us", "longest_token_gap_us", "status", "trace_id"}
    assert (row["action"], row["worker"], row["error"], row["check"]) == ("look", "w1", "40", "none")
    assert row["done_at"] == datetime(2000, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)


def test_a_column_of_names_holds_each_name_once() -> None:
    column = Coded({5: "b", 2: "a", 9: "b"}).column(np.array([9, 2, 5, 5]))
    assert column.to_pylist() == ["b", "a", "b", "b"]
    assert column.dictionary.to_pylist() == ["a", "b"]


async def test_a_reader_that_leaves_waits_for_the_thread_and_closes_what_it_reads() -> None:
    at_it, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def items() -> Generator[int]:
        try:
            yield 1
            at_it.set()
            assert go_on.wait(5)
            yield 2
        finally:
            closed.set()

    reading = ahead(items())
    assert await anext(reading) == 1
    assert await asyncio.to_thread(at_it.wait, 5)
    leaving = asyncio.ensure_future(reading.aclose())
    await asyncio.sleep(0)
    assert not closed.is_set()
    go_on.set()
    await asyncio.wait_for(leaving, 5)
    assert closed.is_set()


async def test_what_fails_in_the_thread_fails_the_reader() -> None:
    def items() -> Generator[int]:
        yield 1
        raise OSError("gone")

    reading = ahead(items())
    assert await anext(reading) == 1
    with pytest.raises(OSError, match="gone"):
        await anext(reading)
