"""How many frames wait in TIMINGS, asked of the broker now and then for ``/metrics``."""

import asyncio
import logging

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from services.collector.timings import CONSUMER
from shared import metrics
from shared.bus import Bus

EVERY_S = 5.0

logger = logging.getLogger(__name__)


async def watch_depth(bus: Bus, every_s: float = EVERY_S) -> None:
    """Until cancelled. While the broker does not answer the last word stands."""
    stream = bus.subjects.stream("TIMINGS")
    while True:
        if bus.connected:
            try:
                info = await bus.js.consumer_info(stream, CONSUMER)
            except (NatsError, APIError, TimeoutError) as error:
                logger.debug("depth of TIMINGS: %s", error)
            else:
                metrics.FRAMES_WAITING.set(info.num_pending or 0)
                metrics.FRAMES_UNSETTLED.set(info.num_ack_pending or 0)
        await asyncio.sleep(every_s)
