"""Adapter of a Docker Engine: its containers that are instances of a service, read through the Docker SDK.

The SDK blocks, so its calls run in threads of this source. The lease is on the engine's own identity: of two collectors
that reach it, by whatever ways, one reads it. Needs version 1.41 of the API, that of Docker 20.10, or newer.
"""

import asyncio
import functools
import logging
import time
from typing import Any

import docker
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.errors import DockerException, NotFound
from docker.utils import kwargs_from_env
from requests.exceptions import RequestException

from services.collector.complaints import Complaints
from services.collector.docker_stats import Container, life_of, pick, takes_traffic, usage_of
from services.collector.source import Seen
from services.collector.source_config import DockerSpec
from services.collector.usage import Past, Usage, kept
from shared.errors import BadMessageError, TransientError
from shared.offload import Offload
from shared.subjects import token
from shared.unix_socket import probe

THREADS = 8

logger = logging.getLogger(__name__)


class DockerEngine:
    """A ``Source``."""

    def __init__(self, spec: DockerSpec) -> None:
        self.name = spec.title
        self._spec = spec
        self._offload = Offload(self.name, THREADS, spec.timeout_s)
        self._complaints = Complaints(logger)
        self._client: Any = None
        self._past = Past()

    async def lease_key(self) -> str:
        client = await self._connected()
        identity = str((await self._ask(client.info)).get("ID") or "")
        return f"sampler.{self.name}.engine-{token(identity)}"

    async def read(self) -> list[Seen]:
        client = await self._connected()
        try:
            listed = await self._ask(client.containers)
        except TransientError:
            self._disconnect()
            raise
        picked = [container for one in listed if (container := pick(one, self._spec.containers)) is not None]
        if not picked:
            raise TransientError(
                "the engine runs no container that is an instance of a service; label them tidegate.service=NAME or "
                "name their label under containers:"
            )
        seen = await asyncio.gather(*(self._see(client, container) for container in picked))
        self._past.end_round()
        return [one for one in seen if one is not None]

    def forget(self) -> None:
        self._past.forget()

    async def close(self) -> None:
        self._disconnect()
        self._offload.close()

    async def _connected(self) -> Any:
        if self._client is None:
            self._client = await self._ask(functools.partial(_connect, self._spec.url, self._spec.timeout_s))
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _see(self, client: Any, container: Container) -> Seen | None:
        what = f"container {container.instance}"
        try:
            inspected, usage = await self._ask(functools.partial(_read, client, container.id))
        except (TransientError, BadMessageError) as error:
            self._complaints.miss(what, error)
            return None
        if usage is None:
            return None  # it went away between the list and the question
        self._complaints.hit(what)
        values = self._past.step(container.id, life_of(inspected), usage)
        return Seen(
            container.service,
            container.system,
            container.instance,
            kept(values, self._spec.keep),
            ready=takes_traffic(inspected),
        )

    async def _ask(self, call: Any) -> Any:
        try:
            return await self._offload.run(call)
        except (DockerException, RequestException, OSError) as error:
            raise TransientError(f"Docker Engine: {error}") from error


def _connect(url: str | None, timeout_s: float) -> Any:
    """A client that speaks the engine's own version of the API. Raises what the SDK raises."""
    where = {"base_url": url} if url else kwargs_from_env()
    probe(where.get("base_url") or DEFAULT_UNIX_SOCKET, timeout_s)
    return docker.APIClient(**where, version="auto", timeout=timeout_s, num_pools=THREADS, max_pool_size=THREADS)


def _read(client: Any, container_id: str) -> tuple[dict[str, Any], Usage | None]:
    """What the engine says of one container now. Raises what the SDK raises, and ``BadMessageError``."""
    try:
        # Inspected first: a start in between then ends in counters that went back, not in a rate across it.
        inspected = client.inspect_container(container_id)
        stats = client.stats(container_id, stream=False, one_shot=True)
    except NotFound:
        return {}, None
    return inspected, usage_of(inspected, stats, time.monotonic())
