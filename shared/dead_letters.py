"""How a message that cannot be processed gets to DEAD; when, and how many of them are too many, is its reader's."""

import base64
import logging
from datetime import UTC, datetime

from shared import metrics
from shared.bus import Bus, publish_now
from shared.contracts.dead import DeadLetter

MAX_BODY_BYTES = 512 * 1024
"""Of the original; in base64 it still fits a message."""

logger = logging.getLogger(__name__)


async def bury(bus: Bus, service: str, *, subject: str, stream: str, sequence: int, body: bytes, reason: str) -> None:
    """Return when the letter is kept, once however often it is buried. Raises what nats-py raises."""
    logger.error("%s %d on %s to DEAD: %s", stream, sequence, subject, reason)
    if len(body) > MAX_BODY_BYTES:
        reason = f"{reason} (only the first {MAX_BODY_BYTES} of {len(body)} bytes are kept)"
    letter = DeadLetter(
        service=service,
        environment=bus.subjects.environment,
        subject=subject,
        stream=stream,
        sequence=sequence,
        reason=reason,
        at=datetime.now(UTC),
        body=base64.b64encode(body[:MAX_BODY_BYTES]).decode(),
    )
    # A message that comes again, to this process or to a standby, is one letter.
    headers = {"Nats-Msg-Id": f"{service}.{stream}.{sequence}"}
    await publish_now(bus.js, bus.subjects.dead(service), letter.model_dump_json().encode(), headers)
    metrics.DEAD_LETTERS.labels(service).inc()
