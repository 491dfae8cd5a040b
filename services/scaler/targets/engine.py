"""The way to a Docker Engine, for the targets that speak to one: its API through the Docker SDK, and whose fault it is.

The SDK blocks, so its calls run in threads of this connection. Version 1.41 of the API, that of Docker 20.10, or newer.
"""

import asyncio
import functools
import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import docker
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.errors import APIError, DockerException, create_api_error_from_http_exception
from docker.utils import kwargs_from_env
from requests.exceptions import HTTPError, RequestException

from services.scaler.targets.target import RefusedError
from shared.errors import ConfigError, TransientError
from shared.offload import Offload
from shared.unix_socket import probe

THREADS = 8
LEAST_VERSION = "1.41"
ATTEMPTS = 3
BACKOFF_S = 0.1
RETRIED_STATUSES = frozenset({408, 429})
ACTING_S = 10.0
"""A change, such as the start of a container, may take so long where a look may not."""
NO_MANAGER = "not a swarm manager"

T = TypeVar("T")


class EngineConnection:
    """Shared by the services whose target is the engine at ``url``, or at ``DOCKER_HOST`` where there is none."""

    def __init__(self, url: str | None, timeout_s: float) -> None:
        """Connects to nothing yet. Raises ``ConfigError`` for what leads to no engine, whether one runs or not."""
        self._where, self._timeout_s = _where(url), timeout_s
        self._offload = Offload(f"the Docker Engine at {url or 'DOCKER_HOST'}", THREADS, timeout_s)
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def ask(self, call: Callable[[Any], T], *, acting: bool = False) -> T:
        """What ``call`` makes of a ``docker.APIClient``. It has to be idempotent: after a passing fault it is made
        again, a few times, but not where an answer did not come in time.

        Raises ``RefusedError`` for an answer that would be the same again, ``TransientError`` for one that never came.
        Errors of the package itself pass through.
        """
        timeout_s = max(self._timeout_s, ACTING_S) if acting else self._timeout_s
        problem: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))
            try:
                client = await self._connected()
                return await self._offload.run(functools.partial(self._call, call, client), timeout_s)
            except APIError as error:
                if refuses(error):
                    raise RefusedError(f"Docker Engine: {error.explanation} ({error.status_code})") from error
                problem = error
            except (DockerException, RequestException, OSError) as error:
                self._disconnect()
                problem = error
        raise TransientError(f"Docker Engine: {problem}") from problem

    async def _connected(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._offload.run(functools.partial(self._call, self._open))
            return self._client

    def _open(self) -> Any:
        """A client that speaks the engine's own version of the API. Raises what the SDK raises."""
        timeout_s = max(self._timeout_s, ACTING_S)
        return docker.APIClient(
            **self._where, version="auto", timeout=timeout_s, num_pools=THREADS, max_pool_size=THREADS
        )

    def _call(self, call: Callable[..., T], *arguments: object) -> T:
        """Make the call unless no engine listens: of that the SDK tells at length, and leaves the socket open."""
        probe(self._where.get("base_url") or DEFAULT_UNIX_SOCKET, self._timeout_s)
        return call(*arguments)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Does not wait for what hangs."""
        self._disconnect()
        self._offload.close()


def refuses(error: Any) -> bool:
    """Whether an ``APIError`` is an answer that would be the same again."""
    status = error.status_code or 500
    return NO_MANAGER in str(error.explanation) or (status < 500 and status not in RETRIED_STATUSES)


def post(client: Any, path: str, body: Mapping[str, Any], **parameters: object) -> None:
    """Send a body that the SDK's own methods cannot carry whole. Raises what they raise."""
    url = f"{client.base_url}/v{client.api_version}{path}"
    response = client.post(url, json=body, params=parameters, timeout=client.timeout)
    try:
        response.raise_for_status()
    except HTTPError as error:
        raise create_api_error_from_http_exception(error) from error


def _where(url: str | None) -> dict[str, Any]:
    try:
        where = {**kwargs_from_env(), **({"base_url": url} if url else {})}
        docker.APIClient(**where, version=LEAST_VERSION).close()
    except DockerException as error:
        raise ConfigError(
            f"{url or 'DOCKER_HOST'}: {error}; it is like unix:///var/run/docker.sock or tcp://host:2376"
        ) from error
    return where
