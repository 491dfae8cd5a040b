"""Who acts: of several processes the one that holds a lease; the others stand by and keep asking for it."""

import asyncio
import logging
from collections.abc import Callable

from shared.lease import RENEW_S, Lease

logger = logging.getLogger(__name__)


async def keep(
    lease: Lease,
    value: bytes,
    *,
    won: Callable[[], None] | None = None,
    every_s: float = RENEW_S,
    ask_every_s: float = RENEW_S,
) -> None:
    """Renew the lease each ``every_s``, or ask for it each ``ask_every_s``, until cancelled; ``won`` is called each
    time it has become ours. Nothing tells that a lease has expired: one that is free is taken when next asked for.

    Whoever acts asks ``lease.held`` right before: it turns False on its own when renewals stay unconfirmed.
    """
    while True:
        if lease.lost:
            if await lease.acquire(value):
                logger.info("%s: this process acts from now on, epoch %d", lease.key, lease.epoch)
                if won is not None:
                    won()
        elif not await lease.renew(value) and lease.lost:
            logger.warning("%s: another process acts from now on", lease.key)
        await asyncio.sleep(ask_every_s if lease.lost else every_s)
