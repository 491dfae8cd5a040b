"""Breaches at a real HTTP receiver: signed, in order, tried again, given up, told once whoever restarts."""

import asyncio
import base64
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import nats
import orjson
import pytest
import yaml
from aiohttp import web
from cloudevents.core.formats.json import JSONFormat
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from standardwebhooks import Webhook

from services.forwarder.app import serve
from services.forwarder.http_endpoint import HttpEndpoint
from services.forwarder.retrying import Answer
from services.forwarder.settings import ForwarderSettings
from shared.contracts.breach import BreachEvent
from shared.contracts.webhooks import Endpoint
from shared.reading import read_last
from shared.settings import PROJECT_ROOT
from shared.streams import ensure_streams
from shared.subjects import Subjects
from tests.integration import test_validator_breach
from tests.unit.breaches import ESCALATED, RESOLVED, UPDATED, event

pytestmark = pytest.mark.integration


async def until(condition: Callable[[], bool]) -> None:
    await test_validator_breach.until(condition, 45)


SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


@dataclass
class Receiver:
    """Answers by ``statuses`` in turn, then 204; an id in ``hung`` is never answered. Keeps what it was sent."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        name = request.headers["webhook-id"]
        self.requests.append((name, dict(request.headers), await request.read()))
        if name in self.hung:
            await asyncio.sleep(5)
        status = self.statuses.pop(0) if self.statuses else 500 if name in self.broken else 204
        if status == 204:
            self.taken.append(name)
        return web.Response(status=status, headers={"Location": f"{self.url}/elsewhere"} if status == 301 else {})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/{any:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@dataclass
class Rig:
    """A bus to tell breaches on, and a way to start forwarders."""

    client: Client
    environment: str
    folder: Path
    nats_url: str
    url: str
    running: list[tuple[asyncio.Event, "asyncio.Task[None]"]] = field(default_factory=list)

    @property
    def names(self) -> Subjects:
        return Subjects(self.environment)

    async def tell(self, *events: BreachEvent) -> None:
        for one in events:
            data = one.data.model_copy(update={"environment": self.environment})
            subject = self.names.breach(data.system, data.metric, f"{data.series}-{data.breach}")
            body = one.model_copy(update={"data": data}).model_dump_json().encode()
            await self.client.jetstream().publish(subject, body, headers={"traceparent": "00-" + "1" * 32 + "-1-01"})

    def write(self, **fields: Any) -> Path:
        path = self.folder / "webhooks.yaml"
        entry = {"name": "pager", "url": f"{self.url}/in", "secret": "pager", "timeout": "300ms", **fields}
        path.write_text(yaml.safe_dump({"endpoints": [entry]}))
        return path

    async def start(self, **fields: Any) -> Callable[[], Awaitable[None]]:
        settings = ForwarderSettings(
            environment=self.environment, nats_url=self.nats_url, webhooks=self.write(**fields)
        )
        stop = asyncio.Event()
        task = asyncio.create_task(serve(settings, stop))
        self.running.append((stop, task))
        await self.listens()

        async def end() -> None:
            stop.set()
            await asyncio.wait_for(asyncio.shield(task), 10)

        return end

    async def listens(self) -> None:
        """Until the endpoint's consumer is there: what is told before, it hears of by the last word only."""
        for _ in range(600):
            with contextlib.suppress(NotFoundError):
                await self.client.jetstream().consumer_info(self.names.stream("BREACHES"), "webhook-pager")
                return
            await asyncio.sleep(0.05)
        raise AssertionError("nobody listens")

    async def dead(self) -> list[dict[str, Any]]:
        messages = await read_last(self.client.jetstream(), self.names.stream("DEAD"), self.names.dead("*"))
        return [orjson.loads(message.data) for message in messages]


