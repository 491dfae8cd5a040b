"""The small HTTP door of every service: ``/health`` for readiness, ``/metrics`` for Prometheus, and its own routes."""

import os
from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared import metrics
from shared.errors import ConfigError


class HttpDoor:
    """Serves until closed. ``ready`` returns the reasons why the service is not ready, none when it is."""

    def __init__(
        self,
        host: str,
        port: int,
        ready: Callable[[], list[str]],
        routes: Iterable[web.RouteDef] = (),
        *,
        max_body_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self._host, self._port, self._ready = host, port, ready
        app = web.Application(client_max_size=max_body_bytes)
        app.add_routes([web.get("/health", self._health), web.get("/metrics", self._metrics), *routes])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)

    async def __aenter__(self) -> "HttpDoor":
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"TIDEGATE_HTTP_PORT={self._port}: cannot listen on {self._host}: {os.strerror(error.errno or 0)}; "
                "choose another port, or 0 for a free one"
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Base URL with the port that was really bound."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def _health(self, _: web.Request) -> web.Response:
        reasons = self._ready()
        return web.json_response(
            {"status": "unready" if reasons else "ok", "reasons": reasons}, status=503 if reasons else 200
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
