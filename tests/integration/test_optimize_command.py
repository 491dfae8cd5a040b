"""``tidegate optimize`` on a real store and bus: the plan that samples, spans and sizes lead to, and applying it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner, Result

from services.console.cli import main
from shared.contracts.resource import ResourceSample
from shared.store import upkeep_postgres
from shared.store.keeping import Keeping
from shared.store.samples import save_samples
from shared.store.spans import SpanRow, copy_spans
from shared.store.usage import CLIENT, SERVER
from tests.integration.resizing_rig import ResizingWorld, open_resizing_world
from tests.integration.scaler_rig import background

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)


@pytest.fixture
async def world(
    nats_url: str, postgres_dsn: str, environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ResizingWorld]:
    async with open_resizing_world(nats_url, environment, tmp_path) as made:
        for name, value in {**made.environment_variables("console"), "TIDEGATE_STORE_DSN": postgres_dsn}.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as opened:
        async with opened.transaction():
            await upkeep_postgres.tend(opened, Keeping(), datetime.now(UTC))
        yield opened


async def fill(connection: psycopg.AsyncConnection[tuple[object, ...]], environment: str) -> None:
    """An hour of RelayCore that is too large, and calls of it from far away."""
    begin = datetime.now(UTC) - HOUR
    values = {"cpu_cores": 0.3, "memory_usage": 600.0, "memory_ratio": 0.3, "request_rate": 40.0, "network_drops": 2.0}
    async with connection.transaction():
        await save_samples(
            connection,
            [
                ResourceSample(
                    service="relaycore", system="relaycore", environment=environment, instance=f"relaycore-{number}",
                    at=begin + timedelta(seconds=second), values=values,
                )
                for number in (1, 2)
                for second in range(0, 3_600, 15)
            ],
        )  # fmt: skip
    spans = []
    for number in range(1, 201):
        trace, ends, at = UUID(int=number), number.to_bytes(8, "big"), begin + timedelta(seconds=number)
        spans += [
            SpanRow(at, trace, ends, None, "autmatrix-backend", "call", CLIENT, 20_000, 0),
            SpanRow(at, trace, bytes(7) + b"\x01", ends, "relaycore", "serve", SERVER, 12_000, 0),
        ]
    async with connection.transaction():
        await copy_spans(connection, spans)


async def call(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["optimize", *arguments], prog_name="tidegate")


async def test_the_plan_has_evidence_impact_and_what_nobody_told(
    world: ResizingWorld, connection: psycopg.AsyncConnection[tuple[object, ...]], environment: str, tmp_path: Path
) -> None:
    await fill(connection, environment)
    result = await call("--json", "--html", str(tmp_path / "plan.html"))
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    items = {item["id"]: item for item in plan["items"]}
    assert list(items) == [
        "cpu.relaycore", "memory.relaycore",
        "network.autmatrix-backend.relaycore.placement", "network.relaycore.losses",
    ]  # fmt: skip
    memory = items["memory.relaycore"]
    assert (memory["applicable"], memory["from_sizes"]["memory_limit"], memory["to_sizes"]["memory_limit"]) == (
        True, 2048.0, 1024.0,
    )  # fmt: skip
    assert memory["evidence"][0] == "use per replica p95 600, most 600 MB"
    assert memory["risk"] == "high"
    assert items["cpu.relaycore"]["figures"]["p95_cores"] == pytest.approx(0.3)
    assert items["network.autmatrix-backend.relaycore.placement"]["figures"]["p50_ms"] == pytest.approx(8.0, rel=0.02)
    assert "autmatrix-backend: no resource samples in this time" in plan["notes"]
    assert plan["impact"]["memory_mb"] > 0
    assert "memory.relaycore" in (tmp_path / "plan.html").read_text()
    text = await call("--service", "relaycore")
    assert "cpu.relaycore: relaycore: cpu per replica" in text.stdout
    assert "not applied by Tidegate: " in text.stdout


async def test_an_item_is_applied_and_what_became_of_it_is_told(
    world: ResizingWorld, connection: psycopg.AsyncConnection[tuple[object, ...]], environment: str
) -> None:
    await fill(connection, environment)
    async with background(world.load()), world.scaler():
        result = await asyncio.wait_for(call("--apply", "memory.relaycore", "--yes", "--by", "ada", "--for", "20s"), 80)
    assert result.exit_code == 0, result.output
    assert "1. relaycore: memory reserved 704 MB, memory limit 1024 MB per replica" in result.stdout
    assert "relaycore: carried out, no_effect" in result.stdout
    assert world.platform.given == [("relaycore", 1024.0)]
    [resize] = await world.of("relaycore", "resize")
    assert (resize.by, resize.to_sizes and resize.to_sizes.memory_limit) == ("ada", 1024.0)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("since", ["20m", "1h", "30d"])
async def test_a_leak_is_found_whatever_time_is_asked_for(
    connection: psycopg.AsyncConnection[tuple[object, ...]], environment: str, since: str
) -> None:
    begin = datetime.now(UTC) - HOUR
    async with connection.transaction():
        await save_samples(
            connection,
            [
                ResourceSample(
                    service="relaycore", system="relaycore", environment=environment, instance="relaycore-1",
                    at=begin + timedelta(seconds=second),
                    values={"cpu_cores": 0.3, "memory_usage": 1900 + second / 30, "request_rate": 40.0},
                )
                for second in range(0, 3_600, 10)
            ],
        )  # fmt: skip
    plan = json.loads((await call("--json", "--since", since)).stdout)
    assert [item["id"] for item in plan["items"] if item["part"] == "memory"] == ["memory.relaycore.leak"]


@pytest.mark.usefixtures("world")
async def test_percentiles_are_those_of_what_there_is_and_not_of_the_time_asked_for(
    connection: psycopg.AsyncConnection[tuple[object, ...]], environment: str
) -> None:
    begin = datetime.now(UTC) - timedelta(minutes=5)
    async with connection.transaction():
        await save_samples(
            connection,
            [
                ResourceSample(
                    service="relaycore", system="relaycore", environment=environment, instance="relaycore-1",
                    at=begin + timedelta(seconds=second), values={"cpu_cores": 0.9 if second < 60 else 0.1},
                )
                for second in range(0, 300, 2)
            ],
        )  # fmt: skip
    plan = json.loads((await call("--json")).stdout)
    figures = {item["id"]: item["figures"] for item in plan["items"]}["cpu.relaycore"]
    assert figures["p95_cores"] == pytest.approx(0.9)
    assert figures["span_s"] == pytest.approx(300, abs=70)


async def test_that_no_scaler_answers_is_told_in_time(
    world: ResizingWorld, connection: psycopg.AsyncConnection[tuple[object, ...]], environment: str
) -> None:
    await fill(connection, environment)
    result = await asyncio.wait_for(call("--apply", "--yes", "--json"), 40)
    assert result.exit_code == 4, result.output
    assert [order["state"] for order in json.loads(result.stdout)["orders"]] == ["unanswered"]


@pytest.mark.usefixtures("world", "connection")
async def test_without_data_the_plan_says_what_is_missing() -> None:
    result = await call()
    assert result.exit_code == 0, result.output
    assert "relaycore: no resource samples in this time" in result.stdout
    assert result.stdout.count("nothing to advise") == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cpu.relaycore"], "an ITEM is named together with --apply"),
        (["--apply"], "give --yes"),
        (["--apply", "--yes", "cpu.relay"], "no item 'cpu.relay' in this plan"),
        (["--service", "relaycor"], "unknown service 'relaycor' (did you mean 'relaycore'?)"),
        (["--since", "3x"], "unknown unit 'x'"),
        (["--headroom", "900%"], "outside 0% to 300%"),
    ],
)
@pytest.mark.usefixtures("world", "connection")
async def test_mistakes_are_one_line(arguments: list[str], said: str) -> None:
    result = await call(*arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
