"""AutoMatrix: creates and executes workflows whose AI tasks go through RelayCore."""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from .capacity import Seat
from .fields import BadRequestError, optional, parse_object, required_text
from .peers import PeerError
from .service import Service, problem
from .tracing import Span

_MAX_STEPS = 50


def read_workflow(body: dict[str, Any]) -> dict[str, Any]:
    """The workflow in `body`; BadRequestError names the field at fault."""
    steps = body.get("steps")
    if not isinstance(steps, list) or not 1 <= len(steps) <= _MAX_STEPS:
        raise BadRequestError(f"steps: is not a list of 1 to {_MAX_STEPS} steps")
    return {
        "name": required_text(body, "name"),
        "description": optional(body, "description", str, ""),
        "steps": [_read_step(step, f"steps[{index}].") for index, step in enumerate(steps)],
    }


def _read_step(step: object, at: str) -> dict[str, Any]:
    if not isinstance(step, dict):
        raise BadRequestError(f"{at[:-1]}: is not an object")
    if step.get("type") != "ai_task":
        raise BadRequestError(f"{at}type: {step.get('type')!r} is unknown; would be 'ai_task'")
    return {"prompt": required_text(step, "prompt", at)} | _read_choice(step, at)


def _read_choice(body: dict[str, Any], at: str = "") -> dict[str, Any]:
    """What `body` says about the model; fields it leaves out stay out."""
    choice: dict[str, Any] = {}
    if "model_preference" in body:
        choice["model_preference"] = optional(body, "model_preference", str, "", at)
    if "use_specialized_model" in body:
        choice["use_specialized_model"] = optional(body, "use_specialized_model", bool, False, at)
    if "strategy" in body:
        choice["strategy"] = optional(body, "strategy", str, "balanced", at)
    return choice


class AutoMatrix:
    """The surface of AutoMatrix on one replica. A workflow's state is its latest execution's."""

    def __init__(self, service: Service) -> None:
        self._service = service
        service.route("POST", "/api/workflows", self.create)
        service.route("POST", "/api/workflows/{id}/execute", self.execute)
        service.route("GET", "/api/workflows/{id}/status", self.read_status)
        service.route("GET", "/api/workflows/{id}/results", self.read_results)

    async def create(self, request: web.Request, span: Span) -> web.Response:
        workflow = read_workflow(parse_object(await request.read()))
        await self._service.api_work()
        id_ = f"wf-{uuid.uuid4().hex}"
        document = {"id": id_, **workflow, "status": "created", "progress": 0.0, "execution_id": None}
        self._service.save(id_, document)
        return web.json_response({"id": id_, "name": workflow["name"], "status": "created"}, status=201)

    async def execute(self, request: web.Request, span: Span) -> web.Response:
        """Start the workflow in the background; the body may override its steps' choice of model."""
        override = _read_choice(parse_object(await request.read()))
        workflow = self._service.documents.get(request.match_info["id"])
        if workflow is None:
            return _no_workflow(request)
        await self._service.api_work()
        workflow |= {"execution_id": f"ex-{uuid.uuid4().hex}", "status": "queued", "progress": 0.0, "results": []}
        workflow.pop("error", None)
        self._service.save(workflow["id"], workflow)
        self._service.start_background(self._execute(workflow, override, span))
        return web.json_response({"execution_id": workflow["execution_id"], "status": "running"})

    async def read_status(self, request: web.Request, span: Span) -> web.Response:
        await self._service.api_work()
        workflow = self._service.documents.get(request.match_info["id"])
        if workflow is None:
            return _no_workflow(request)
        shown = ("status", "progress", "execution_id", "error")
        return web.json_response({key: workflow[key] for key in shown if key in workflow})

    async def read_results(self, request: web.Request, span: Span) -> web.Response:
        await self._service.api_work()
        workflow = self._service.documents.get(request.match_info["id"])
        if workflow is None:
            return _no_workflow(request)
        if workflow["status"] not in ("completed", "failed"):
            return problem(409, f"workflow {workflow['id']} is {workflow['status']}")
        shown = ("status", "execution_id", "results", "error")
        return web.json_response({key: workflow[key] for key in shown if key in workflow})

    async def _execute(self, workflow: dict[str, Any], override: dict[str, Any], parent: Span) -> None:
        service = self._service
        span = service.tracer.start("autmatrix.execution", parent.context)
        span.set({"workflow.id": workflow["id"], "workflow.steps": len(workflow["steps"])})
        try:
            async with service.work.seat() as seat:
                service.record_wait("autmatrix.queue_wait", span, seat.waited_s)
                await service.faults.wait_while_hanging()
                seat.catch_up()
                workflow["status"] = "running"
                for index, step in enumerate(workflow["steps"]):
                    workflow["progress"] = index / len(workflow["steps"])
                    service.save(workflow["id"], workflow)
                    workflow["results"].append(await self._run_step(index, step | override, seat, span))
            workflow |= {"status": "completed", "progress": 1.0}
        except PeerError as error:
            workflow |= {"status": "failed", "error": str(error)}
            span.fail(str(error))
        except BaseException:
            workflow |= {"status": "failed", "error": "the execution was interrupted"}
            span.fail("interrupted")
            raise
        finally:
            service.save(workflow["id"], workflow)
            span.end()

    async def _run_step(self, index: int, step: dict[str, Any], seat: Seat, span: Span) -> dict[str, Any]:
        """Do AutoMatrix's own work of one step, then have RelayCore answer it."""
        await seat.work(self._service.draw_s("execution"))
        answer = await self._service.peers.post("relaycore", "/api/ai/requests", {**step, "wait": True}, span.context)
        seat.catch_up()
        routing = answer["routing"]
        return {
            "step": index,
            "output": answer["output"],
            "model": answer["model"],
            "routing": routing,
            "system": "neuroweaver" if routing["provider"] == "neuroweaver" else "relaycore",
            "trace_id": span.context.trace_id,
        }


def _no_workflow(request: web.Request) -> web.Response:
    return problem(404, f"id: no workflow {request.match_info['id']!r}")
