"""Adapter of a supervisor's HTTP API: replicas as local processes, the platform's or a stack's generator workers."""

import asyncio
import logging
import random
from typing import Any

import aiohttp
from pydantic import Field, ValidationError

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.target import FencedError, RefusedError
from shared.config import describe
from shared.contracts.base import Message
from shared.errors import TransientError

ATTEMPTS = 3
BACKOFF_S = 0.1
RETRIED_STATUSES = frozenset({408, 429})

logger = logging.getLogger(__name__)


class _Instance(Message):
    state: str = ""


class _Sizes(Message):
    cpu_limit_cores: float | None = None
    memory_limit_mib: float | None = None
    cpu_reserved_cores: float = 0.0
    memory_reserved_mib: float = 0.0


class _Service(Message):
    """``looping``: replicas that ended soon after their start, more than once in a row, and are started again."""

    desired: int = Field(ge=0)
    ready: int = Field(ge=0)
    starting: int = Field(default=0, ge=0)
    looping: int = Field(default=0, ge=0)
    updating: bool = False
    room: int | None = Field(default=None, ge=0)
    sizes: _Sizes = _Sizes()
    instances: tuple[_Instance, ...] = ()


class LocalTarget:
    """Speaks to one supervisor. The session belongs to the caller."""

    dry_run = False

    def __init__(self, session: aiohttp.ClientSession, url: str, timeout_s: float) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def observe(self, service: str) -> Observation:
        state = await self._read(service)
        return Observation(
            desired=state.desired,
            ready=state.ready,
            starting=state.starting,
            unhealthy=state.looping + sum(instance.state == "unhealthy" for instance in state.instances),
            restarting=state.looping,
            updating=state.updating,
        )

    async def room(self, service: str) -> int | None:
        return (await self._read(service)).room

    async def sizes(self, service: str) -> Sizes:
        told = (await self._read(service)).sizes
        return Sizes(
            cpu_limit=told.cpu_limit_cores,
            memory_limit=told.memory_limit_mib,
            cpu_reserved=told.cpu_reserved_cores or None,
            memory_reserved=told.memory_reserved_mib or None,
        )

    async def set_sizes(self, service: str, sizes: Sizes, epoch: int, decision: str) -> None:
        """Replaces the replicas one by one. Each must have limits, which the supervisor's ratios are of."""
        if sizes.cpu_limit is None or sizes.memory_limit is None:
            raise RefusedError(f"{service}: sizes need cpu_limit and memory_limit; the supervisor has none without")
        wanted = {
            "cpu_limit_cores": sizes.cpu_limit,
            "memory_limit_mib": sizes.memory_limit,
            "cpu_reserved_cores": sizes.cpu_reserved or 0.0,
            "memory_reserved_mib": sizes.memory_reserved or 0.0,
        }
        body = {"sizes": wanted, "epoch": epoch, "decision": decision}
        await self._ask("PUT", f"/services/{service}/sizes", body)

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        body = {"replicas": replicas, "epoch": epoch, "decision": decision}
        await self._ask("PUT", f"/services/{service}/replicas", body)

    async def _read(self, service: str) -> _Service:
        answer = await self._ask("GET", f"/services/{service}")
        try:
            return _Service.model_validate(answer)
        except ValidationError as error:
            raise RefusedError(f"the supervisor's answer on {service}: {describe(error)}") from error

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Both verbs are idempotent, so an answer that was lost is asked for again, a few times."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))
            try:
                async with self._session.request(
                    method, self._url + path, json=body, timeout=self._timeout, allow_redirects=False
                ) as response:
                    text = await response.text()
                    if response.status < 300:
                        return await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                problem = f"{method} {self._url}{path}: {error or type(error).__name__}"
                continue
            problem = f"{method} {self._url}{path}: {response.status} {text[:200].strip()}"
            if response.status == 409:
                raise FencedError(problem)
            if response.status < 500 and response.status not in RETRIED_STATUSES:
                raise RefusedError(problem)
        raise TransientError(problem)
