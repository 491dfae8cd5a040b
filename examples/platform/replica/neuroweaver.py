"""NeuroWeaver: specialised (automotive) model inference, plain or streamed, on a bounded number of servers."""

from __future__ import annotations

import asyncio
import time
import uuid

from aiohttp import web

from .fields import BadRequestError, bounded, optional, parse_object, required_text
from .routing import MODELS, estimate_tokens
from .service import Service, problem
from .tokens import generate_text, open_stream, stream_tokens
from .tracing import Span

_OFFERED = tuple(model.name for model in MODELS if model.provider == "neuroweaver")
_MODEL_OF_TASK = {"diagnostics": "automotive-70b"}


class NeuroWeaver:
    """The surface of NeuroWeaver on one replica. A model is loaded once per replica, when first asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loads: dict[str, asyncio.Task[None]] = {}
        service.route("GET", "/api/models", self.list_models)
        service.route("POST", "/api/models/select", self.select_model)
        service.route("POST", "/api/inference", self.infer)
        service.route("GET", "/api/inference/{id}", self.read_inference)

    async def list_models(self, request: web.Request, span: Span) -> web.Response:
        await self._service.api_work()
        models = [{"id": name, "domain": "automotive", "loaded": self._is_loaded(name)} for name in _OFFERED]
        return web.json_response({"models": models})

    async def select_model(self, request: web.Request, span: Span) -> web.Response:
        """Choose the model for a domain and load it; `load_time_ms` is this call's wait, 0 when it was resident."""
        body = parse_object(await request.read())
        domain, task = required_text(body, "domain"), optional(body, "task", str, "")
        if domain != "automotive":
            raise BadRequestError(f"domain: {domain!r} is not served; would be 'automotive'")
        await self._service.api_work()
        model = _MODEL_OF_TASK.get(task, _OFFERED[0])
        load_time_s = await self._load(model, span)
        return web.json_response({"model_id": model, "loaded": True, "load_time_ms": round(load_time_s * 1000, 3)})

    async def infer(self, request: web.Request, span: Span) -> web.StreamResponse:
        body = parse_object(await request.read())
        model, prompt = required_text(body, "model"), required_text(body, "prompt")
        count = bounded(body, "max_tokens", 16, 1, 4096)
        is_streamed = optional(body, "stream", bool, False)
        if model not in _OFFERED:
            return problem(404, f"model: {model!r} is not on offer; would be one of {', '.join(_OFFERED)}")
        service = self._service
        service.metrics.inferences_in_flight.inc()
        try:
            await self._load(model, span)
            async with service.work.seat() as seat:
                service.record_wait("neuroweaver.queue_wait", span, seat.waited_s)
                inner = service.tracer.start("neuroweaver.inference", span.context)
                inner.set({"model": model, "queue_wait_ms": seat.waited_s * 1000})
                try:
                    duration_s = service.draw_s("inference")
                    if is_streamed:
                        response = await open_stream(request)
                        await stream_tokens(response, prompt, count, duration_s)
                        seat.catch_up()
                        return response
                    await seat.work(duration_s)
                finally:
                    inner.end()
        finally:
            service.metrics.inferences_in_flight.dec()
        answer = {
            "id": f"inf-{uuid.uuid4().hex}",
            "model": model,
            "output": generate_text(prompt, count),
            "tokens": count,
            "usage": {"prompt_tokens": estimate_tokens(prompt), "completion_tokens": count},
            "inference_ms": round(duration_s * 1000, 3),
        }
        service.save(str(answer["id"]), answer)
        return web.json_response(answer)

    async def read_inference(self, request: web.Request, span: Span) -> web.Response:
        await self._service.api_work()
        inference = self._service.documents.get(request.match_info["id"])
        if inference is None:
            return problem(404, f"id: no inference {request.match_info['id']!r}")
        return web.json_response(inference)

    def _is_loaded(self, model: str) -> bool:
        load = self._loads.get(model)
        return load is not None and load.done()

    async def _load(self, model: str, span: Span) -> float:
        """Wait until `model` is resident; seconds waited. Callers that come during a load share it."""
        if self._is_loaded(model):
            return 0.0
        if model not in self._loads:
            self._loads[model] = asyncio.create_task(self._load_once())
        started_at = time.monotonic()
        inner = self._service.tracer.start("neuroweaver.model_load", span.context)
        try:
            await asyncio.shield(self._loads[model])
        finally:
            inner.end()
        return time.monotonic() - started_at

    async def _load_once(self) -> None:
        started_at = time.monotonic()
        await asyncio.sleep(self._service.draw_s("model_load"))
        self._service.metrics.model_load.observe(time.monotonic() - started_at)
