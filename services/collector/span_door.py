"""The OTLP/HTTP door: takes spans into a bounded queue, and a writer puts the queue into the store.

An export is answered when it is queued. Spans are evidence, not accounts: a process that is killed loses those in its
queue, and when the store is slower than they come, exporters are told to wait.
"""

import asyncio
import logging
import random
from datetime import UTC, datetime

import psycopg
from aiohttp import web

from services.collector import backoff
from services.collector.otlp import JSON, PROTOBUF, parse_export, spans_of, write_response
from services.collector.timescale import Timescale
from shared import metrics
from shared.errors import BadMessageError, TransientError
from shared.store.spans import SpanRow, copy_spans

RETRY_AFTER_S = 1
WRITE_MOST = 5_000

logger = logging.getLogger(__name__)


class SpanDoor:
    """``most``: spans that may wait for the store."""

    def __init__(self, store: Timescale, most: int) -> None:
        self._store = store
        self._most = most
        self._waiting: list[SpanRow] = []
        self._arrived = asyncio.Event()
        self._closing = False

    @property
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/traces", self.export)]

    async def export(self, request: web.Request) -> web.Response:
        """Answers 200 when queued, 400 for a bad body, 415 for another type, 429 when the queue is full."""
        if request.content_type not in (PROTOBUF, JSON):
            return _refusal(415, f"Content-Type {request.content_type!r}: send {PROTOBUF} or {JSON}")
        try:
            spans = spans_of(parse_export(await request.read(), request.content_type), datetime.now(UTC))
        except (BadMessageError, web.RequestPayloadError) as error:
            return _refusal(400, " ".join(str(error).split()))
        if self._closing:
            return _refusal(503, "the collector is stopping")
        if self._waiting and len(self._waiting) + len(spans.rows) > self._most:
            return _refusal(429, f"{len(self._waiting)} spans wait for the store already")
        self._waiting += spans.rows
        if spans.rows:
            self._arrived.set()
        return web.Response(body=write_response(spans, request.content_type), content_type=request.content_type)

    def close(self) -> None:
        """Take no more; ``write`` ends when what was taken is stored."""
        self._closing = True
        self._arrived.set()

    async def write(self) -> None:
        """Store what comes, retrying for as long as the store is away, until ``close``."""
        attempt = 0
        while not self._closing or self._waiting:
            await self._arrived.wait()
            spans = self._waiting[:WRITE_MOST]
            if not spans:
                continue
            try:
                async with self._store.transaction() as connection:
                    await copy_spans(connection, spans)
            except TransientError:
                attempt += 1
                await asyncio.sleep(backoff.delay_s(attempt, random.random()))
                continue
            except psycopg.DataError as error:
                logger.error("%d spans dropped, the store cannot hold them: %s", len(spans), error)  # noqa: TRY400
            else:
                metrics.SPANS_STORED.inc(len(spans))
            attempt = 0
            del self._waiting[: len(spans)]
            if not self._waiting and not self._closing:
                self._arrived.clear()


def _refusal(status: int, reason: str) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return web.json_response({"message": reason}, status=status, headers=headers)
