"""Frames that an earlier life of this worker left on disk: published once the broker answers, then forgotten."""

import asyncio
import logging
from pathlib import Path

from nats.js import JetStreamContext

from services.generator.publisher import publish
from services.generator.settings import GeneratorSettings
from services.generator.spool import read_parcels
from shared.errors import TransientError

logger = logging.getLogger(__name__)


async def publish_leftovers(js: JetStreamContext, settings: GeneratorSettings) -> None:
    """Publish every spool file of this worker that was there at start; then wait to be cancelled."""
    files = sorted(settings.spool_dir.glob(f"{settings.worker_id}-*.spool"))
    for path in files:
        await _publish_file(js, path)
    await asyncio.Event().wait()


async def _publish_file(js: JetStreamContext, path: Path) -> None:
    count = 0
    for parcel, _ in read_parcels(path):
        delay_s = 0.1
        while True:
            try:
                await publish(js, parcel)
            except TransientError as error:
                logger.warning("leftover frame %s waits: %s", parcel.message_id, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)
                continue
            break
        count += 1
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - one file, at start
    logger.info("published %d frames left by an earlier start in %s", count, path.name)
