"""RelayCore: routes AI requests to models by cost and latency, and has NeuroWeaver answer the specialised ones."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .fields import BadRequestError, bounded, optional, parse_object, required_text
from .peers import PeerError
from .routing import STRATEGIES, RoutingDecision, Strategy, decide_route, estimate_tokens
from .service import Service, problem
from .tokens import generate_text, open_stream, stream_tokens
from .tracing import Span


@dataclass(frozen=True)
class AiRequest:
    """An AI request as the caller put it."""

    id: str
    prompt: str
    preference: str | None
    is_specialized: bool
    strategy: Strategy
    max_tokens: int
    waits: bool
    is_streamed: bool

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> AiRequest:
        """BadRequestError names the field at fault."""
        named = optional(body, "strategy", str, "balanced")
        strategy = next((known for known in STRATEGIES if known == named), None)
        if strategy is None:
            raise BadRequestError(f"strategy: {named!r} is unknown; would be one of {', '.join(STRATEGIES)}")
        return cls(
            id=f"air-{uuid.uuid4().hex}",
            prompt=required_text(body, "prompt"),
            preference=optional(body, "model_preference", str, "") or None,
            is_specialized=optional(body, "use_specialized_model", bool, False),
            strategy=strategy,
            max_tokens=bounded(body, "max_tokens", 16, 1, 4096),
            waits=optional(body, "wait", bool, False),
            is_streamed=optional(body, "stream", bool, False),
        )


@dataclass(frozen=True)
class Routed:
    """A routing decision with what it took."""

    decision: RoutingDecision
    routing_latency_ms: float
    cost_optimization_ms: float

    def as_json(self) -> dict[str, Any]:
        return self.decision.as_json() | {
            "routing_latency_ms": self.routing_latency_ms,
            "cost_optimization_ms": self.cost_optimization_ms,
        }


class RelayCore:
    """The surface of RelayCore on one replica."""

    def __init__(self, service: Service) -> None:
        self._service = service
        service.route("POST", "/api/ai/requests", self.submit)
        service.route("GET", "/api/ai/requests/{id}", self.read_request)
        service.route("GET", "/api/ai/requests/{id}/routing", self.read_routing)

    async def submit(self, request: web.Request, span: Span) -> web.StreamResponse:
        asked = AiRequest.from_body(parse_object(await request.read()))
        if asked.is_streamed:
            return await self._stream(request, asked, span)
        if asked.waits:
            return web.json_response(await self._complete(asked, span))
        self._service.save(asked.id, {"id": asked.id, "status": "accepted"})
        self._service.start_background(self._complete_later(asked, span))
        return web.json_response({"id": asked.id, "status": "accepted"}, status=202)

    async def read_request(self, request: web.Request, span: Span) -> web.Response:
        await self._service.api_work()
        document = self._service.documents.get(request.match_info["id"])
        if document is None:
            return problem(404, f"id: no AI request {request.match_info['id']!r}")
        return web.json_response(document)

    async def read_routing(self, request: web.Request, span: Span) -> web.Response:
        await self._service.api_work()
        document = self._service.documents.get(request.match_info["id"])
        if document is None:
            return problem(404, f"id: no AI request {request.match_info['id']!r}")
        if "routing" not in document:
            return problem(409, f"AI request {document['id']} is not routed yet")
        return web.json_response(document["routing"])

    async def _complete(self, asked: AiRequest, span: Span) -> dict[str, Any]:
        """Route the request, have it answered, and keep the outcome. PeerError when the model failed."""
        routed = await self._route(asked, span)
        document: dict[str, Any] = {"id": asked.id, "status": "routed", "routing": routed.as_json()}
        if not asked.waits:
            self._service.save(asked.id, document)
        try:
            output = await self._ask_model(asked, routed.decision, span)
        except PeerError as error:
            self._service.save(asked.id, document | {"status": "failed", "error": str(error)})
            raise
        document |= {
            "status": "completed",
            "output": output,
            "model": routed.decision.model,
            "usage": {"prompt_tokens": estimate_tokens(asked.prompt), "completion_tokens": asked.max_tokens},
        }
        self._service.save(asked.id, document)
        return document

    async def _complete_later(self, asked: AiRequest, span: Span) -> None:
        try:
            await self._complete(asked, span)
        except PeerError:
            return  # kept as failed, where the caller will look

    async def _route(self, asked: AiRequest, span: Span) -> Routed:
        """Wait for a router and decide. The latency is the wait and the routing together."""
        service = self._service
        arrived_at = time.monotonic()
        whole = service.tracer.start("relaycore.routing", span.context)
        async with service.work.seat() as seat:
            service.record_wait("relaycore.queue_wait", whole, seat.waited_s)
            inner = service.tracer.start("relaycore.route", whole.context)
            optimizing = service.tracer.start("relaycore.cost_optimization", inner.context)
            began_at = time.monotonic()
            routing_s, optimization_s = service.draw_s("routing"), service.draw_s("cost_optimization")
            await seat.work(min(optimization_s, routing_s))
            optimized_at = time.monotonic()
            optimizing.end()
            tokens = estimate_tokens(asked.prompt) + asked.max_tokens
            decision = decide_route(tokens, asked.strategy, asked.preference, asked.is_specialized)
            await seat.work(max(0.0, routing_s - optimization_s))
            inner.set({"model": decision.model, "strategy": decision.strategy})
            inner.set({"queue_wait_ms": seat.waited_s * 1000})
            inner.end()
        whole.end()
        latency_s, cost_optimization_s = time.monotonic() - arrived_at, optimized_at - began_at
        service.metrics.routing_latency.observe(latency_s)
        service.metrics.cost_optimization.observe(cost_optimization_s)
        return Routed(decision, round(latency_s * 1000, 3), round(cost_optimization_s * 1000, 3))

    async def _ask_model(self, asked: AiRequest, decision: RoutingDecision, span: Span) -> str:
        if decision.provider != "neuroweaver":
            await asyncio.sleep(self._service.draw_s("provider"))
            return generate_text(asked.prompt, asked.max_tokens)
        body = {"model": decision.model, "prompt": asked.prompt, "max_tokens": asked.max_tokens}
        answer = await self._service.peers.post("neuroweaver", "/api/inference", body, span.context)
        return str(answer["output"])

    async def _stream(self, request: web.Request, asked: AiRequest, span: Span) -> web.StreamResponse:
        routed = await self._route(asked, span)
        self._service.save(asked.id, {"id": asked.id, "status": "completed", "routing": routed.as_json()})
        if routed.decision.provider != "neuroweaver":
            response = await open_stream(request)
            await stream_tokens(response, asked.prompt, asked.max_tokens, self._service.draw_s("provider"))
            return response
        body = {"model": routed.decision.model, "prompt": asked.prompt, "max_tokens": asked.max_tokens}
        peers = self._service.peers
        async with peers.open("neuroweaver", "/api/inference", body | {"stream": True}, span.context) as upstream:
            response = await open_stream(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
