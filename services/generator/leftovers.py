"""Frames that a worker left on disk: published by any worker that finds them once the broker answers, then removed."""

import asyncio
import logging
from pathlib import Path

from nats.js import JetStreamContext

from services.generator.publisher import publish
from services.generator.spool import claim, read_parcels
from shared.errors import TransientError

SCAN_S = 1.0
logger = logging.getLogger(__name__)


async def publish_leftovers(js: JetStreamContext, folder: Path) -> None:
    """Publish every spool file that no living worker holds, whoever wrote it, until cancelled."""
    while True:
        for path in sorted(folder.glob("*.spool")):  # noqa: ASYNC240 - a folder of few files, seldom
            with claim(path) as ours:
                if ours:
                    await _publish_file(js, path)
        await asyncio.sleep(SCAN_S)


async def _publish_file(js: JetStreamContext, path: Path) -> None:
    count = 0
    try:
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
    except ValueError as error:
        logger.error("%s is damaged after %d frames (%s); put aside", path, count, error)  # noqa: TRY400
        path.rename(path.with_suffix(".damaged"))  # noqa: ASYNC240 - one file, seldom
        return
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - one file, seldom
    logger.info("published %d frames left in %s", count, path)
