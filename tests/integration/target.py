"""A small real HTTP target that counts what it received, with the surface a scenario needs."""

import asyncio
from collections import Counter

from aiohttp import web


class Target:
    """Counts per action; ``delay_s``, ``password`` and ``expires_in`` (of tokens, s) are set by the test."""

    def __init__(self, *, delay_s: float = 0.002, password: str = "right", expires_in: int = 900) -> None:
        self.expires_in = expires_in
        self.delay_s = delay_s
        self.password = password
        self.counts: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.traceparents: list[str] = []
        self.user_agents: set[str] = set()
        app = web.Application(middlewares=[self._count])
        app.add_routes(
            [
                web.post("/login", self._login),
                web.post("/things", self._create),
                web.get("/things/{id}", self._show),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> "Target":
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @web.middleware
    async def _count(self, request: web.Request, handler: object) -> web.StreamResponse:
        self.counts[request.headers.get("X-Tidegate-Action", "?")] += 1
        self.arrivals.append(asyncio.get_running_loop().time())
        self.traceparents.append(request.headers.get("traceparent", ""))
        self.user_agents.add(request.headers.get("User-Agent", ""))
        await asyncio.sleep(self.delay_s)
        return await handler(request)  # type: ignore[operator,no-any-return]

    async def _login(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("password") != self.password:
            return web.json_response({"error": "invalid credentials"}, status=401)
        return web.json_response({"access_token": f"token-of-{body['username']}", "expires_in": self.expires_in})

    async def _create(self, request: web.Request) -> web.Response:
        if not request.headers.get("Authorization", "").startswith("Bearer token-of-user-"):
            return web.json_response({"error": "unauthorized"}, status=401)
        return web.json_response({"id": "7", "state": "new"}, status=201)

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response({"id": "7", "state": "done"})
