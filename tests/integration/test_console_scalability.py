"""Stress runs of a real store, fitted by the command line."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.types.json import Jsonb

from services.console.cli import main
from shared.store.reports import write_report
from tests.unit.test_console_stress import stress_report

pytestmark = pytest.mark.integration
RATE, CONTENTION, COHERENCY = 100.0, 0.05, 0.02


@pytest.fixture
async def runs(postgres_dsn: str, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reports of 1, 2, 4 and 8 replicas that follow the law exactly."""
    for name, value in (("NATS_URL", nats_url), ("STORE_DSN", postgres_dsn), ("ENVIRONMENT", "local")):
        monkeypatch.setenv(f"TIDEGATE_{name}", value)
    names = []
    began = datetime.now(UTC) - timedelta(hours=1)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        for n in (1, 2, 4, 8):
            names.append(f"run-{n}")
            await connection.execute(
                "INSERT INTO run (run, environment, phase, generation, requested_at, started_at, ended_at, desired) "
                "VALUES (%s, 'local', 'finished', 1, %s, %s, %s, %s)",
                (names[-1], began, began, began + timedelta(minutes=5), Jsonb({})),
            )
            throughput = RATE * n / (1 + CONTENTION * (n - 1) + COHERENCY * n * (n - 1))
            await write_report(connection, names[-1], stress_report(names[-1], n, throughput))
    return names


async def fit(*runs: str, more: tuple[str, ...] = ()) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["scalability", "--service", "relaycore", *more, *runs])


async def test_the_law_behind_stored_runs_is_found(runs: list[str]) -> None:
    said = await fit(*runs, more=("--json",))
    assert said.exit_code == 0, said.output
    law = json.loads(said.stdout)
    assert [point["replicas"] for point in law["points"]] == [1, 2, 4, 8]
    for name, true in (("per_replica", RATE), ("contention", CONTENTION), ("coherency", COHERENCY)):
        assert law[name]["value"] == pytest.approx(true, rel=0.05), name
        assert law[name]["low"] <= true <= law[name]["high"]
    table = await fit(*runs)
    assert table.exit_code == 0
    assert "run-8" in table.output
    assert "the most is carried by" in table.output


async def test_runs_that_cannot_be_fitted_are_refused_in_one_line(runs: list[str]) -> None:
    few = await fit(*runs[:3])
    assert (few.exit_code, few.stderr) == (
        2, "error: scalability needs 4 different replica counts, and has 3: three parameters fit any three points\n",
    )  # fmt: skip
    unknown = await fit("run-9", *runs)
    assert unknown.exit_code == 2
    assert "run-9" in unknown.stderr
