"""A run taken out of the store: what the files say is what was stored, and nothing is left half written."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from psycopg.rows import dict_row

from services.console.cli import main
from services.console.exporting import files, sources
from services.console.exporting.export import Asked, Exported, export_run
from services.console.exporting.files import Form
from services.console.exporting.tables import What
from shared.contracts.breach import BreachEvent, BreachStatus
from shared.contracts.resource import ResourceSample
from shared.contracts.timing import Check, ErrorKind, EventFlag, Kind
from shared.errors import ConfigError
from shared.store import exports
from shared.store.asking import ask_store
from shared.store.breaches import save_breach
from shared.store.samples import save_samples
from shared.store.scaling import save_scaling
from shared.store.series import list_hours, list_series
from shared.store.spans import SpanRow, copy_spans
from tests.integration.collector_rig import Rig, open_rig
from tests.unit.collector_frames import RUN, make_events, make_frame
from tests.unit.console_cases import breach, record

pytestmark = pytest.mark.integration
TRACED = 7
NOW = datetime.now(UTC)

STORED = """
SELECT s.run, s.system, s.scenario, s.action, s.kind, p.worker, t.*,
       t.at - make_interval(secs => t.service_us / 1e6) AS sent, t.dispatch_us + t.service_us AS response_us
  FROM request_timing t JOIN series s USING (series_id) JOIN producer p USING (producer_id)
 WHERE s.kind = ANY(%s) ORDER BY t.user_no
"""


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    """A store with a run of three frames of two workers, and what else is known of it."""
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        async with opened.collector():
            for number, worker in enumerate(("w1", "w2", "w2"), start=1):
                events = make_events(400, seed=number, user=np.arange(400) + 400 * number, connect_us=9, attempt=number)
                events["flags"] = np.arange(400) % 4
                events["error"] = np.where(np.arange(400) % 10 == 0, ErrorKind.STATUS, ErrorKind.OK)
                events["status"] = np.where(np.arange(400) % 20 == 0, 0, 200)
                events["check"] = np.arange(400) % 3
                events["ttfb_us"] = np.where(np.arange(400) % 20 == 0, 0, 500)
                events["ttft_us"] = np.where(np.arange(400) % 2 == 0, 0, 700)
                events["gap_us"] = np.where(np.arange(400) % 2 == 0, 0, 80)
                await opened.publish(make_frame(number, events=events, worker=worker, sent=400))
            await opened.settled()
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
            await _add_run(connection, environment)
        yield opened


async def _add_run(connection: psycopg.AsyncConnection[Any], environment: str) -> None:
    await connection.execute(
        "INSERT INTO run (run, environment, phase, generation, requested_at, started_at, ended_at, desired) "
        "VALUES (%s, %s, 'finished', 1, %s, %s, %s, '{}')",
        (RUN, environment, NOW - timedelta(minutes=1), NOW - timedelta(minutes=1), NOW),
    )
    for state in (breach(), breach(BreachStatus.RESOLVED, resolved_s=35, revision=2)):
        event = BreachEvent.of(state.model_copy(update={"environment": environment, "run": RUN}), NOW)
        await save_breach(connection, event, event.model_dump_json())
    made = record(environment=environment, at=NOW.isoformat()).sealed()
    await save_scaling(connection, made, made.model_dump_json())
    sample = ResourceSample(
        service="relaycore",
        system="relaycore",
        environment=environment,
        instance="i1",
        at=NOW,
        values={"cpu_usage": 0.5, "memory_usage": 300.0},
    )
    await save_samples(connection, [sample, sample.model_copy(update={"environment": "another"})])
    found = await (await connection.execute("SELECT trace_id FROM request_trace LIMIT 1")).fetchone()
    assert found
    spans = [
        SpanRow(NOW, trace, bytes([1] * 8), None, "relaycore", "POST /", 2, 1500, 1, {"a": 1})
        for trace in (found[0], found[0], UUID(int=5))
    ]
    await copy_spans(connection, spans)


async def export(
    rig: Rig, *whats: What, out: Path | None = None, form: Form | None = None, force: bool = False
) -> Exported:
    asked = Asked("last", whats, out, form, force)
    return await ask_store(rig.dsn, export_run, rig.dsn, rig.bus.subjects.environment, asked)


async def execute(rig: Rig, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(rig.dsn, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


async def stored(rig: Rig, *kinds: Kind) -> list[dict[str, Any]]:
    async with (
        await psycopg.AsyncConnection.connect(rig.dsn) as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        await cursor.execute(STORED, (list(kinds),))
        return await cursor.fetchall()


def as_exported(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row in the words of the export, said a second time and row by row."""
    streamed = row["ttft_us"] or None
    return {
        **{name: row[name] for name in ("run", "system", "scenario", "action", "worker", "attempt", "tokens")},
        "kind": Kind(row["kind"]).name.lower(),
        "user": row["user_no"],
        "intended_at": row["at"] - timedelta(microseconds=row["response_us"]),
        "sent_at": row["at"] - timedelta(microseconds=row["service_us"]),
        "done_at": row["at"],
        "dispatch_delay_us": row["dispatch_us"],
        "service_time_us": row["service_us"],
        "response_time_us": row["response_us"],
        "time_to_first_byte_us": row["ttfb_us"] or None,
        "connect_time_us": row["connect_us"],
        "time_to_first_token_us": streamed,
        "longest_token_gap_us": streamed and row["gap_us"],
        "bytes_received": row["bytes_in"],
        "bytes_sent": row["bytes_out"],
        "status": row["status"] or None,
        "error": ErrorKind(row["error"]).name.lower(),
        "check": Check(row["check_result"]).name.lower(),
        "in_ramp_up": bool(row["flags"] & EventFlag.RAMP_UP),
        "trace_recorded": bool(row["flags"] & EventFlag.TRACE_RECORDED),
        "trace_id": row["trace_id"] and row["trace_id"].hex,
    }


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.parquet.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("what", "kinds"), [(What.REQUESTS, [Kind.REQUEST]), (What.WORKFLOWS, [Kind.WORKFLOW, Kind.GROUP])], ids=str
)
async def test_exported_rows_equal_stored_rows(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: What, kinds: list[Kind]
) -> None:
    # Batches and slices far smaller than the run, so that their edges lie within it.
    monkeypatch.setattr(exports.copy_timings, "__defaults__", (TRACED,))
    monkeypatch.setattr(exports.cut, "__defaults__", (100,))
    (file,) = (await export(rig, what, out=tmp_path / "rows.parquet")).files
    wanted = [as_exported(row) for row in await stored(rig, *kinds)]
    assert sorted(rows_of(tmp_path / "rows.parquet"), key=lambda row: int(row["user"])) == wanted
    assert {row["trace_id"] is None for row in wanted} == {True, False}
    assert (file.rows, file.bytes, file.dropped) == (len(wanted), (tmp_path / "rows.parquet").stat().st_size, 0)


