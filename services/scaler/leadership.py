"""Who acts: the one scaler of the environment that holds the lease ``scaler``; the others stand by."""

import asyncio
import logging
from collections.abc import Callable

from nats.js.kv import KeyValue

from shared.lease import Lease

KEY = "scaler"
logger = logging.getLogger(__name__)


class Leadership:
    """Keeps trying for the lease, renews it once held, and wakes the controllers when it is won."""

    def __init__(self, bucket: KeyValue, scaler_id: str, renew_s: float, wake: Callable[[], None]) -> None:
        self._lease = Lease(bucket, KEY)
        self._value = scaler_id.encode()
        self._renew_s = renew_s
        self._wake = wake

    @property
    def held(self) -> bool:
        """Ask right before acting: it turns False on its own when a renewal stays unconfirmed."""
        return self._lease.held

    @property
    def epoch(self) -> int:
        """Grows with each time the lease changes hands."""
        return self._lease.epoch

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            if self._lease.lost:
                if await self._lease.acquire(self._value):
                    logger.info("this scaler acts from now on, epoch %d", self._lease.epoch)
                    self._wake()
            elif not await self._lease.renew(self._value) and self._lease.lost:
                logger.warning("another scaler acts from now on")
            await asyncio.sleep(self._renew_s)

    async def step_down(self) -> None:
        """Give the lease back and act no more until it is won again, with a later epoch."""
        await self._lease.release()