@pytest.fixture
async def rig(
    nats_url: str, environment: str, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    monkeypatch.setenv("TIDEGATE_WEBHOOK_SECRET_PAGER", SECRET)
    monkeypatch.setattr("services.forwarder.retrying.FIRST_S", 0.05)
    client = await nats.connect(nats_url)
    await ensure_streams(client.jetstream(), Subjects(environment))
    rig = Rig(client, environment, tmp_path, nats_url, receiver.url)
    yield rig
    for stop, _ in rig.running:
        stop.set()
    await asyncio.wait_for(asyncio.gather(*(task for _, task in rig.running)), 15)
    await client.close()


async def test_an_event_arrives_as_it_was_published_and_its_signature_holds(rig: Rig, receiver: Receiver) -> None:
    await rig.start()
    await rig.tell(event())
    await until(lambda: receiver.taken == ["b1.1"])
    ((_, headers, body),) = receiver.requests
    read = Webhook(SECRET).verify(body, headers)
    assert read["id"] == "b1.1"
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["traceparent"].startswith("00-1111")
    assert JSONFormat().read(None, body).get_type() == "io.tidegate.breach.opened.v1"
    assert BreachEvent.model_validate_json(body).data.environment == rig.environment
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(body + b" ", headers)


async def test_failures_are_tried_again_under_the_same_id_and_in_the_order_of_the_episode(
    rig: Rig, receiver: Receiver
) -> None:
    receiver.statuses = [503, 429, 500]
    await rig.start()
    await rig.tell(event(1), event(2, UPDATED), event(3, ESCALATED, level="critical"), event(4, RESOLVED))
    await until(lambda: receiver.taken == ["b1.1", "b1.3", "b1.4"])
    assert [name for name, _, _ in receiver.requests] == ["b1.1"] * 4 + ["b1.3", "b1.4"]
    assert await rig.dead() == []


async def test_an_episode_that_waits_delays_no_other(rig: Rig, receiver: Receiver) -> None:
    receiver.hung = {"b1.1"}
    await rig.start()
    await rig.tell(event(1), event(1, breach="b2"), event(2, RESOLVED), event(2, RESOLVED, breach="b2"))
    await until(lambda: receiver.taken == ["b2.1", "b2.2"])
    receiver.hung.clear()
    await until(lambda: receiver.taken == ["b2.1", "b2.2", "b1.1", "b1.2"])


@pytest.mark.parametrize(
    ("fields", "statuses", "reason"),
    [
        ({"retry_for": "300ms"}, [500] * 9, "endpoint pager answered 500, "),
        ({}, [410], "endpoint pager answered 410"),
        ({}, [301], "endpoint pager answered 301"),
    ],
)
async def test_what_is_not_taken_goes_to_dead_and_the_next_event_has_its_turn(
    rig: Rig, receiver: Receiver, fields: dict[str, Any], statuses: list[int], reason: str
) -> None:
    receiver.statuses = list(statuses)
    await rig.start(**fields)
    await rig.tell(event(1))
    letters: list[dict[str, Any]] = []
    for _ in range(200):
        if letters := await rig.dead():
            break
        await asyncio.sleep(0.05)
    (letter,) = letters
    assert letter["reason"].startswith(reason)
    assert letter["service"] == "forwarder-pager"
    assert orjson.loads(base64.b64decode(letter["body"]))["id"] == "b1.1"
    receiver.statuses.clear()
    await rig.tell(event(2, UPDATED))
    await until(lambda: receiver.taken == ["b1.2"])
    assert "Location" not in str(receiver.requests)


async def test_a_restart_goes_on_where_it_was_and_tells_nothing_twice(rig: Rig, receiver: Receiver) -> None:
    receiver.broken = {"b1.2"}
    stop = await rig.start()
    await rig.tell(event(1), event(2, ESCALATED, level="critical"))
    await until(lambda: [name for name, _, _ in receiver.requests].count("b1.2") > 1)
    await stop()
    await rig.tell(event(3, RESOLVED))
    receiver.broken.clear()
    await rig.start()
    await until(lambda: bool(receiver.taken) and receiver.taken[-1] == "b1.3")
    assert receiver.taken == ["b1.1", "b1.2", "b1.3"]


async def test_a_new_endpoint_begins_with_what_is_open(rig: Rig, receiver: Receiver) -> None:
    await rig.tell(event(1), event(2, UPDATED), event(1, breach="b2"), event(2, RESOLVED, breach="b2"))
    await rig.start()
    await until(lambda: receiver.taken == ["b1.2"])
    await rig.tell(event(3, RESOLVED))
    await until(lambda: receiver.taken == ["b1.2", "b1.3"])


async def test_of_two_forwarders_one_sends(rig: Rig, receiver: Receiver) -> None:
    stop = await rig.start()
    await rig.start()
    await rig.tell(event(1))
    await until(lambda: receiver.taken == ["b1.1"])
    await stop()
    await rig.tell(event(2, RESOLVED))
    await until(lambda: receiver.taken == ["b1.1", "b1.2"])
    assert len(receiver.requests) == 2


async def test_what_is_no_breach_goes_to_dead_and_stops_nothing(rig: Rig, receiver: Receiver) -> None:
    await rig.start()
    await rig.client.jetstream().publish(rig.names.breach("x", "y", "z"), b"{")
    await rig.tell(event(1))
    await until(lambda: receiver.taken == ["b1.1"])
    (letter,) = await rig.dead()
    assert letter["reason"].startswith("no BreachEvent")


async def test_a_consumer_that_the_broker_lost_is_made_again(rig: Rig, receiver: Receiver) -> None:
    await rig.start()
    await rig.tell(event(1))
    await until(lambda: receiver.taken == ["b1.1"])
    await rig.client.jetstream().delete_consumer(rig.names.stream("BREACHES"), "webhook-pager")
    await rig.tell(event(2, RESOLVED))
    await until(lambda: receiver.taken == ["b1.1", "b1.2"])


async def test_a_killed_forwarder_is_followed_by_one_that_goes_on(rig: Rig, receiver: Receiver, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def start() -> asyncio.subprocess.Process:
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.forwarder"),
                cwd=PROJECT_ROOT,
                stderr=output,
                env={
                    **os.environ,
                    "TIDEGATE_NATS_URL": rig.nats_url,
                    "TIDEGATE_ENVIRONMENT": rig.environment,
                    "TIDEGATE_WEBHOOKS": str(rig.write()),
                },
            )

    receiver.broken = {"b1.1"}
    first = await start()
    await rig.listens()
    await rig.tell(event(1))
    await until(lambda: len(receiver.requests) > 1)
    first.send_signal(signal.SIGKILL)
    await first.wait()
    receiver.broken.clear()
    second = await start()
    try:
        await rig.tell(event(1, breach="b2"))
        await until(lambda: "b2.1" in receiver.taken)
        await until(lambda: "b1.1" in receiver.taken)  # when the broker takes the first one for lost
    finally:
        second.terminate()
        assert await second.wait() == 0
    assert SECRET not in log.read_text()
    assert SECRET.removeprefix("whsec_") not in log.read_text()


@pytest.mark.parametrize(
    ("fields", "variables", "said"),
    [
        ({"url": "http://elsewhere.example/"}, {}, "host 'elsewhere.example' is not in the allow-list"),
        ({"secret": "other"}, {}, "TIDEGATE_WEBHOOK_SECRET_OTHER is not set"),
        ({}, {"TIDEGATE_WEBHOOK_SECRET_PAGER": "whsec_short"}, "TIDEGATE_WEBHOOK_SECRET_PAGER: is not whsec_"),
        ({"timeout": 0}, {}, "endpoints.0.timeout"),
    ],
)
async def test_a_forwarder_that_cannot_be_used_ends_with_one_line(
    rig: Rig, fields: dict[str, Any], variables: dict[str, str], said: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.forwarder"),
        cwd=PROJECT_ROOT,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TIDEGATE_WEBHOOKS": str(rig.write(**fields)), **variables},
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    (line,) = errors.decode().strip().splitlines()
    assert said in line
    assert "whsec_short" not in line


async def test_what_is_held_when_another_begins_to_act_is_given_to_it(
    rig: Rig, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.forwarder.forwarding.ACK_WAIT_S", 1.0)
    monkeypatch.setattr("services.forwarder.forwarding.STILL_HERE_S", 0.2)
    receiver.broken = {"b1.1"}
    await rig.start()
    await rig.tell(event(1))
    await until(lambda: len(receiver.requests) > 1)
    leases = await rig.client.jetstream().key_value(rig.names.bucket("leases"))
    await leases.put("forwarder", b"another")
    durable, stream = "webhook-pager", rig.names.stream("BREACHES")
    another = await rig.client.jetstream().pull_subscribe_bind(durable, stream=stream)
    (message,) = await another.fetch(1, timeout=3.5)
    assert BreachEvent.model_validate_json(message.data).id == "b1.1"


async def test_an_answer_that_is_no_http_is_told_without_the_address(rig: Rig) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"what?\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session:
        told = Endpoint(name="pager", url=f"http://127.0.0.1:{port}/hooks/T0KEN?key=T0KEN", secret="pager")
        outcome = await HttpEndpoint(told, (b"k" * 32,), session).post("b1.1", b"{}")
    assert outcome.answer is Answer.AGAIN
    assert outcome.reason
    assert "T0KEN" not in outcome.reason
