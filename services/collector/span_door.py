"""The OTLP/HTTP door: takes spans into a bounded queue, and a writer puts the queue into the store.

An export is answered when it is queued. Spans are evidence, not accounts: a process that is killed loses those in its
queue. When more come than the store takes or the budget allows, the queue gives up quick traces first, and when what
is left is still too much, exporters are told to wait.
"""

import asyncio
import logging
import random
import time
from datetime import UTC, datetime

import psycopg
from aiohttp import web

from services.collector import backoff
from services.collector.otlp import JSON, PROTOBUF, Spans, parse_export, spans_of, write_response
from services.collector.span_queue import QueueFullError, SpanQueue
from services.collector.span_tally import SpanTally
from services.collector.timescale import Timescale
from shared import metrics
from shared.errors import BadMessageError, TransientError
from shared.store.spans import SpanRow, copy_spans

RETRY_AFTER_S = 1
WRITE_MOST = 5_000
BUDGET_PAUSE_S = 0.05
LARGE_BYTES = 128 * 1024
"""A larger body is parsed beside the loop, which has frames to serve."""

logger = logging.getLogger(__name__)


class SpanDoor:
    """Owns its queue from here on."""

    def __init__(self, store: Timescale, queue: SpanQueue, tally: SpanTally) -> None:
        self._store, self._queue, self._tally = store, queue, tally
        self._arrived = asyncio.Event()
        self._closing = False

    @property
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/traces", self.export)]

    async def export(self, request: web.Request) -> web.Response:
        """Answers 200 when queued, also in part; 400 for a bad body, 413 for one too large, 415 for another type, 429
        when the queue is full, 503 while stopping.
        """
        if request.content_type not in (PROTOBUF, JSON):
            return _refusal(415, f"Content-Type {request.content_type!r}: send {PROTOBUF} or {JSON}")
        try:
            body = await request.read()
            if len(body) > LARGE_BYTES:
                spans = await asyncio.to_thread(_parse, body, request.content_type)
            else:
                spans = _parse(body, request.content_type)
        except (BadMessageError, web.RequestPayloadError) as error:
            return _refusal(400, " ".join(str(error).split()))
        if self._closing:
            return _refusal(503, "the collector is stopping")
        try:
            given_up = self._queue.offer(spans.rows)
        except QueueFullError as error:
            return _refusal(429, str(error))
        self._tally.add(spans.rows, time.time())
        metrics.SPANS_WAITING.set(len(self._queue))
        _count_dropped("malformed", spans.rejected)
        _count_dropped("sampled", given_up.spans)
        if len(self._queue):
            self._arrived.set()
        answer = write_response(spans, request.content_type, sampled=given_up.of_these)
        return web.Response(body=answer, content_type=request.content_type)

    def close(self) -> None:
        """Take no more; ``write`` ends when what was taken is stored."""
        self._closing = True
        self._arrived.set()

    async def write(self) -> None:
        """Store what comes, retrying for as long as the store is away, until ``close``."""
        while not self._closing or len(self._queue):
            await self._arrived.wait()
            spans = self._queue.take(WRITE_MOST, time.monotonic(), hurry=self._closing)
            if spans:
                await self._store_all(spans)
                self._queue.done()
                metrics.SPANS_WAITING.set(len(self._queue))
            elif len(self._queue):
                # The budget is spent.
                await asyncio.sleep(BUDGET_PAUSE_S)
            elif not self._closing:
                self._arrived.clear()

    async def _store_all(self, spans: list[SpanRow]) -> None:
        attempt = 0
        while True:
            try:
                async with self._store.transaction() as connection:
                    await copy_spans(connection, spans)
            except TransientError:
                attempt += 1
                await asyncio.sleep(backoff.delay_s(attempt, random.random()))
                continue
            except (psycopg.DataError, psycopg.IntegrityError) as error:  # the latter: no partition of its day
                logger.error("%d spans dropped, the store cannot hold them: %s", len(spans), error)  # noqa: TRY400
                _count_dropped("unstorable", len(spans))
            else:
                metrics.SPANS_STORED.inc(len(spans))
            return


def _parse(body: bytes, content_type: str) -> Spans:
    return spans_of(parse_export(body, content_type), datetime.now(UTC))


def _count_dropped(reason: str, count: int) -> None:
    if count:
        metrics.SPANS_DROPPED.labels(reason).inc(count)


def _refusal(status: int, reason: str) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return web.json_response({"message": reason}, status=status, headers=headers)
