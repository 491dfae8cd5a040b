"""What every system shares around its own surface: sign-in, trace, counting, faults, metrics, errors, draining."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

from ..ledger import Ledger
from .auth import AuthError, Authority, ServiceToken
from .capacity import Capacity
from .documents import Documents
from .faults import FaultGate
from .fields import BadRequestError, parse_object, required_text
from .metrics import Metrics
from .peers import PeerError, Peers
from .service_time import ServiceTimes
from .spec import ReplicaSpec
from .trace_context import read_trace_context
from .tracing import NoSpan, Span, make_tracer

Handler = Callable[[web.Request, Span], Awaitable[web.StreamResponse]]

_log = logging.getLogger("platform.service")
_DOCUMENTS_KEPT_S = 900.0
_PRUNE_EVERY_S = 10.0


class Service:
    """One replica's parts, and the wrapping of each route. Systems build their surface on it."""

    def __init__(self, spec: ReplicaSpec) -> None:
        config = spec.config
        data = Path(spec.data)
        self.spec = spec
        self.work = Capacity(config.servers)
        self.api = Capacity(config.api_servers)
        self.times = ServiceTimes(config.service_time, config.seed, spec.ordinal)
        self.faults = FaultGate(config.seed + spec.ordinal)
        self.metrics = Metrics(config, self.work, self.api)
        self.authority = Authority(spec.secret, spec.password, spec.token_ttl_s)
        self.tracer = make_tracer(spec.service, spec.instance, spec.otlp_endpoint)
        self.peers = Peers(spec.peers, ServiceToken(self.authority, spec.service), self.tracer)
        self.documents = Documents(data / f"{config.system}.sqlite")
        # The moment makes the name unique: DATA may hold the counts of an earlier life of the platform.
        self.ledger = Ledger(data / f"{config.system}.{spec.instance}.{time.time_ns()}.counts")
        self.background: set[asyncio.Task[None]] = set()
        self.app = web.Application(client_max_size=1024 * 1024)
        self.app.router.add_post("/api/auth/login", self._answer(self._login, "/api/auth/login", is_open=True))

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Add a signed-in API route."""
        self.app.router.add_route(method, path, self._answer(handler, path))

    async def api_work(self) -> None:
        """The own work of a light call: it waits for an API server and holds it for its service time."""
        async with self.api.seat() as seat:
            await seat.work(self.draw_s("api"))

    def draw_s(self, kind: str) -> float:
        """The next service time of `kind` in seconds, the slow fault included."""
        return self.times.draw_s(kind) * self.faults.factor

    def save(self, id: str, body: dict[str, Any]) -> None:  # noqa: A002 - the domain's word
        self.documents.put(id, body, self.spec.instance, time.time())

    def start_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beyond the answer; a drain waits for it."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self._background_ended)

    def record_wait(self, name: str, span: Span, waited_s: float) -> None:
        """A span for time spent in line, when there was any to speak of."""
        if waited_s > 0.001 and not isinstance(span, NoSpan):
            self.tracer.start(name, span.context, start_ns=time.time_ns() - int(waited_s * 1e9)).end()

    async def prune_forever(self) -> None:
        """Forget shared documents past their keep, so a long run does not fill the disk."""
        while True:
            await asyncio.sleep(_PRUNE_EVERY_S)
            while self.documents.prune(time.time() - _DOCUMENTS_KEPT_S):  # noqa: ASYNC110 - paced on purpose
                await asyncio.sleep(0.05)

    async def close(self, deadline_s: float) -> None:
        """Give up what still runs, then close everything, spans last."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self.peers.close()
        self.documents.close()
        self.ledger.close()
        self.tracer.shutdown(deadline_s)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self.background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background work failed", exc_info=error)

    async def _login(self, request: web.Request, span: Span) -> web.Response:
        body = parse_object(await request.read())
        username, password = required_text(body, "username"), required_text(body, "password")
        token = self.authority.login(username, password, time.time())
        ttl_s = self.authority.token_ttl_s
        return web.json_response({"access_token": token, "token_type": "bearer", "expires_in": ttl_s})

    def _answer(self, handler: Handler, path: str, is_open: bool = False) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            headers = request.headers
            action = headers.get("X-Tidegate-Action")
            if action is not None and (run := headers.get("X-Tidegate-Run")) is not None:
                self.ledger.count(run, action)
            parent = read_trace_context(headers)
            span = self.tracer.start(f"{request.method} {path}", parent, "server")
            status = 499  # the client went away before an answer
            self.metrics.in_flight += 1
            try:
                response = await self._guarded(handler, request, span, is_open)
                status = response.status
                return response
            finally:
                self.metrics.in_flight -= 1
                self.metrics.answered(path, status)
                if not isinstance(span, NoSpan):
                    span.set({"http.request.method": request.method, "http.response.status_code": status})
                    if status >= 499:
                        span.fail(f"answered {status}")
                    span.end()

        return answer

    async def _guarded(self, handler: Handler, request: web.Request, span: Span, is_open: bool) -> web.StreamResponse:
        try:
            if not is_open:
                self.authority.check(request.headers.get("Authorization"), time.time())
                await self.faults.wait_while_hanging()
                if self.faults.strikes():
                    return problem(500, "fault injected")
            return await handler(request, span)
        except AuthError as error:
            return problem(401, str(error))
        except BadRequestError as error:
            return problem(400, str(error))
        except PeerError as error:
            return problem(502, str(error))


def problem(status: int, message: str) -> web.Response:
    """A JSON error answer."""
    return web.json_response({"error": message}, status=status)
