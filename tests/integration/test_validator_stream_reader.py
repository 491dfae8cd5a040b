"""Reading a stream in order although the consumer is lost or messages are dropped on the way."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import nats
import pytest
from nats.js import JetStreamContext

from services.validator import stream_reader
from services.validator.stream_reader import follow

pytestmark = pytest.mark.integration


@pytest.fixture
async def js(nats_url: str, environment: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JetStreamContext]:
    monkeypatch.setattr(stream_reader, "QUIET_S", 0.1)
    client = await nats.connect(nats_url)
    js = client.jetstream()
    await js.add_stream(name=environment, subjects=[f"{environment}.>"])
    yield js
    await js.delete_stream(environment)
    await client.close()


async def test_a_reader_whose_consumer_is_deleted_goes_on_where_it_was(js: JetStreamContext, environment: str) -> None:
    async def publish(number: int) -> None:
        await js.publish(f"{environment}.x", str(number).encode())

    reader = follow(js, environment, f"{environment}.x", datetime.now(UTC) - timedelta(minutes=1))
    await publish(1)
    await publish(2)
    read = [await asyncio.wait_for(anext(reader), 5) for _ in range(2)]
    (consumer,) = await js.consumers_info(environment)
    await js.delete_consumer(environment, consumer.name)
    await publish(3)
    await publish(4)
    read += [await asyncio.wait_for(anext(reader), 5) for _ in range(2)]
    await reader.aclose()  # type: ignore[attr-defined] # an async generator is one
    assert [int(message.data) for message in read] == [1, 2, 3, 4]


async def test_a_reader_that_missed_a_message_reads_it_again(js: JetStreamContext, environment: str) -> None:
    reader = follow(js, environment, f"{environment}.x", datetime.now(UTC) - timedelta(minutes=1))
    first = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    await js.publish(f"{environment}.x", b"1")
    read = [await asyncio.wait_for(first, 5)]
    # The newest subscription is the reader's; taking a message from under it is what a full buffer does.
    subscription = max(js._nc._subs.values(), key=lambda held: held._id)
    for number in (2, 3):
        await js.publish(f"{environment}.x", str(number).encode())
    for _ in range(500):
        if subscription._pending_queue.qsize() == 2:
            break
        await asyncio.sleep(0.01)
    subscription._pending_queue.get_nowait()
    read += [await asyncio.wait_for(anext(reader), 5) for _ in range(2)]
    await reader.aclose()  # type: ignore[attr-defined] # an async generator is one
    assert [int(message.data) for message in read] == [1, 2, 3]
