"""Steps that need code: a coroutine of the user's own, named by import path and found on the worker itself."""

import importlib
import inspect
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from services.generator.transport import Response
from shared.errors import ConfigError


class Answer:
    """What a request of a flow brought. ``headers`` has lower-case names."""

    def __init__(self, response: Response) -> None:
        self.status, self.body = response.status, response.body
        self.headers = {name.lower(): value for name, value in response.headers}

    def json(self) -> Any:
        """The document; ``ValueError`` when the body is none."""
        return json.loads(self.body)


Send = Callable[[str, str, str, Mapping[str, str], bytes | None, Collection[int] | None], Awaitable[Response]]
"""Action, method, path, headers, body and the statuses that are good: one request, timed and recorded."""


class Flow:
    """What a flow may do as one user; given to the coroutine as its only argument.

    ``variables`` are the user's: what the coroutine puts there, later steps may name if the step's ``gives`` says so.
    """

    def __init__(
        self, action: str, variables: dict[str, Any], send: Send, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self.variables = variables
        self._action, self._send, self._sleep = action, send, sleep

    async def request(
        self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None,
        action: str | None = None, status: Collection[int] | None = None,
    ) -> Answer:  # fmt: skip
        """Send one request to the step's system; ``body`` is bytes, or is sent as JSON.

        It is recorded as ``action`` (the step's own unless given). Where its status is none of ``status`` (below 400
        where that is None), or no answer comes, the iteration has failed and the coroutine is left.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return Answer(await self._send(action or self._action, method, path, headers or {}, data, status))

    async def sleep(self, seconds: float) -> None:
        """Pause as a user would; it ends at once when the load does."""
        await self._sleep(seconds)


def load_flow(path: str, allowed: Collection[str]) -> Callable[[Flow], Awaitable[None]]:
    """The coroutine function at ``package.module:name``.

    ``ConfigError`` when its module is not one that this worker allows, cannot be imported, or has no such coroutine.
    """
    module_name, _, name = path.partition(":")
    if not any(module_name == module or module_name.startswith(f"{module}.") for module in allowed):
        raise ConfigError(f"call {path!r}: module {module_name!r} is not in TIDEGATE_FLOW_MODULES of this worker")
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:
        raise ConfigError(f"call {path!r}: importing {module_name} failed: {error!r}") from error
    if not inspect.iscoroutinefunction(found):
        raise ConfigError(f"call {path!r}: {name!r} is no coroutine function (async def) of {module_name}")
    return found
