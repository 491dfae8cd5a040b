"""The example subscribers as a newcomer runs them: they hear of breaches and go on where they were."""

import asyncio
import sys

import orjson
import pytest

from shared.contracts.breach import BreachEvent
from shared.settings import PROJECT_ROOT
from tests.integration.test_validator_breach import Bench, Start, bench, start, streams_exist, until
from tests.unit.breaches import UPDATED, event

__all__ = ["bench", "start"]
pytestmark = pytest.mark.integration


async def run(module: str, nats_url: str, environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"examples.{module}", nats_url, environment),
        cwd=PROJECT_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 45)).decode()


async def ready(bench: Bench, durable: str) -> None:
    """Until the subscriber has its place in the stream."""
    js, stream = bench.client.jetstream(), f"tidegate-{bench.environment}-BREACHES"
    for _ in range(600):
        if durable in {info.name for info in await js.consumers_info(stream)}:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no consumer {durable!r}")


async def publish(bench: Bench, told: BreachEvent, **unknown: object) -> None:
    """With fields that no subscriber of today knows, around the event and in it."""
    body = told.model_dump(mode="json") | unknown
    body["data"] |= unknown
    subject = f"tidegate.{bench.environment}.breach.{told.data.system}.{told.data.metric}.{told.data.series}"
    ack = await bench.client.jetstream().publish(subject, orjson.dumps(body))
    assert ack.stream.endswith("BREACHES"), "the stream's answer, not a subscriber's"


@pytest.mark.parametrize(
    ("module", "durable", "opened", "updated"),
    [
        (
            "subscriber",
            "printer",
            "opened       autmatrix api_response_time = ",
            "updated      relaycore routing_latency = 88 ms",
        ),
        (
            "subscriber_plain",
            "plain",
            "io.tidegate.breach.opened.v1 autmatrix api_response_time ",
            "io.tidegate.breach.updated.v1 relaycore routing_latency 88.0",
        ),
    ],
)
async def test_a_subscriber_hears_a_real_breach_and_what_happened_while_it_was_down(
    bench: Bench, start: Start, nats_url: str, module: str, durable: str, opened: str, updated: str
) -> None:
    await start()
    await streams_exist(bench)
    first = await run(module, nats_url, bench.environment)
    await ready(bench, durable)
    await bench.begin()
    await bench.load(4, 700)
    await until(lambda: "opened" in bench.statuses)
    assert (await line_of(first)).startswith(opened)
    first.kill()
    await first.wait()

    await publish(bench, event(7, UPDATED), newer_field={"x": 1})
    second = await run(module, nats_url, bench.environment)
    try:
        for _ in range(20):
            if (await line_of(second)).startswith(updated):
                break
        else:
            raise AssertionError("what happened meanwhile was missed")
    finally:
        second.terminate()
        await second.wait()
