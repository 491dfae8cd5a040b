"""``tidegate scaling verify``, ``why`` and ``rederive`` on a real NATS and a real PostgreSQL, whole and tampered."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from services.console.cli import main
from services.scaler.audit import AuditStream
from services.scaler.chain import Head
from services.scaler.checkpoints import Checkpoint, Checkpoints
from services.scaler.history import Remembered
from services.scaler.orders import HeardOrder
from services.scaler.policy import decide
from services.scaler.records import Scribe
from services.scaler.situation import Memory
from shared.bus import Bus, open_bus
from shared.contracts.scaling import ScalingRecord
from shared.reading import read_from
from shared.store.asking import ask_store
from shared.store.scaling import save_scaling
from tests.unit.scaler_cases import RELAYCORE, change, facts, open_breach, running
from tests.unit.test_scaler_orders import asked

pytestmark = pytest.mark.integration

BEGAN = datetime.now(UTC) - timedelta(minutes=10)
END = 6


class Audit:
    """A chain of six records in stream and table, as a scaler and a collector leave it."""

    def __init__(self, bus: Bus, dsn: str, nats_url: str) -> None:
        self.bus, self.dsn, self.nats_url = bus, dsn, nats_url
        self.bodies: list[bytes] = []
        self.head = Head()

    async def write(self) -> None:
        scribe = Scribe("relaycore", self.bus.subjects.environment, RELAYCORE)
        began_s = BEGAN.timestamp()
        busy = facts(running(2), {"cpu_usage": 0.9}, (open_breach(),), now_s=began_s)
        calm = facts(running(4), {"cpu_usage": 0.5}, now_s=began_s + 300)
        made = change(1, ok=None, done_s=None, verdict=None).model_copy(update={"decision": "relaycore-1"})
        records = [
            scribe.decision(
                decide(RELAYCORE, situation, Memory()), situation, Memory(), {"nothing": -0.0, "huge": 1e22},
                name=name, epoch=3, dry_run=False,
            )
            for name, situation in (("relaycore-1", busy), ("relaycore-4", calm))
        ]  # fmt: skip
        records[1:1] = [
            scribe.result(made, began_s + 3, 3, ready=4),
            scribe.effectiveness(made, began_s + 20, 3, "helped", "it fell", {"routing_latency": 12.25}),
        ]
        order = HeardOrder(7, asked(environment=self.bus.subjects.environment))
        records += [scribe.order(order, began_s + 400, 3, ""), scribe.order(order, began_s + 401, 3, "no")]
        for record in records:
            _, self.head = await AuditStream(self.bus.js, self.bus.subjects).append(self.head, record, {})
        subject = self.bus.subjects.scaling("relaycore")
        self.bodies = [m.data for m in await read_from(self.bus.js, self.stream, subject, 1)]
        for body in self.bodies:
            await self.store(body)
        checkpoint = Checkpoint(decided=4, sequence=END, hash=self.head.hash, remembered=Remembered())
        await Checkpoints(await self.bus.bucket("checkpoints"), "relaycore").write(checkpoint)

    @property
    def stream(self) -> str:
        return self.bus.subjects.stream("SCALING")

    async def store(self, body: bytes) -> None:
        await ask_store(self.dsn, save_scaling, ScalingRecord.model_validate_json(body), body.decode())

    async def execute(self, statement: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            await connection.execute(statement)

    async def rewrite(self, bodies: list[bytes]) -> None:
        """Have other messages in the stream."""
        await self.bus.js.purge_stream(self.stream)
        for body in bodies:
            await self.bus.js.publish(self.bus.subjects.scaling("relaycore"), body)

    async def call(self, *arguments: str) -> Result:
        env = {
            "TIDEGATE_NATS_URL": self.nats_url,
            "TIDEGATE_STORE_DSN": self.dsn,
            "TIDEGATE_ENVIRONMENT": self.bus.subjects.environment,
        }
        return await asyncio.to_thread(CliRunner(env=env).invoke, main, ["scaling", *arguments], prog_name="tidegate")


@pytest.fixture
async def audit(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Audit]:
    async with open_bus(nats_url, environment, "test") as bus:
        made = Audit(bus, postgres_dsn, nats_url)
        await made.write()
        yield made


async def test_the_list_of_a_service_that_nobody_scales_is_an_error(audit: Audit) -> None:
    assert "relaycore-4" in (await audit.call("--service", "relaycore", "--json")).stdout
    wrong = await audit.call("--service", "relaycor")
    assert wrong.exit_code == 2
    assert "no decisions on a service 'relaycor' (did you mean 'relaycore'?); there are relaycore" in wrong.stderr


async def test_a_whole_audit_is_said_to_be_whole(audit: Audit) -> None:
    text = await audit.call("verify")
    assert (text.exit_code, text.stdout) == (0, "relaycore: whole: 6 records, 6 of them still in the stream\n"), text
    told = json.loads((await audit.call("verify", "relaycore", "--json")).stdout)
    assert told == [{"service": "relaycore", "in_table": 6, "in_stream": 6, "last": 6, "faults": []}]


async def test_what_left_the_stream_by_age_is_verified_from_the_table(audit: Audit) -> None:
    await audit.bus.js.purge_stream(audit.stream, seq=5)
    text = await audit.call("verify", "relaycore")
    assert (text.exit_code, text.stdout) == (0, "relaycore: whole: 6 records, 2 of them still in the stream\n")


async def test_an_audit_of_many_pages_is_read_whole(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.reading.PAGE", 2)
    assert (await audit.call("verify")).exit_code == 0


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE scaling_record SET record = replace(record::text, '\"ready\":4', '\"ready\":5')::json", "record 2"),
        ("UPDATE scaling_record SET at = at + interval '1 minute' WHERE sequence = 4", "its column at says"),
        ("DELETE FROM scaling_record WHERE sequence = 3", "record 4 (decision of relaycore-4): follows record 2"),
        ("DELETE FROM scaling_record WHERE sequence = 6", "table: lacks record 6, which the stream has"),
        ("DELETE FROM scaling_record", "table: lacks 6 records from 1 to 6"),
    ],
    ids=["a figure", "a time", "a row", "the last row", "all rows"],
)
async def test_tampering_with_the_table_is_found(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, statement: str, said: str
) -> None:
    monkeypatch.setattr("services.scaler.commands.verify.STORED_WITHIN_S", 0.5)
    await audit.execute(statement)
    found = await audit.call("verify", "relaycore")
    assert found.exit_code == 1, found
    assert said in found.stdout


def without(bodies: list[bytes]) -> list[bytes]:
    return bodies[:2] + bodies[3:]


def cut(bodies: list[bytes]) -> list[bytes]:
    return bodies[:-1]


def swapped(bodies: list[bytes]) -> list[bytes]:
    return [*bodies[:2], bodies[3], bodies[2], *bodies[4:]]


def changed(bodies: list[bytes]) -> list[bytes]:
    return [bodies[0], bodies[1].replace(b'"ready":4', b'"ready":5'), *bodies[2:]]


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (without, "stream: record 4 (decision of relaycore-4): follows record 2"),
        (cut, "stream: ends with record 5, while the table goes on to 6"),
        (swapped, "stream: record 4 (decision of relaycore-4): follows record 2"),
        (changed, "stream: record 2 (result of relaycore-1): its content does not match its hash"),
    ],
)
async def test_tampering_with_the_stream_is_found(audit: Audit, tamper: Any, said: str) -> None:
    await audit.rewrite(tamper(audit.bodies))
    found = await audit.call("verify")
    assert found.exit_code == 1, found
    assert said in found.stdout


async def test_an_end_that_was_cut_off_in_both_is_found(audit: Audit) -> None:
    await audit.rewrite(audit.bodies[:4])
    await audit.execute("DELETE FROM scaling_record WHERE sequence > 4")
    found = await audit.call("verify")
    assert "both: end with record 4, while the scaler has written 6" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "relycore"), "no audit of a service 'relycore' (did you mean 'relaycore'?); there are relaycore"),
        (("why", "relycore"), "no decisions on a service 'relycore' (did you mean 'relaycore'?)"),
        (("why", "relaycore", "--at", "2020-01-01T00:00:00"), "nothing was decided on relaycore until then"),
        (("why", "relaycore", "--at", "noon"), "'noon' is no time; write 2026-01-31T12:00:00"),
        (("rederive", "relaycore-99"), "no decision 'relaycore-99'"),
        (("replay", "relaycore-99"), "no decision 'relaycore-99'"),
        (("replay", "trace.csv"), "Missing option '--service'"),
        (("rederive",), "name decisions, or give a --service"),
        (("rederive", "--service", "relycore"), "no decisions on 'relycore'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_a_mistake_is_one_line(audit: Audit, arguments: tuple[str, ...], said: str) -> None:
    found = await audit.call(*arguments)
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1), found
    assert said in found.stderr


async def test_why_tells_what_was_in_force_at_a_time(audit: Audit) -> None:
    then = await audit.call("why", "relaycore", "--at", (BEGAN + timedelta(seconds=30)).isoformat())
    assert then.exit_code == 0, then
    for said in (
        "relaycore-1, decided at",
        "scale_up from 2 to 4 replicas",
        "4 replicas ready, after",
        "helped: it fell",
    ):
        assert said in then.stdout
    now = await audit.call("why", "relaycore")
    assert "relaycore-4, decided at" in now.stdout
    assert "hold at 4 replicas" in now.stdout
    ago_s = (datetime.now(UTC) - BEGAN).total_seconds() - 30
    records = json.loads((await audit.call("why", "relaycore", "--at", f"{ago_s:.0f}s", "--json")).stdout)
    assert [record["kind"] for record in records] == ["decision", "result", "effectiveness"]


async def test_moves_are_listed_however_many_holds_came_after_them(audit: Audit) -> None:
    await audit.execute("DELETE FROM scaling_record WHERE sequence > 4")
    listed = json.loads((await audit.call("--moves", "--limit", "3", "--json")).stdout)
    assert [(one["kind"], one["decision"]) for one in listed] == [
        ("effectiveness", "relaycore-1"),
        ("result", "relaycore-1"),
        ("decision", "relaycore-1"),
    ]
    assert len(json.loads((await audit.call("--limit", "9", "--json")).stdout)) == 4


async def test_decisions_are_made_again_from_their_records(audit: Audit) -> None:
    again = await audit.call("rederive", "relaycore-1", "relaycore-4")
    assert (again.exit_code, again.stdout.splitlines()) == (
        0,
        ["relaycore-1: the same comes out", "relaycore-4: the same comes out"],
    )
    assert (await audit.call("replay", "relaycore-4")).stdout == "relaycore-4: the same comes out\n"
    await audit.execute(
        'UPDATE scaling_record SET record = replace(record::text, \'"target":4,"reason\', \'"target":9,"reason\')::json'
        " WHERE sequence = 1"
    )
    found = await audit.call("rederive", "--service", "relaycore", "--json")
    told = {one["decision"]: one for one in json.loads(found.stdout)}
    assert found.exit_code == 1
    assert told["relaycore-1"]["differences"] == {"target": {"recorded": 9, "now": 4}}
    assert told["relaycore-4"]["same"] is True


async def test_a_bus_or_a_store_that_is_away_is_one_line(audit: Audit) -> None:
    audit.dsn = "postgresql://tidegate@127.0.0.1:1/none?connect_timeout=1"
    for arguments in (("verify",), ("why", "relaycore"), ("rederive", "relaycore-1")):
        found = await audit.call(*arguments)
        assert (found.exit_code, found.stderr.count("\n")) == (2, 1), found
        assert "the store did not answer" in found.stderr


async def test_a_bus_that_is_not_there_is_one_line(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scaler.commands.ordering.CONNECT_S", 0.5)
    audit.nats_url = "nats://127.0.0.1:1"
    found = await asyncio.wait_for(audit.call("verify"), 20)
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1), found
    assert "the bus did not answer within" in found.stderr
