"""``tidegate resources`` on a real store, filled as by a collector: usage, a leak, calls, efficiency, mistakes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner, Result

from services.console.cli import main
from shared.contracts.resource import ResourceSample
from shared.store.figures import Served
from shared.store.samples import save_samples
from shared.store.spans import SpanRow, copy_spans
from shared.store.usage import CLIENT, SERVER

pytestmark = pytest.mark.integration
SECONDS, EVERY_S = 3_600, 5


@pytest.fixture
async def filled(postgres_dsn: str, environment: str) -> str:
    """An hour of RelayCore's two replicas, the second of which leaks 2 MB/min, and calls of it by AutoMatrix."""
    rng, begin = np.random.default_rng(7), datetime.now(UTC) - timedelta(seconds=SECONDS)
    moments = range(0, SECONDS, EVERY_S)
    samples = [
        ResourceSample(
            service="relaycore",
            system="relaycore",
            environment=environment,
            instance=f"relaycore-{replica}",
            at=begin + timedelta(seconds=second),
            values={
                "cpu_cores": 0.5,
                "cpu_usage": 0.25,
                "memory_usage": 400 + (second / 30 if replica == 2 else 0) + float(rng.normal(0, 5)),
                "memory_ratio": (400 + (second / 30 if replica == 2 else 0)) / 2048,
                "request_rate": 50.0 + float(rng.normal(0, 5)),
                "storage_written": 0.0,
            },
        )
        for second in moments
        for replica in (1, 2)
    ]
    spans = [
        span
        for number in range(50)
        for span in _call(number, begin + timedelta(seconds=60 + number))
    ]  # fmt: skip
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute("SELECT ensure_partitions('resource_sample', %s, now())", (begin,))
        await connection.execute("SELECT ensure_partitions('spans', %s, now())", (begin,))
        for at in range(0, len(samples), 100):
            await save_samples(connection, samples[at : at + 100])
        await copy_spans(connection, spans)
    return environment


def _call(number: int, at: datetime) -> list[SpanRow]:
    trace, client = UUID(int=number + 1), (number + 1).to_bytes(8, "big")
    return [
        SpanRow(at, trace, client, None, "autmatrix-backend", "POST", CLIENT, 9_000, 0, {"peer.service": "relaycore"}),
        SpanRow(at, trace, b"server00", client, "relaycore", "POST", SERVER, 6_000, 0),
    ]


@pytest.fixture
def ask(postgres_dsn: str, filled: str, tmp_path: Path) -> Any:
    def ask(*arguments: str) -> Result:
        settings = {
            "TIDEGATE_STORE_DSN": postgres_dsn,
            "TIDEGATE_NATS_URL": "nats://127.0.0.1:1",
            "TIDEGATE_ENVIRONMENT": filled,
            "TIDEGATE_PLATFORM_URL": "",
        }
        return CliRunner().invoke(main, ["resources", "--data", str(tmp_path), *arguments], env=settings)

    return ask


def test_a_leak_is_found_end_to_end_and_only_that(ask: Any) -> None:
    result = ask("--json", "--efficiency")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    leaks = {leak["instance"]: leak for leak in told["leaks"]}
    assert [leaks[name]["verdict"] for name in sorted(leaks)] == ["none", "leak"]
    leak = leaks["relaycore-2"]
    assert leak["growth_low"] < 2.0 < leak["growth_high"]
    assert leak["severity"] == "critical"
    assert leak["limit_mb"] == pytest.approx(2048, rel=0.05)
    assert leak["hours_to_limit"] == pytest.approx((2048 - 520) / 2 / 60, rel=0.15)


def test_usage_slack_calls_and_efficiency_are_told(ask: Any) -> None:
    told = json.loads(ask("--json", "--efficiency").output)
    (service,) = told["services"]
    assert service["replicas"] == pytest.approx(2, abs=0.01)
    assert service["sizes"]["cpu_limit"] == 2.0
    assert service["slack"]["cpu"] == pytest.approx(
        {"held": 2.0, "of": "limit", "used_p95": 0.5, "free": 1.5, "share": 0.75}
    )
    assert service["total"]["cpu_cores"]["mean"] == pytest.approx(1.0)
    assert service["replica"]["storage_written"]["peak"] == 0.0
    assert "network_received" in service["not_told"]
    assert "network_received" not in service["replica"]
    (call,) = told["calls"]
    assert (call["caller"], call["callee"], call["calls"]) == ("autmatrix-backend", "relaycore", 50)
    assert call["network_p50_ms"] == pytest.approx(3.0, rel=0.01)
    by_name = {(one["of"], one["kind"]): one for one in told["efficiency"]}
    of_service = by_name["relaycore", "service"]
    assert of_service["counted_by"] == "service"
    assert of_service["requests_per_cpu_s"] == pytest.approx(100, rel=0.02)
    assert of_service["cost"] is None
    assert by_name["all", "all"]["requests"] is None
    assert [one for one in told["history"] if one["of"] == "relaycore"]
    points = told["series"]["relaycore"]["cpu_cores"]
    assert 59 <= len(points) <= 61


def test_of_one_service_requests_of_other_systems_are_not_counted(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*_: object) -> list[Served]:
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return [Served(system, midnight, 9_000, 0, 0, 0) for system in ("autmatrix", "relaycore")]

    monkeypatch.setattr("services.scaler.commands.observing.read_served_by_day", read)
    told = json.loads(ask("--json", "--efficiency", "--service", "relaycore").output)
    today = next(one for one in reversed(told["history"]) if one["of"] == "all")
    assert today["requests"] == 9_000


def test_tables_and_a_page_that_needs_nothing_else(ask: Any, tmp_path: Path) -> None:
    page = tmp_path / "resources.html"
    result = ask("--service", "relaycore", "--html", str(page))
    assert result.exit_code == 0, result.output
    assert "leak, critical" in result.output
    assert "not told by any source: cpu_throttled" in result.output
    text = page.read_text(encoding="utf-8")
    assert "leak, critical" in text
    assert 'data-figure="0"' in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("--service", "relaycor"),
            "no samples of a service 'relaycor' (did you mean 'relaycore'?); there are relaycore",
        ),
        (("--since", "1s"), "--since: '1s' is outside 1m to 400d"),
        (("--since", "yesterday"), "--since: 'yesterday' is no duration"),
        (("--since", "1h", "--run", "last"), "--since: not together with --run"),
        (("--run", "last"), "no run 'last'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_code_2(ask: Any, arguments: tuple[str, ...], complaint: str) -> None:
    result = ask(*arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert complaint in result.output


def test_without_samples_it_says_what_to_look_at(postgres_dsn: str, environment: str, tmp_path: Path) -> None:
    settings = {
        "TIDEGATE_STORE_DSN": postgres_dsn,
        "TIDEGATE_NATS_URL": "nats://127.0.0.1:1",
        "TIDEGATE_ENVIRONMENT": environment,
    }
    result = CliRunner().invoke(main, ["resources", "--data", str(tmp_path)], env=settings)
    assert result.exit_code == 2
    assert "see `sources` in config/resources.yaml" in result.output
