"""Both transports and their connections: kept, opened beforehand, closed, limited in number and time; TLS and DNS."""

import asyncio
import gc
import socket
import ssl

import pytest
import trustme

from services.generator import transport as module
from services.generator.aiohttp_transport import AiohttpTransport
from services.generator.http1_transport import Http1Transport
from services.generator.transport import Origin, Response, Timeouts, Transport
from shared.clock import monotonic_us
from shared.contracts.client import Client
from shared.contracts.timing import ErrorKind
from tests.integration.misbehaving import Caller, Misbehaving
from tests.integration.transport_rig import ALLOWED, OK, QUICK, always, ask, one, send, transport_fixture

transport = transport_fixture()


async def test_a_connection_is_kept_and_connecting_is_timed_once(transport: Transport) -> None:
    async with Misbehaving(always(OK)) as server:
        first, second = [await send(transport, ask(server.port)) for _ in range(2)]
        assert len(server.callers) == 1
    assert first.connect_us > 0
    assert second.connect_us == 0


async def test_a_connection_opened_beforehand_is_taken_by_a_request() -> None:
    transport = Http1Transport()
    async with Misbehaving(always(OK)) as server:
        await transport.warm(ask(server.port).endpoint)
        answer = await send(transport, ask(server.port))
        assert len(server.callers) == 1
        await transport.close()
    assert (answer.status, answer.connect_us) == (200, 0)


async def test_a_connection_opened_beforehand_and_closed_by_the_server_costs_no_request() -> None:
    transport = Http1Transport()

    async def first_one_hangs_up(caller: Caller) -> None:
        if caller.number:
            await always(OK)(caller)
        else:
            # It closes as soon as a request comes, as a server does that has just lost patience with an idle one.
            await caller.request()

    async with Misbehaving(first_one_hangs_up) as server:
        await transport.warm(ask(server.port).endpoint)
        answer = await send(transport, ask(server.port))
        await transport.close()
    assert (answer.status, answer.retries) == (200, 1)


async def test_where_nobody_listens_a_connection_beforehand_fails_in_silence() -> None:
    transport = Http1Transport()
    async with Misbehaving(always(OK)) as server:
        port = server.port
    await transport.warm(ask(port).endpoint)
    assert (await send(transport, ask(port))).error is ErrorKind.CONNECT
    await transport.close()