async def test_csv_says_the_same_as_parquet(rig: Rig, tmp_path: Path) -> None:
    for form in Form:
        await export(rig, What.REQUESTS, What.WINDOWS, out=tmp_path, form=form)
    for what in (What.REQUESTS, What.WINDOWS):
        parquet = pa.parquet.read_table(tmp_path / f"{what}.parquet")
        plain = pa.schema([pa.field(f.name, pa.string() if f.name == "trace_id" else f.type) for f in parquet.schema])
        types = {f.name: pa.string() if pa.types.is_dictionary(f.type) else f.type for f in plain}
        options = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False)
        csv = pa.csv.read_csv(tmp_path / f"{what}.csv", convert_options=options)
        assert csv.to_pylist() == parquet.to_pylist()


async def test_a_file_names_its_run_and_version_and_its_columns_their_meaning(rig: Rig, tmp_path: Path) -> None:
    exported = await export(rig, What.REQUESTS, out=tmp_path / "rows.parquet")
    file = pa.parquet.ParquetFile(tmp_path / "rows.parquet")
    assert file.schema_arrow.metadata[b"tidegate.run"] == RUN.encode()
    assert file.schema_arrow.metadata[b"tidegate.version"] == exported.version.encode()
    assert file.schema_arrow.field("response_time_us").metadata[b"description"].startswith(b"done - intended")
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


async def test_windows_add_up_to_the_run(rig: Rig, tmp_path: Path) -> None:
    await export(rig, What.WINDOWS, out=tmp_path)
    windows = rows_of(tmp_path / "windows.parquet")
    assert sum(row["count"] for row in windows) == 1200
    assert {row["seconds"] for row in windows} == {10}
    assert {(row["kind"], row["action"]) for row in windows} == {
        ("request", "authenticate"),
        ("request", "read"),
        ("workflow", "login"),
    }
    assert all(row["response_time_p50_ms"] <= row["response_time_p99_ms"] for row in windows)


