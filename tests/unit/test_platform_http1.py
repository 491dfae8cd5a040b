"""Heads and body ends, as the stand-in's front door reads them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.platform.supervisor.http1 import (
    ChunkedBody,
    FramingError,
    parse_request_head,
    parse_response_head,
)


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_request_is_passed_on_as_it_came_but_for_its_connection_header() -> None:
    request = parse_request_head(head("POST /a HTTP/1.1", "Host: x", "connection: close", "CONTENT-LENGTH: 12", "B: 1"))
    assert request.forwarded == head("POST /a HTTP/1.1", "Host: x", "CONTENT-LENGTH: 12", "B: 1")
    assert (request.method, request.content_length, request.closes) == (b"POST", 12, True)


@pytest.mark.parametrize(
    ("lines", "closes"),
    [
        (["GET / HTTP/1.1"], False),
        (["GET / HTTP/1.0"], True),
        (["GET / HTTP/1.0", "Connection: Keep-Alive"], False),
        (["GET / HTTP/1.1", "X-Note: Connection: close"], False),
    ],
)
def test_a_connection_is_kept_as_its_caller_wants(lines: list[str], closes: bool) -> None:
    assert parse_request_head(head(*lines)).closes is closes


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET /"], 400),
        (["\x16\x03\x01 / HTTP/1.1"], 400),
        (["POST / HTTP/1.1", "Transfer-Encoding: chunked"], 411),
        (["POST / HTTP/1.1", "Expect: 100-continue"], 417),
        (["POST / HTTP/1.1", "Content-Length: -1"], 400),
    ],
)
def test_a_request_that_cannot_be_framed_for_certain_is_refused(lines: list[str], status: int) -> None:
    with pytest.raises(FramingError) as refusal:
        parse_request_head(head(*lines))
    assert refusal.value.status == status


@pytest.mark.parametrize(
    ("lines", "method", "length", "is_chunked", "closes"),
    [
        (["HTTP/1.1 200 OK", "Content-Length: 5"], b"GET", 5, False, False),
        (["HTTP/1.1 200 OK", "Content-Length: 5"], b"HEAD", 0, False, False),
        (["HTTP/1.1 204 No Content"], b"GET", 0, False, False),
        (["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"], b"GET", None, True, False),
        (["HTTP/1.1 200 OK", "Connection: close"], b"GET", None, False, True),
        (["HTTP/1.0 200 OK"], b"GET", None, False, True),
    ],
)
def test_the_end_of_an_answer_is_known_from_its_head(
    lines: list[str], method: bytes, length: int | None, is_chunked: bool, closes: bool
) -> None:
    answer = parse_response_head(head(*lines), method)
    assert (answer.content_length, answer.is_chunked, answer.closes) == (length, is_chunked, closes)


def test_an_answer_that_is_not_http_is_a_bad_gateway() -> None:
    with pytest.raises(FramingError) as refusal:
        parse_response_head(head("SSH-2.0-OpenSSH"), b"GET")
    assert refusal.value.status == 502


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6), cuts=st.lists(st.integers(1, 300), max_size=12))
def test_the_end_of_a_chunked_body_is_found_however_it_is_cut(chunks: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(b"%x;note=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: t\r\n\r\n"
    edges = sorted({cut for cut in cuts if cut < len(whole)} | {0, len(whole)})
    body = ChunkedBody()
    for start, end in itertools.pairwise(edges):
        assert not body.is_done
        body.feed(whole[start:end])
    assert body.is_done


def test_a_chunk_without_a_size_is_refused() -> None:
    with pytest.raises(FramingError, match="without a size"):
        ChunkedBody().feed(b"zz\r\n")