async def test_a_connection_past_its_age_is_not_used_again(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETIRE_S", 0.2)
    async with Misbehaving(always(OK)) as server:
        began_us = monotonic_us()
        while len(server.callers) < 3:
            assert monotonic_us() < began_us + 5_000_000
            answer = await send(transport, ask(server.port))
            assert answer.status == 200
        # A quarter more or less than 0.2 s each.
        assert monotonic_us() - began_us > 2 * 150_000
    assert answer.connect_us > 0


async def test_connection_close_is_obeyed(transport: Transport) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
    async with Misbehaving(always(answer)) as server:
        for _ in range(2):
            assert (await send(transport, ask(server.port))).body == b"a"
        assert len(server.callers) == 2


async def test_a_slow_head_times_out(transport: Transport) -> None:
    slow = [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100]
    began_us = monotonic_us()
    response = await one(transport, always(*slow, pause_s=0.05), timeouts=QUICK)
    assert response.error is ErrorKind.TIMEOUT
    assert 0.45e6 < response.done_us - began_us < 1.5e6


async def test_a_body_that_trickles_in_times_out(transport: Transport) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    response = await one(transport, always(head, *[b"x"] * 100, pause_s=0.05), timeouts=QUICK)
    assert (response.error, response.status) == (ErrorKind.TIMEOUT, 200)
    assert response.ttfb_us > 0


async def test_the_first_byte_has_a_limit_of_its_own(transport: Transport) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await asyncio.sleep(1.0)

    began_us = monotonic_us()
    response = await one(transport, script, timeouts=Timeouts(total_s=5.0, first_byte_s=0.2))
    assert response.error is ErrorKind.TIMEOUT
    assert 0.15e6 < response.done_us - began_us < 0.9e6
    began_us = monotonic_us()
    slow = (OK[:-2], b"{", b"}")
    assert (await one(transport, always(*slow, pause_s=0.3), timeouts=Timeouts(first_byte_s=0.2))).body == b"{}"


async def test_after_a_timeout_the_connection_is_not_used_again(transport: Transport) -> None:
    async def script(caller: Caller) -> None:
        if caller.number == 0:
            await caller.request()
            await asyncio.sleep(0.3)
            await caller.say(OK.replace(b"{}", b"[]"))
        await always(OK)(caller)

    async with Misbehaving(script) as server:
        assert (await send(transport, ask(server.port, timeouts=Timeouts(total_s=0.1)))).error is ErrorKind.TIMEOUT
        await asyncio.sleep(0.3)
        assert (await send(transport, ask(server.port))).body == b"{}"


@pytest.mark.parametrize(
    "pieces", [(), (b"HTTP/1.1 200",), (OK[:-1],), (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",)]
)
async def test_an_early_close_is_a_reset(transport: Transport, pieces: tuple[bytes, ...]) -> None:
    response = await one(transport, always(*pieces, close=True), timeouts=QUICK)
    assert response.error is ErrorKind.RESET


async def test_a_reset_is_a_reset(transport: Transport) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        caller.reset()

    assert (await one(transport, script)).error is ErrorKind.RESET


async def test_a_kept_connection_that_was_closed_is_replaced_before_it_is_used(transport: Transport) -> None:
    async with Misbehaving(always(OK, close=True)) as server:
        for method in ("GET", "POST"):
            assert (await send(transport, ask(server.port, method=method, body=b"x"))).error is ErrorKind.OK
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("POST", False), ("PATCH", False)])
async def test_closed_just_as_it_is_used_again_is_retried_only_when_safe(
    transport: Transport, method: str, *, again: bool
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(OK)
        if caller.number == 0:
            await caller.request()
            return
        await always(OK)(caller)

    async with Misbehaving(script) as server:
        assert (await send(transport, ask(server.port))).error is ErrorKind.OK
        response = await send(transport, ask(server.port, method=method))
        assert response.error is (ErrorKind.OK if again else ErrorKind.RESET)
        assert len(server.requests) == (3 if again else 2)


async def test_where_nobody_listens_connecting_fails(transport: Transport) -> None:
    async with Misbehaving(always(OK)) as server:
        port = server.port
    assert (await send(transport, ask(port))).error is ErrorKind.CONNECT


async def test_an_unknown_name_is_a_fault_of_dns(transport: Transport) -> None:
    request = ask(80, origin=Origin("http", "nowhere.invalid", 80))
    assert (await send(transport, request)).error is ErrorKind.DNS


async def test_connecting_has_a_limit_of_its_own(transport: Transport) -> None:
    # A full backlog: the kernel answers no more SYN.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        response = await send(transport, ask(port, timeouts=Timeouts(total_s=5.0, connect_s=0.2)))
        for filler in fillers:
            filler.close()
    assert response.error is ErrorKind.CONNECT_TIMEOUT


async def test_a_connection_limit_is_held_and_nobody_starves() -> None:
    open_now = most = 0

    async def script(caller: Caller) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        while await caller.request():
            await asyncio.sleep(0.005)
            await caller.say(OK)
        open_now -= 1

    transport = Http1Transport(connections=3)
    async with Misbehaving(script) as server:
        responses = await asyncio.gather(*(send(transport, ask(server.port)) for _ in range(60)))
        assert {response.error for response in responses} == {ErrorKind.OK}
        assert most == 3
        # One that is given up while it waits does not take a place with it.
        busy = [asyncio.ensure_future(send(transport, ask(server.port))) for _ in range(6)]
        await asyncio.sleep(0)
        busy[4].cancel()
        done = await asyncio.gather(*busy, return_exceptions=True)
        assert sum(isinstance(response, Response) for response in done) == 5
    await transport.close()


async def test_a_request_given_up_closes_its_connection() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        assert await caller.reader.read() == b""
        gone.set()

    gone = asyncio.Event()
    transport = Http1Transport()
    async with Misbehaving(script) as server:
        sending = asyncio.ensure_future(send(transport, ask(server.port)))
        await asyncio.sleep(0.05)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await asyncio.wait_for(gone.wait(), 2.0)
    await transport.close()


async def test_tls_is_spoken_and_checked(transport: Transport) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server_side)
    async with Misbehaving(always(OK), tls=server_side) as server:
        request = ask(server.port, origin=Origin("https", "127.0.0.1", server.port))
        for _ in range(2):
            assert (await send(transport, request)).body == b"{}"
        strict: Transport = (
            Http1Transport()
            if isinstance(transport, Http1Transport)
            else AiohttpTransport(Client(transport="aiohttp"), ALLOWED)
        )
        assert (await send(strict, request)).error is ErrorKind.TLS
        await strict.close()
    async with Misbehaving(always(OK)) as plain:
        spoken = ask(plain.port, origin=Origin("https", "127.0.0.1", plain.port), timeouts=QUICK)
        assert (await send(transport, spoken)).error in (ErrorKind.TLS, ErrorKind.CONNECT_TIMEOUT)


async def test_a_name_is_looked_up_once_for_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def look_up(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr("services.generator.http1_transport.look_up", look_up)
    transport = Http1Transport()
    answer = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    async with Misbehaving(always(answer)) as server:
        request = ask(server.port, origin=Origin("http", "shop.example.com", server.port))
        for _ in range(3):
            assert (await send(transport, request)).body == b"{}"
        assert len(server.callers) == 3
    assert asked == ["shop.example.com"]
    await transport.close()


async def test_many_exchanges_leave_no_cycle_of_garbage_behind() -> None:
    transport = Http1Transport()
    async with Misbehaving(always(OK)) as server:
        await send(transport, ask(server.port))
        gc.collect()
        for _ in range(200):
            await send(transport, ask(server.port))
        assert gc.collect() < 50
    await transport.close()
