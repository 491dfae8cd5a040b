"""Both transports against servers that misbehave: the same answers, the same kinds of failure, the same timings."""

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from services.generator import transport as module
from services.generator.aiohttp_transport import AiohttpTransport
from services.generator.http1_transport import Http1Transport
from services.generator.transport import Endpoint, Origin, Request, Response, Timeouts, TokenRule, Transport
from shared.clock import monotonic_us
from shared.contracts.client import Client
from shared.contracts.timing import ErrorKind
from tests.integration.misbehaving import Caller, Misbehaving, Script

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ALLOWED = frozenset({"127.0.0.1", "nowhere.invalid"})
QUICK = Timeouts(total_s=0.5, connect_s=0.3)


@pytest.fixture(params=["http1", "aiohttp"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    made: Transport = (
        Http1Transport(verify_tls=False)
        if request.param == "http1"
        else AiohttpTransport(Client(transport="aiohttp", verify_tls=False), ALLOWED)
    )
    yield made
    await made.close()


def ask(port: int, **changes: object) -> Request:
    """A GET of a path unless ``changes``, fields of a request or its endpoint (``fixed``: its headers), differ."""
    changes.setdefault("origin", Origin("http", "127.0.0.1", port))
    own = {name: changes.pop(name) for name in ("path", "headers", "body") if name in changes}
    if "fixed" in changes:
        changes["headers"] = changes.pop("fixed")
    endpoint = Endpoint(**({"method": "GET"} | changes))  # type: ignore[arg-type]
    return Request(endpoint, **({"path": "/things?q=%20a"} | own))  # type: ignore[arg-type]


async def send(transport: Transport, request: Request) -> Response:
    return await transport.send(request, monotonic_us())


async def one(transport: Transport, script: Script, **changes: object) -> Response:
    async with Misbehaving(script) as server:
        return await send(transport, ask(server.port, **changes))


def always(*pieces: bytes, pause_s: float = 0.0, close: bool = False) -> Script:
    async def script(caller: Caller) -> None:
        while await caller.request():
            await caller.say(*pieces, pause_s=pause_s)
            if close:
                return

    return script


async def test_a_request_is_sent_as_it_was_asked_for(transport: Transport) -> None:
    async with Misbehaving(always(OK)) as server:
        response = await send(
            transport,
            ask(
                server.port,
                method="POST",
                fixed=(("User-Agent", "tidegate"), ("X-Tidegate-Run", "r1")),
                headers=(("traceparent", "00-1-2-01"),),
                body=b'{"a":1}',
            ),
        )
        (sent,) = server.requests
    assert (response.error, response.status, response.body) == (ErrorKind.OK, 200, b"{}")
    assert (response.bytes_in, response.bytes_out) == (2, 7)
    head, _, body = sent.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert (first, body) == (b"POST /things?q=%20a HTTP/1.1", b'{"a":1}')
    named = dict(line.lower().split(b": ", 1) for line in lines)
    assert named == {
        b"host": f"127.0.0.1:{server_port(server)}".encode(),
        b"user-agent": b"tidegate",
        b"x-tidegate-run": b"r1",
        b"traceparent": b"00-1-2-01",
        b"content-length": b"7",
    }


def server_port(server: Misbehaving) -> int:
    return int(server.callers[0].writer.get_extra_info("sockname")[1])


async def test_a_host_of_the_scenarios_own_takes_the_place_of_the_targets(transport: Transport) -> None:
    async with Misbehaving(always(OK)) as server:
        await send(transport, ask(server.port, fixed=(("Host", "shop.example.com"),)))
        (sent,) = server.requests
    assert [line for line in sent.lower().split(b"\r\n") if line.startswith(b"host:")] == [b"host: shop.example.com"]


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


async def test_split_packets_make_one_answer(transport: Transport) -> None:
    pieces = [OK[i : i + 1] for i in range(len(OK))]
    response = await one(transport, always(*pieces, pause_s=0.001))
    assert (response.error, response.body) == (ErrorKind.OK, b"{}")
    assert response.done_us


async def test_chunks_are_joined_and_trailers_left_out(transport: Transport) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    response = await one(transport, always(head, b"3\r\nabc\r\n", b"2;x=1\r\nde\r\n0\r\nX-T: 1\r\n\r\n", pause_s=0.01))
    assert (response.error, response.body, response.bytes_in) == (ErrorKind.OK, b"abcde", 5)


async def test_a_body_may_end_with_its_connection(transport: Transport) -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\nall of it"
    async with Misbehaving(always(answer, close=True)) as server:
        for _ in range(2):
            response = await send(transport, ask(server.port))
            assert (response.error, response.body) == (ErrorKind.OK, b"all of it")


async def test_connection_close_is_obeyed(transport: Transport) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
    async with Misbehaving(always(answer)) as server:
        for _ in range(2):
            assert (await send(transport, ask(server.port))).body == b"a"
        assert len(server.callers) == 2


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
)
async def test_an_interim_answer_is_not_the_answer(transport: Transport, interim: bytes) -> None:
    async with Misbehaving(always(interim, OK, pause_s=0.02)) as server:
        for _ in range(2):
            response = await send(transport, ask(server.port))
            assert (response.error, response.status, response.body) == (ErrorKind.OK, 200, b"{}")
        assert len(server.callers) == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_statuses_without_body_end_with_their_head(transport: Transport, status: bytes) -> None:
    async with Misbehaving(always(b"HTTP/1.1 " + status + b"\r\n\r\n")) as server:
        for _ in range(2):
            response = await send(transport, ask(server.port, timeouts=QUICK))
            assert (response.error, response.status) == (ErrorKind.OK, int(status[:3]))
            assert response.body == b""
        assert len(server.callers) == 1


async def test_an_answer_to_head_has_no_body_whatever_its_length_says(transport: Transport) -> None:
    async def script(caller: Caller) -> None:
        while request := await caller.request():
            await caller.say(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if request.startswith(b"HEAD") else b"{}")
            )

    async with Misbehaving(script) as server:
        for method, body in (("HEAD", b""), ("GET", b"{}"), ("HEAD", b"")):
            response = await send(transport, ask(server.port, method=method, timeouts=QUICK))
            assert (response.error, response.status, response.body) == (ErrorKind.OK, 200, body)
        assert len(server.callers) == 1


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


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_what_is_no_http_is_a_protocol_error(transport: Transport, answer: bytes) -> None:
    response = await one(transport, always(answer), timeouts=QUICK)
    assert response.error is ErrorKind.PROTOCOL


