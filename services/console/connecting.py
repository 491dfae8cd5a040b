"""The bus of a stack, or one line that it is not there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import nats.errors

from services.console.backing import Backing
from shared.bus import Bus, open_bus
from shared.errors import TransientError

CONNECT_S = 10.0


@asynccontextmanager
async def connected(stack: Backing) -> AsyncIterator[Bus]:
    """The bus of a stack; ``TransientError`` when it does not answer within ``CONNECT_S``."""
    async with AsyncExitStack() as opened:
        try:
            async with asyncio.timeout(CONNECT_S):
                bus = await opened.enter_async_context(open_bus(stack.nats_url, stack.environment, "console"))
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise TransientError(f"the bus did not answer within {CONNECT_S:g} s: {error!r}") from error
        yield bus
