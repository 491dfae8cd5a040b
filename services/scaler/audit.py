"""Adapter of the stream SCALING: one audit chain per service, read from its end and appended to without forks.

An append names the position of the subject's last message, so of two writers one is refused. After an answer that was
lost the subject is read again: the same hash there means it was kept.
"""

import asyncio
import json
import logging
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import BadRequestError, NotFoundError
from pydantic import ValidationError

from services.scaler.chain import Head, link, verify
from shared.contracts.scaling import ScalingRecord
from shared.errors import TidegateError, TransientError
from shared.reading import read_from, read_last, read_since
from shared.subjects import Subjects

ATTEMPTS = 4
BACKOFF_S = 0.1
PUBLISH_TIMEOUT_S = 2.0
REACH = timedelta(hours=6)
"""How far back one who takes over reads where nothing tells the position of the last decision. A chain of a month can
be more than a subscription holds, and then it would never be read."""
STEP = timedelta(hours=1)
LONGEST = timedelta(days=30)
"""What SCALING keeps."""

MICROSECOND = timedelta(microseconds=1)

logger = logging.getLogger(__name__)


class ChainMovedError(TidegateError):
    """Another scaler has appended: what this one knows of the service is out of date."""


@dataclass(frozen=True, slots=True)
class Past:
    """A chain as read: its records, its end, and what is wrong with it. ``decided``: position of the last decision."""

    records: tuple[ScalingRecord, ...]
    head: Head
    faults: tuple[str, ...]
    decided: int = 0


class AuditStream:
    """Reads and appends; who may do so, and what, is the caller's business."""

    def __init__(self, js: JetStreamContext, subjects: Subjects) -> None:
        self._js, self._subjects = js, subjects
        self._stream = subjects.stream("SCALING")

    async def read(self, service: str, decided: int = 0, reach: timedelta = REACH) -> Past:
        """The chain of a service from its last decision on, at position ``decided``; where it is not known or gone, as
        far back from its end as ``reach``, further where no decision is among that. Raises ``TransientError``."""
        subject = self._subjects.scaling(service)
        try:
            past = _past(service, await read_from(self._js, self._stream, subject, decided)) if decided else None
            if past is not None and past.records and past.records[0].kind == "decision":
                return past
            last = await read_last(self._js, self._stream, subject)
            while last:
                # The client's timestamp is a float's, up to a microsecond late.
                since = last[0].metadata.timestamp - reach - MICROSECOND
                messages = await read_since(self._js, self._stream, subject, since)
                past = _past(service, messages)
                if past.decided or reach > LONGEST:
                    return past
                reach = 2 * reach + STEP
        except (NatsError, TimeoutError) as error:
            raise TransientError(f"SCALING of {service} was not read: {error or type(error).__name__}") from error
        return _past(service, [])

    async def append(self, head: Head, record: ScalingRecord, headers: dict[str, str]) -> tuple[ScalingRecord, Head]:
        """Link, seal and publish; returns the record as kept and the new end.

        Raises ``ChainMovedError`` when another wrote first, ``TransientError`` when it is not known to be kept.
        """
        sealed = link(head, record)
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))
            try:
                position = await self._publish(sealed, head.position, headers)
                if position is None:
                    position = await self._kept_at(sealed)
            except (NatsError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
                continue
            if position is None:
                problem = "not kept"
                continue
            return sealed, Head(sealed.sequence, sealed.hash, position)
        raise TransientError(f"record {sealed.sequence} of {sealed.service} is not confirmed: {problem}")

    async def _publish(self, record: ScalingRecord, last: int, headers: dict[str, str]) -> int | None:
        """The position it was kept at; None when the answer was a refusal or was lost."""
        expected = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(last), **headers}
        subject = self._subjects.scaling(record.service)
        try:
            ack = await self._js.publish(
                subject, record.model_dump_json().encode(), headers=expected, timeout=PUBLISH_TIMEOUT_S
            )
        except BadRequestError:
            return None
        except (NatsError, TimeoutError) as error:
            logger.warning("record %d of %s: %s", record.sequence, record.service, error or type(error).__name__)
            return None
        return int(ack.seq)

    async def _kept_at(self, record: ScalingRecord) -> int | None:
        """Where the record stands if it is the last one, None if it was not kept; else another has written."""
        try:
            last = await self._js.get_last_msg(self._stream, self._subjects.scaling(record.service))
        except NotFoundError:
            return None
        found = json.loads(last.data or b"{}")
        if found.get("hash") == record.hash:
            return int(last.seq or 0)
        if found.get("hash") == record.previous_hash:
            return None
        raise ChainMovedError(f"{record.service}: another wrote record {found.get('sequence')} first")


def _past(service: str, messages: list[Msg]) -> Past:
    raw: list[dict[str, Any]] = []
    records, position, decided = [], 0, 0
    for message in messages:
        position = int(message.metadata.sequence.stream)
        try:
            found = json.loads(message.data)
            if isinstance(found, dict):
                raw.append(found)
            records.append(ScalingRecord.model_validate(found))
        except (ValidationError, ValueError) as error:
            logger.error("%s: message %d is no scaling record: %s", service, position, str(error).splitlines()[0])  # noqa: TRY400
            continue
        if records[-1].kind == "decision":
            decided = position
    last = raw[-1] if raw else {}
    head = Head(int(last.get("sequence", 0)), str(last.get("hash", Head().hash)), position)
    return Past(tuple(records), head, tuple(verify(raw)), decided)
