"""A validator killed in the middle of a run and one that nobody disturbs tell the same of it."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import psycopg
import pytest

from deploy.embedded.nats import NatsServer
from deploy.embedded.postgres import PostgresServer
from services.validator.checkpoint import Position
from shared.contracts.run import Phase, SystemProgress, WorkerProgress
from shared.contracts.timing import ErrorKind, Kind
from shared.settings import PROJECT_ROOT
from shared.subjects import Subjects
from tests.integration.test_validator_breach import RUN, STEP_S, Bench
from tests.integration.test_validator_report import Rows
from tests.unit.validator_frames import START_S, cell, frame, state

pytestmark = pytest.mark.integration

FRAMES = 80
SLOW = range(16, 34)
AGAIN = (3, 4, 11, 20)
"""Delivered twice: two of them before the validator is killed, two after."""


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[NatsServer]]:
    """One for each story: two environments would reserve more room than a broker has."""
    servers = [NatsServer(tmp_path / name) for name in ("undisturbed", "killed")]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
async def databases(postgres_server: PostgresServer, postgres_template: str) -> AsyncIterator[list[str]]:
    names = ["test_undisturbed", "test_killed"]
    yield [postgres_server.create_database(name, template=postgres_template) for name in names]
    for name in names:
        postgres_server.drop_database(name)


class Story(Bench):
    """A run of eighty frames, some of them twice, told with its states; the validator is a process."""

    dsn = ""
    nats_url = ""

    async def start(self) -> asyncio.subprocess.Process:
        settings = {
            "TIDEGATE_NATS_URL": self.nats_url,
            "TIDEGATE_ENVIRONMENT": self.environment,
            "TIDEGATE_STORE_DSN": self.dsn,
        }
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.validator", cwd=PROJECT_ROOT, env={**os.environ, **settings}
        )

    async def stored(self) -> None:
        """What a collector would have written: the series that duplicates are reported with."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            rows = Rows(connection)
            producer = await rows.producer()
            series = await rows.series(Kind.REQUEST, "create")
            await rows.requests(producer, series, [(6.0, 1.0, 50.0, ErrorKind.OK)])
            await rows.sent(producer, series, 1)

    async def send(self, seq: int) -> None:
        """A frame; each second the run's state with as many users as seconds."""
        at = seq * STEP_S + self.began.timestamp() - START_S
        one = frame(
            seq,
            at,
            [cell(int(at - 0.01), [700.0 if seq in SLOW else 50.0] * 60, trace=seq)],
            environment=self.environment,
            at_fault=seq in (5, 36),
            loop_lag_us=100 * seq,
            backlog_events=500 if seq == 7 else 0,
        )
        await self.publish(Subjects(self.environment).window(RUN, "autmatrix"), one)
        if seq % 2 == 0:
            worker = WorkerProgress(
                worker="w1", run=RUN, epoch=1, users=seq, systems=(SystemProgress(system="autmatrix", in_flight=seq),)
            )
            told = state(seq * STEP_S, environment=self.environment, started=self.began, workers=(worker,))
            await self.publish(Subjects(self.environment).run_state(RUN), told)
        await asyncio.sleep(0.06)

    async def ready(self) -> None:
        """The validator that starts first makes the streams, the bucket of checkpoints last."""
        deadline = time.monotonic() + 30
        while True:
            try:
                await self.client.jetstream().key_value(Subjects(self.environment).bucket("checkpoints"))
            except (nats.js.errors.NotFoundError, TimeoutError):
                assert time.monotonic() < deadline, "no streams in time"
                await asyncio.sleep(0.05)
            else:
                return

    async def checkpointed(self, messages: int) -> None:
        """Until a checkpoint tells of so many messages."""
        bucket = await self.client.jetstream().key_value(Subjects(self.environment).bucket("checkpoints"))
        deadline, position = time.monotonic() + 40, 0
        while position < messages:
            assert time.monotonic() < deadline, "no checkpoint in time"
            await asyncio.sleep(0.05)
            with contextlib.suppress(nats.js.errors.KeyNotFoundError):
                position = Position.model_validate_json((await bucket.get("position")).value or b"").sequence

    async def report(self) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
                row = await (await connection.execute("SELECT body FROM report ORDER BY revision DESC")).fetchone()
            if row:
                return dict(row[0])
            assert time.monotonic() < deadline, "no report in time"
            await asyncio.sleep(0.1)

    async def play(self, *, killed: bool) -> dict[str, Any]:
        validator = await self.start()
        try:
            await self.ready()
            await self.begin()
            for seq in range(1, 26):
                await self.send(seq)
            if killed:
                await self.checkpointed(25)
            for seq in (26, 27, *AGAIN[:2]):
                await self.send_again(seq) if seq in AGAIN else await self.send(seq)
            if killed:
                validator.kill()
                await validator.wait()
            for seq in range(28, 31):
                await self.send(seq)
            if killed:
                validator = await self.start()
                await self.checkpointed(32)
            for seq in (*range(31, FRAMES + 1), *AGAIN[2:]):
                await self.send_again(seq) if seq in AGAIN else await self.send(seq)
            await self.resolved()
            await self.tell(FRAMES * STEP_S + 1, Phase.FINISHED)
            return await self.report()
        finally:
            if validator.returncode is None:
                validator.terminate()
            await validator.wait()

    async def send_again(self, seq: int) -> None:
        at = seq * STEP_S + self.began.timestamp() - START_S
        one = frame(seq, at, [cell(int(at - 0.01), [50.0] * 60, trace=seq)], environment=self.environment)
        await self.publish(Subjects(self.environment).window(RUN, "autmatrix"), one)

    async def resolved(self) -> None:
        deadline = time.monotonic() + 30
        while "resolved" not in self.statuses:
            assert time.monotonic() < deadline, self.statuses
            await asyncio.sleep(0.05)


def told(report: dict[str, Any], story: Story) -> dict[str, Any]:
    """What only the stream tells."""
    users = [(point["users"], point["in_flight"]) for point in report["timeline"]["points"] if point["users"]]
    health = {name: value for name, value in report["generator_health"].items() if name != "lost"}
    return {
        "health": health,
        "users": users,
        "duplicates": [row["duplicates"] for row in report["results"]],
        "breaches": sorted({(event["data"]["metric"], event["data"]["level"]) for event in story.events}),
    }


def told_once(story: Story) -> bool:
    revisions = [event["data"]["revision"] for event in story.events]
    (episode,) = {event["data"]["breach"] for event in story.events}
    return bool(episode) and revisions == list(range(1, len(revisions) + 1)) and story.statuses.count("resolved") == 1


async def test_a_validator_killed_mid_run_reports_what_an_undisturbed_one_does(
    brokers: list[NatsServer], databases: list[str], environment: str
) -> None:
    reports = []
    for broker, dsn, killed in zip(brokers, databases, (False, True), strict=True):
        client = await nats.connect(broker.url)
        try:
            story = Story(client, environment)
            story.dsn, story.nats_url = dsn, broker.url
            await client.subscribe(f"tidegate.{story.environment}.breach.>", cb=story.hear)
            await story.stored()
            report = await story.play(killed=killed)
            assert told_once(story)
            reports.append(told(report, story))
        finally:
            await client.close()
    undisturbed, after_a_kill = reports
    assert after_a_kill == undisturbed
    assert undisturbed["duplicates"] == [len(AGAIN) * 60]
    assert len(undisturbed["users"]) >= FRAMES / 2 - 1
