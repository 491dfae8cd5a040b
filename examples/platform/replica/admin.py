"""The door of a replica for its supervisor and for Prometheus: health, metrics, counts, faults, orphans."""

from __future__ import annotations

import os
import time

from aiohttp import web

from .fields import parse_object
from .service import Service
from .spec import Fault

_CRASHED = 70
_UNFINISHED = ("queued", "running", "accepted", "routed")


class Admin:
    """Routes that are neither signed in, nor counted, nor struck by faults."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ready_at = time.monotonic() + service.spec.config.start_up_s
        router = service.app.router
        router.add_get("/health", self.read_health)
        router.add_get("/metrics", self.read_metrics)
        router.add_get("/admin/counts", self.read_counts)
        router.add_get("/admin/load", self.read_load)
        router.add_post("/admin/fault", self.set_fault)
        router.add_post("/admin/orphans", self.fail_orphans)

    async def read_health(self, request: web.Request) -> web.Response:
        spec = self._service.spec
        body = {"status": "ok", "service": spec.service, "instance": spec.instance, "pid": os.getpid()}
        if time.monotonic() < self._ready_at:
            return web.json_response(body | {"status": "starting"}, status=503)
        return web.json_response(body)

    async def read_metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._service.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def read_counts(self, request: web.Request) -> web.Response:
        return web.json_response(self._service.ledger.counts(request.query.get("run")))

    async def read_load(self, request: web.Request) -> web.Response:
        """What a drain waits for: requests being answered and work that goes on behind an answer."""
        service = self._service
        return web.json_response({"in_flight": service.metrics.in_flight, "background": len(service.background)})

    async def set_fault(self, request: web.Request) -> web.Response:
        """The supervisor has validated the fault."""
        fault = Fault(**parse_object(await request.read()))
        if fault.kind == "crash":
            os._exit(_CRASHED)
        self._service.faults.set(fault)
        return web.Response(status=204)

    async def fail_orphans(self, request: web.Request) -> web.Response:
        """Mark as failed what an instance that died was working on, so nobody waits for it."""
        instance = parse_object(await request.read())["instance"]
        orphans = self._service.documents.unfinished(instance, _UNFINISHED)
        for id_, document in orphans:
            self._service.save(id_, document | {"status": "failed", "error": f"{instance} died"})
        return web.json_response({"failed": len(orphans)})