async def test_a_head_without_end_is_given_up(transport: Transport) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            await caller.say(b"X-%d: %s\r\n" % (number, b"y" * 1000))

    began_us = monotonic_us()
    response = await one(transport, script, timeouts=Timeouts(total_s=20.0))
    assert response.error in (ErrorKind.PROTOCOL, ErrorKind.TIMEOUT)
    if isinstance(transport, Http1Transport):
        assert response.error is ErrorKind.PROTOCOL
        assert response.done_us - began_us < 5e6


async def test_more_than_the_length_says_never_becomes_the_next_answer(transport: Transport) -> None:
    async with Misbehaving(always(OK + b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"old"')) as server:
        for _ in range(3):
            assert (await send(transport, ask(server.port))).body == b"{}"
            await asyncio.sleep(0.02)


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


@pytest.mark.parametrize(
    "changes",
    [{"path": "/a b"}, {"path": "/a\r\nX: y"}, {"headers": (("X-Name", "a\r\nX-Other: b"),)}],
)
async def test_what_would_break_out_of_its_line_is_not_sent(changes: dict[str, object]) -> None:
    transport = Http1Transport()
    async with Misbehaving(always(OK)) as server:
        assert (await send(transport, ask(server.port, **changes))).error is ErrorKind.BLOCKED
        assert server.requests == []
    await transport.close()


async def test_a_redirect_is_an_answer_like_any_other(transport: Transport) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /else\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with Misbehaving(always(answer)) as server:
        for _ in range(2):
            response = await send(transport, ask(server.port, keep_headers=True))
            assert response.status == 302
            assert ("Location", "/else") in response.headers
        assert not any(b"Cookie" in request for request in server.requests)


async def test_tokens_are_timed_as_they_come(transport: Transport) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    events = [b'data: {"t":""}\n\n', b'data: {"t":"a"}\n\n', b'data: {"t":"b"}\n\n', b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    script = always(head, *chunks, b"0\r\n\r\n", pause_s=0.05)
    response = await one(transport, script, tokens=TokenRule("sse", "$.t"))
    assert (response.error, response.tokens) == (ErrorKind.OK, 2)
    assert 90_000 < response.ttft_us < 300_000
    assert 40_000 < response.gap_us < 200_000
    assert response.ttfb_us < response.ttft_us


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
