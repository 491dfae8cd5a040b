"""Runs in a real store, held against each other by the command line."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.types.json import Jsonb

from services.collector.frame_store import FrameStore
from services.collector.measures import Measures
from services.collector.timescale import Timescale
from services.console.cli import main
from shared.contracts.timing import ErrorKind
from shared.store import upkeep_postgres
from shared.store.keeping import Keeping
from shared.store.reports import write_report
from tests.unit.collector_frames import SYSTEM, make_events, make_frame

pytestmark = pytest.mark.integration
SECONDS, RATE = 60, 50
BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
Call = Callable[..., Awaitable[Result]]


class Runs:
    """A store to which runs are added, each some minutes after the one before."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], frames: FrameStore) -> None:
        self._connection, self._frames, self._count = connection, frames, 0

    async def add(
        self, run: str, factor: float = 1.0, tail: float = 1.0, phase: str = "finished", **fields: Any
    ) -> None:
        """``factor``: on all response times of ``authenticate``; ``tail``: on its slowest tenth alone."""
        began = BEGAN + timedelta(minutes=2 * self._count)
        self._count += 1
        load = {
            "scenario": {"name": "login", "steps": [fields.pop("steps", 1)]},
            **{"users": fields.pop("users", 5), "rate": RATE, "profile": "steady", "spacing": "even", "stages": []},
            **{"duration_s": SECONDS, "ramp_up_s": 0, "changes": []},
        }
        desired = {"loads": [load], "targets": {SYSTEM: "http://a"}, "tags": fields.pop("tags", {"branch": "main"})}
        await self._connection.execute(
            "INSERT INTO run (run, environment, phase, generation, requested_at, started_at, ended_at, desired) "
            "VALUES (%s, 'local', %s, 1, %s, %s, %s, %s)",
            (run, phase, began, began, began + timedelta(seconds=SECONDS), Jsonb(desired)),
        )
        verdict, fault = fields.pop("verdict", "met"), fields.pop("at_fault", False)
        if verdict:
            health = {"systems": {SYSTEM: {"at_fault": fault}}}
            await write_report(self._connection, run, {"verdict": verdict, "generator_health": health, "results": []})
        await self._store(run, began, factor, tail)

    async def _store(self, run: str, began: datetime, factor: float, tail: float) -> None:
        count, generator = SECONDS * RATE, np.random.default_rng(self._count)
        events = make_events(count, action=0, dispatch_us=0, error=ErrorKind.OK)
        events["intended_us"] = np.arange(count) * 1_000_000 // RATE
        deviations = generator.standard_normal(count)
        times_us = 20_000 * factor * np.exp(0.3 * deviations) * np.where(deviations > 1.2816, tail, 1.0)
        events["service_us"] = times_us.astype(np.int64)
        anchor = int(began.timestamp() * 1e6)
        frames = [
            make_frame(seq + 1, events=part, run=run, anchor_wall_us=anchor)
            for seq, part in enumerate(np.array_split(events, count // 500))
        ]
        await self._frames.write(await self._frames.prepare([(frame, Measures.of(frame)) for frame in frames]))


@pytest.fixture
async def runs(postgres_dsn: str, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runs]:
    monkeypatch.setenv("TIDEGATE_NATS_URL", nats_url)
    monkeypatch.setenv("TIDEGATE_STORE_DSN", postgres_dsn)
    monkeypatch.setenv("TIDEGATE_ENVIRONMENT", "local")
    adapter = Timescale(postgres_dsn, "test")
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        async with connection.transaction():
            await upkeep_postgres.tend(connection, Keeping(), datetime.now(UTC))
        yield Runs(connection, FrameStore(adapter))
    await adapter.close()


async def call(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


async def test_a_regression_is_found_told_and_written(runs: Runs, tmp_path: Path) -> None:
    await runs.add("run-base", tags={"branch": "main", "commit": "1a2b3c"})
    await runs.add("run-like")
    await runs.add("run-slow", factor=1.15)
    await runs.add("run-tail", tail=1.3)
    junit, markdown = tmp_path / "compare.xml", tmp_path / "compare.md"
    slow = await call("compare", "run-base", "run-slow", "--json", "--junit", str(junit), "--markdown", str(markdown))
    assert slow.exit_code == 1, slow.output
    document = json.loads(slow.stdout)
    (action,) = document["actions"]
    measures = {item["measure"]: item for item in action["measures"]}
    assert (document["verdict"], action["verdict"], action["action"]) == ("regressed", "regressed", "authenticate")
    assert action["requests"] == {"base": SECONDS * RATE, "candidate": SECONDS * RATE}
    assert measures["centre"]["change_low"] < 0.15 < measures["centre"]["change_high"]
    assert measures["p95"]["change"] == pytest.approx(0.15, abs=0.06)
    assert measures["throughput"]["base"] == pytest.approx(RATE, rel=0.01)
    case = ET.parse(junit).find(".//testcase/failure")  # noqa: S314 - of our own making
    assert case is not None
    assert "centre +" in (case.get("message") or "")
    assert "| autmatrix login/authenticate | regressed |" in markdown.read_text()
    assert "1a2b3c" in markdown.read_text()
    tail = await call("compare", "run-base", "run-tail", "--json")
    (action,) = json.loads(tail.stdout)["actions"]
    moved = {item["measure"] for item in action["measures"] if item["moved"]}
    assert (tail.exit_code, action["verdict"]) == (1, "regressed")
    assert "centre" not in moved
    assert moved & {"p95", "p99"}
    like = await call("compare", "run-base", "run-like")
    assert like.exit_code == 0, like.output
    assert "regressed" not in like.stdout.splitlines()[-1]


async def test_a_baseline_is_a_name_or_the_last_good_run(runs: Runs) -> None:
    await runs.add("run-good")
    await runs.add("run-missed", factor=2, verdict="missed")
    await runs.add("run-other-load", users=9)
    await runs.add("run-feature", factor=1.2, tags={"branch": "feature"})
    assert (await call("baseline", "list", "--json")).stdout.strip() == "[]"
    named = await call("baseline", "set", "release-3", "run-good")
    assert (named.exit_code, named.stdout) == (0, "release-3 is run-good\n")
    by_name = json.loads((await call("compare", "--baseline", "release-3", "--json")).stdout)
    assert (by_name["base"]["run"], by_name["candidate"]["run"]) == ("run-good", "run-feature")
    assert (by_name["baseline"], by_name["exit_code"]) == ("release-3", 1)
    good = await call("compare", "--baseline", "last-good", "--branch", "main", "--json")
    assert json.loads(good.stdout)["base"]["run"] == "run-good"
    assert good.exit_code == 1
    for arguments, said in (
        (["compare", "--baseline", "last-good"], "with branch=feature"),
        (["compare", "--baseline", "release-4"], "did you mean 'release-3'?"),
        (["compare", "run-good", "run-good"], "both run-good"),
        (["compare", "run-good", "run-featur"], "did you mean 'run-feature'?"),
        (["compare", "run-good", "--action", "authentcate"], "did you mean 'authenticate'?"),
        (["compare", "run-good", "--threshold", "5 parts"], "is no share"),
        (["compare", "run-good", "--junit", "/nowhere/at/all.xml"], "does not exist"),
        (["baseline", "remove", "release-4"], "did you mean 'release-3'?"),
        (["baseline", "set", "last-good"], "cannot name a baseline"),
    ):
        wrong = await call(*arguments)
        assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1), wrong.output
        assert said in wrong.stderr
    assert (await call("baseline", "remove", "release-3")).exit_code == 0
    assert "no baselines yet" in (await call("baseline", "list")).stderr


async def test_what_says_nothing_of_a_system_ends_without_a_verdict(runs: Runs) -> None:
    await runs.add("run-base")
    await runs.add("run-faulty", factor=2, at_fault=True)
    await runs.add("run-failed", phase="failed")
    await runs.add("run-loaded", users=50)
    await runs.add("run-going-on", phase="running")
    for candidate, said in (("run-faulty", "the generator was at fault"), ("run-failed", "could not be carried")):
        told = await call("compare", "run-base", candidate)
        assert (told.exit_code, said in told.stdout) == (3, True), told.output
    loaded = await call("compare", "run-base", "run-loaded", "--json")
    document = json.loads(loaded.stdout)
    assert document["warnings"] == ["login: users 5 in base, 50 in candidate"]
    assert document["actions"][0]["verdict"] == "insufficient"
    assert document["actions"][0]["measures"][-1]["p"] is None
    going_on = await call("compare", "run-base", "run-going-on")
    assert (going_on.exit_code, "when it has ended" in going_on.stderr) == (2, True)


async def test_a_store_that_is_away_is_told_apart_from_a_mistake(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_STORE_DSN", "postgresql://nobody@127.0.0.1:1/none")
    told = await call("compare", "a", "b")
    assert (told.exit_code, told.stderr.count("\n")) == (4, 1)
    assert "the store did not answer" in told.stderr


async def test_a_history_names_the_run_with_which_a_change_began(runs: Runs) -> None:
    for number in range(16):
        factor = 1.0 if number < 10 else 1.3
        await runs.add(f"run-{number:02}", factor, tags={"branch": "main", "commit": f"c{number}"})
    await runs.add("run-faulty", 9, at_fault=True)
    await runs.add("run-elsewhere", 9, tags={"branch": "feature"})
    told = await call("history", "run-00", "--json")
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document["runs"] == [f"run-{number:02}" for number in range(16)]
    for course in document["courses"]:
        (change,) = course["changes"]
        assert (change["run"], change["tags"]["commit"]) == ("run-10", "c10")
        assert change["change"] == pytest.approx(0.3, abs=0.05)
    text = await call("history", "run-00", "--action", "authenticate")
    assert "since run-10 (branch main, commit c10)" in text.stdout
    feature = await call("history", "run-elsewhere")
    assert "1 runs are like it; a change can be seen from 10 on" in feature.stdout
