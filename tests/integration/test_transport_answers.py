"""Both transports against servers that answer oddly: requests as they are sent, the same answers, the same failures."""

import asyncio

import pytest

from services.generator.http1_transport import Http1Transport
from services.generator.transport import Timeouts, TokenRule, Transport
from shared.clock import monotonic_us
from shared.contracts.timing import ErrorKind
from tests.integration.misbehaving import Caller, Misbehaving
from tests.integration.transport_rig import OK, QUICK, always, ask, one, send, transport_fixture

transport = transport_fixture()


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
