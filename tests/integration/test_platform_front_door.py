"""The front door between a real caller and replicas that misbehave on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from examples.platform.replica.spec import Sizes
from examples.platform.supervisor.front_door import FrontDoor
from examples.platform.supervisor.instance import Instance
from tests.integration.platform_process import poll_until

pytestmark = pytest.mark.integration

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Bench:
    """A front door and the replicas put behind it."""

    def __init__(self, stack: AsyncExitStack, session: aiohttp.ClientSession) -> None:
        self._stack = stack
        self.session = session
        self.ready: list[Instance] = []
        self.door = FrontDoor("relaycore", lambda: self.ready)

    async def add_replica(self, answer: Answer) -> Instance:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while (await reader.readuntil(b"\r\n\r\n")).strip():
                    await answer(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._stack.callback(server.close)
        return self.add_address(server.sockets[0].getsockname()[1])

    def add_address(self, port: int) -> Instance:
        process: Any = None
        sizes = Sizes(cpu_limit_cores=1.0, memory_limit_mib=512)
        name, url = f"relaycore-{len(self.ready)}", f"http://127.0.0.1:{port}"
        instance = Instance(name, process, 0.0, sizes, state="ready", url=url)
        self.ready.append(instance)
        return instance

    async def call(self, method: str = "GET", **options: Any) -> tuple[int, str]:
        async with self.session.request(method, self.door.url + "/x", **options) as response:
            return response.status, await response.text()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        bench = Bench(stack, session)
        await bench.door.start(0)
        stack.push_async_callback(bench.door.stop)
        yield bench


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_with_no_ready_replica_the_caller_is_told_when_to_come_again(bench: Bench) -> None:
    async with bench.session.get(bench.door.url) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert await response.json() == {"error": "relaycore has no ready replica"}


async def test_a_replica_that_cannot_be_reached_is_passed_over_whatever_the_method(bench: Bench) -> None:
    bench.add_address(1)
    good = await bench.add_replica(answer_ok)
    assert {await bench.call("POST") for _ in range(4)} == {(200, "ok")}
    bench.ready.remove(good)
    assert (await bench.call("POST"))[0] == 502
    assert [one.outstanding for one in (*bench.ready, good)] == [0, 0]


async def test_a_request_that_may_have_been_acted_on_is_not_sent_twice(bench: Bench) -> None:
    broken = await bench.add_replica(break_off)
    good = await bench.add_replica(answer_ok)
    posted = sorted([await bench.call("POST") for _ in range(2)])
    assert [status for status, _ in posted] == [200, 502]
    assert {await bench.call("GET") for _ in range(4)} == {(200, "ok")}
    assert (broken.outstanding, good.outstanding) == (0, 0)


async def test_connections_are_kept_on_both_sides(bench: Bench) -> None:
    upstreams = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstreams.add(writer)
        await answer_ok(reader, writer)

    await bench.add_replica(answer)
    for _ in range(5):
        await bench.call()
    assert (len(upstreams), len(bench.door.callers)) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="of a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", id="chunked"),
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="interim"),
    ],
)
async def test_an_answer_that_comes_byte_by_byte_is_passed_on_whole(bench: Bench, answer: bytes) -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(len(answer)):
            writer.write(answer[at : at + 1])
            await asyncio.sleep(0)

    await bench.add_replica(dribble)
    assert [await bench.call() for _ in range(2)] == [(200, "hello")] * 2


async def test_an_answer_without_a_length_ends_with_its_connection(bench: Bench) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
        writer.close()

    await bench.add_replica(answer)
    assert [await bench.call() for _ in range(2)] == [(200, "hello")] * 2


async def test_an_answer_cut_short_is_seen_as_cut_short(bench: Bench) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
        writer.close()

    instance = await bench.add_replica(answer)
    with pytest.raises(aiohttp.ClientError):
        await bench.call("POST")
    assert instance.outstanding == 0


async def test_a_replica_that_breaks_off_within_its_head_is_a_bad_gateway(bench: Bench) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        writer.close()

    await bench.add_replica(answer)
    assert (await bench.call())[0] == 502


async def test_a_caller_that_goes_away_ends_the_replicas_part_too(bench: Bench) -> None:
    is_ended = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            is_ended.set()

    instance = await bench.add_replica(wait_for_the_end)
    caller = asyncio.create_task(bench.call())

    async def is_outstanding() -> bool:
        return instance.outstanding == 1

    await poll_until(is_outstanding)
    caller.cancel()
    await asyncio.wait_for(is_ended.wait(), 2)
    assert instance.outstanding == 0


async def test_what_is_not_http_is_refused_and_the_connection_closed(bench: Bench) -> None:
    port = int(bench.door.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello there\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    writer.close()
    await writer.wait_closed()