async def test_what_happened_meanwhile_is_exported_too(rig: Rig, tmp_path: Path) -> None:
    await export(rig, What.BREACHES, What.SCALING, What.RESOURCES, What.SPANS, out=tmp_path)
    (episode,) = rows_of(tmp_path / "breaches.parquet")
    assert (episode["status"], episode["revision"], episode["value"], episode["run"]) == ("resolved", 2, 132.0, RUN)
    assert episode["opened_at"] == breach().opened_at
    (decision,) = rows_of(tmp_path / "scaling.parquet")
    assert decision["decision"] == json.loads(decision["record"])["decision"] == "d1"
    samples = [(row["instance"], row["metric"], row["value"]) for row in rows_of(tmp_path / "resources.parquet")]
    assert samples == [("i1", "cpu_usage", 0.5), ("i1", "memory_usage", 300.0)]
    (span,) = rows_of(tmp_path / "spans.parquet")
    assert (span["span_id"], span["parent_span_id"], span["duration_us"]) == ("01" * 8, None, 1500)
    assert span["trace_id"] in {row["trace_id"].hex for row in await stored(rig, *Kind) if row["trace_id"]}


async def test_a_run_without_events_is_exported_as_tables_without_rows(rig: Rig, tmp_path: Path) -> None:
    await execute(rig, "DELETE FROM sent_counter", "DELETE FROM series")
    exported = await export(rig, *What, out=tmp_path / "new")
    assert [file.rows for file in exported.files if file.what in ("requests", "workflows", "windows", "spans")] == [
        0
    ] * 4
    assert pa.parquet.read_table(tmp_path / "new" / "requests.parquet").num_columns > 20


async def test_rows_past_their_age_are_told(rig: Rig, tmp_path: Path) -> None:
    await execute(rig, "DELETE FROM request_timing WHERE user_no < 800")
    exported = await export(rig, What.REQUESTS, What.WORKFLOWS, out=tmp_path)
    assert [file.dropped > 0 for file in exported.files] == [True, True]
    assert sum(file.dropped for file in exported.files) == 400


async def test_an_export_that_fails_leaves_nothing_behind_and_what_was_there_as_it_was(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "requests.parquet"
    there.write_text("mine")
    with pytest.raises(ConfigError, match="exists; name another place, or overwrite it with --force"):
        await export(rig, What.REQUESTS, out=tmp_path)

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports.copy_timings, "__defaults__", (TRACED,))
    with monkeypatch.context() as patched:
        # At the third of many batches, while the thread reads on.
        write, number = files._plain, count(1)
        patched.setattr(files, "_plain", lambda batch: write(batch) if next(number) < 4 else broken())
        with pytest.raises(ConfigError, match="No space left on device"):
            await export(rig, What.REQUESTS, out=tmp_path / "rows.csv")
    monkeypatch.setattr(sources, "_scaling_row", broken)
    with pytest.raises(ConfigError, match="No space left on device"):
        await export(rig, What.REQUESTS, What.SCALING, out=tmp_path, force=True)
    with pytest.raises(ConfigError, match="No space left on device"):
        await export(rig, What.REQUESTS, What.SCALING, out=tmp_path / "new")
    assert files_in(tmp_path) == ["requests.parquet"]
    assert there.read_text() == "mine"
    await export(rig, What.REQUESTS, out=tmp_path, force=True)
    assert rows_of(there)


async def test_slices_hold_each_event_once(rig: Rig) -> None:
    async with await psycopg.AsyncConnection.connect(rig.dsn, autocommit=True) as connection:
        ids = [item.series_id for item in await list_series(connection, RUN)]
        slices = exports.cut(await list_hours(connection, ids), rows=50)
    with psycopg.connect(rig.dsn) as connection_of_copy:
        batches = [batch for part in slices for batch in exports.copy_timings(connection_of_copy, ids, part, rows=33)]
    users = np.concatenate([batch["user_no"] for batch in batches])
    assert sorted(users.tolist()) == list(range(400, 1600))
    assert max(len(batch) for batch in batches) <= 33


async def test_the_command_prints_what_it_wrote_and_names_the_nearest_run(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_NATS_URL", rig.nats_url)
    monkeypatch.setenv("TIDEGATE_STORE_DSN", rig.dsn)
    monkeypatch.setenv("TIDEGATE_ENVIRONMENT", rig.bus.subjects.environment)
    monkeypatch.chdir(tmp_path)

    async def call(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, ["export", *arguments])

    wrong = await call(RUN[:-1])
    assert wrong.exit_code == 2
    assert f"did you mean '{RUN}'?" in wrong.stderr
    assert files_in(tmp_path) == []
    right = await call("last", "--what", "windows,breaches", "--format", "csv", "--json")
    assert right.exit_code == 0, right.output
    told = json.loads(right.stdout)
    assert told["run"] == RUN
    assert [file["path"] for file in told["files"]] == [f"{RUN}/windows.csv", f"{RUN}/breaches.csv"]
    assert sorted(files_in(tmp_path / RUN)) == ["breaches.csv", "windows.csv"]
