"""Migrations on either side of a store: once, in order, forward only, and with what was stored before."""

import shutil
from pathlib import Path

import psycopg
import pytest

from shared.histogram import Histogram, bucket_of, value_us
from shared.store.migrations import FOLDER, MigrationError, Side, migrate, read_migrations, read_schema
from shared.store.results import read_results, read_stored

pytestmark = pytest.mark.integration


def test_a_store_is_migrated_once_and_tells_its_version_and_side(store_dsn: str) -> None:
    schema = migrate(store_dsn)
    assert schema.version == len(read_migrations(schema.side))
    assert migrate(store_dsn) == schema
    with psycopg.connect(store_dsn, autocommit=True) as connection:
        assert read_schema(connection) == schema


async def test_what_an_earlier_version_stored_is_kept_and_rolled_up(store_dsn: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / "0001_base.sql", tmp_path)
    assert migrate(store_dsn, tmp_path).version == 1
    async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO series (run, system, scenario, action, kind) VALUES ('old', 's', 'c', 'a', 0)"
        )
        await connection.execute(
            "INSERT INTO producer (run, worker, epoch, system, last_seq) VALUES ('old', 'w', 1, 's', 2)"
        )
        await connection.execute("INSERT INTO frames (producer_id, seq, events) VALUES (1, 1, 3), (1, 2, 1)")
        for service_us, error, flags in ((1_000, 0, 0), (2_000, 3, 0), (3_000, 11, 2), (4_000, 0, 2)):
            await connection.execute(
                "INSERT INTO request_timing VALUES (now(), 1, 1, 0, 10, %s, 0, 0, 0, 0, 5, 5, 0, 200, %s, 0, 0, %s, "
                "%s, %s, gen_random_uuid())",
                (service_us, error, flags, bucket_of(service_us), bucket_of(service_us + 10)),
            )
        assert migrate(store_dsn).version > 1
        (series,), after = await read_results(connection, "old")
        assert (series.stored, series.failed, series.cancelled, series.errors) == (4, 1, 1, {3: 1, 11: 1})
        assert series.service.percentiles["p50"] == value_us(bucket_of(2_000)) / 1e3
        assert after[series.series_id].response == Histogram.of([1_010, 2_010]).counts
        stored = await read_stored(connection, "old")
        assert (stored.stored, stored.frames) == (4, {("w", 1, "s"): (2, 2)})


def test_a_store_that_is_newer_or_was_changed_by_hand_is_refused(empty_postgres_dsn: str, tmp_path: Path) -> None:
    for path in FOLDER.glob("000*.sql"):
        shutil.copy(path, tmp_path)
    newest = migrate(empty_postgres_dsn, tmp_path).version
    (latest,) = tmp_path.glob(f"{newest:04d}_*.sql")
    latest.write_text("SELECT 1")
    with pytest.raises(MigrationError, match="was changed after it was applied"):
        migrate(empty_postgres_dsn, tmp_path)
    latest.unlink()
    with pytest.raises(MigrationError, match=f"at version {newest}, newer than this Tidegate \\({newest - 1}\\)"):
        migrate(empty_postgres_dsn, tmp_path)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        pytest.param(["0001_a.sql", "0003_b.sql"], "migration 0002 is missing", id="a gap"),
        pytest.param(["0001_a.sql", "0001_b.sql"], "0001 stands twice", id="a number twice"),
        pytest.param(["0001_a.sql", "2_b.sql"], "is named NNNN_name.sql", id="a wrong name"),
        pytest.param(["0001_a.sql", "0002_b.timescale.sql", "0002_b.postgres.sql"], "", id="a file for each side"),
        pytest.param(["0001_a.oracle.sql"], "is named NNNN_name.sql", id="a side there is not"),
    ],
)
def test_migrations_are_numbered_without_gaps(names: list[str], complaint: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    if complaint:
        with pytest.raises(MigrationError, match=complaint):
            read_migrations(Side.POSTGRES, tmp_path)
    else:
        assert [migration.title for migration in read_migrations(Side.TIMESCALE, tmp_path)] == ["a", "b.timescale"]
