"""The TimescaleDB that the tests are given: the real extension, behind a protocol that any client can rely on."""

import psycopg
import pytest
from psycopg import Connection

pytestmark = pytest.mark.integration

HOURS = """
CREATE TABLE reading (at timestamptz NOT NULL, value integer NOT NULL);
SELECT create_hypertable('reading', by_range('at', interval '1 hour'));
CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
    SELECT time_bucket('1 hour', at) AS hour, sum(value) AS total FROM reading GROUP BY 1 WITH NO DATA;
SELECT add_continuous_aggregate_policy('hourly', '1 day', '1 hour', '1 hour');
INSERT INTO reading SELECT moment, 1
    FROM generate_series('2026-01-01 00:00Z'::timestamptz, '2026-01-01 03:30Z', '10 minutes') AS moment
"""


def connect(dsn: str) -> "Connection[tuple[object, ...]]":
    return psycopg.connect(dsn, autocommit=True)


def ask(dsn: str, statement: str) -> tuple[object, ...] | None:
    with connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchone()


def test_the_extension_answers_and_makes_chunks_and_aggregates(empty_timescale_dsn: str) -> None:
    version = ask(empty_timescale_dsn, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    assert version is not None
    assert str(version[0]).startswith("2.")
    with connect(empty_timescale_dsn) as connection:
        for statement in HOURS.split(";"):
            connection.execute(statement.encode())
        assert connection.execute("SELECT count(*) FROM show_chunks('reading')").fetchone() == (4,)
        assert connection.execute("SELECT total FROM hourly ORDER BY hour").fetchall() == [(6,), (6,), (6,), (4,)]


def test_emptied_it_has_neither_tables_nor_jobs(empty_timescale_dsn: str) -> None:
    leftovers = "(SELECT count(*) FROM pg_tables WHERE schemaname = 'public')"
    jobs = "(SELECT count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000)"
    assert ask(empty_timescale_dsn, f"SELECT {leftovers}, {jobs}") == (0, 0)


def test_statements_and_copies_are_taken_whole_whatever_the_packets(empty_timescale_dsn: str) -> None:
    with connect(empty_timescale_dsn) as connection:
        assert connection.execute("SELECT length(%s)", ("x" * 300_000,)).fetchone() == (300_000,)
        connection.execute("CREATE TABLE number (value bigint)")
        with connection.cursor() as cursor, cursor.copy("COPY number FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8"])
            for value in range(50_000):
                copy.write_row((value,))
        assert connection.execute("SELECT count(*), max(value) FROM number").fetchone() == (50_000, 49_999)


def write_and_give_up(connection: "Connection[tuple[object, ...]]") -> None:
    with connection.cursor() as cursor, cursor.copy("COPY number FROM STDIN") as copy:
        copy.write("1\n")
        raise RuntimeError("given up")


def test_a_copy_that_is_given_up_stores_nothing(empty_timescale_dsn: str) -> None:
    with connect(empty_timescale_dsn) as connection:
        connection.execute("CREATE TABLE number (value bigint)")
        with pytest.raises(RuntimeError, match="given up"):
            write_and_give_up(connection)
        assert connection.execute("SELECT count(*) FROM number").fetchone() == (0,)


def test_connections_take_turns_by_transaction_and_an_unfinished_one_is_undone(empty_timescale_dsn: str) -> None:
    with connect(empty_timescale_dsn) as first, connect(empty_timescale_dsn) as second:
        first.execute("CREATE TABLE number (value bigint)")
        for connection in (first, second):
            for value in range(8):  # often enough to be prepared, under the same name in both
                connection.execute("INSERT INTO number VALUES (%s)", (value,))
        first.execute("BEGIN")
        first.execute("DELETE FROM number")
        first.close()
        assert second.execute("SELECT count(*) FROM number").fetchone() == (16,)
