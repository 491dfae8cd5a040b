"""Adapter of the stream BREACHES: open episodes read from it, events appended to it once each.

Each subject is appended with the sequence expected of its last message, so that two validators never both write one
episode; a refused append whose last message is the very event was a lost answer and counts as done. The broker's own
duplicate window is not used: it would take another validator's event of the same revision for ours.
"""

import logging
from collections.abc import Mapping

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import BadRequestError, NotFoundError
from pydantic import ValidationError

from shared.bus import WRONG_LAST_SEQUENCE
from shared.contracts.breach import CONTENT_TYPE, Breach, BreachEvent
from shared.errors import TransientError
from shared.reading import read_last
from shared.subjects import Subjects

logger = logging.getLogger(__name__)


class StaleWriterError(Exception):
    """Another has written to this subject since it was read: what is known of its episode is out of date."""


class BreachStream:
    """Knows the last sequence of every subject it has read or written."""

    def __init__(self, js: JetStreamContext, subjects: Subjects) -> None:
        self._js, self._subjects = js, subjects
        self._stream = subjects.stream("BREACHES")
        self._last: dict[str, int] = {}

    async def read_last(self) -> list[Breach]:
        """The last event of every subject. A message that is no breach is logged and passed over."""
        self._last.clear()
        breaches = []
        subject = self._subjects.breach("*", "*", "*")
        for message in await read_last(self._js, self._stream, subject):
            self._last[message.subject] = message.metadata.sequence.stream
            event = _parse(message.data)
            if event is None:
                logger.warning("%s: the last message is no breach, passed over", message.subject)
            else:
                breaches.append(event.data)
        return breaches

    async def publish(self, event: BreachEvent, context: Mapping[str, str]) -> None:
        """Append one event and await the broker's word.

        Raises ``TransientError`` when it is not known whether it was kept (publish the same again), and
        ``StaleWriterError`` when another wrote first.
        """
        breach = event.data
        subject = self._subjects.breach(breach.system, breach.metric, breach.series)
        headers = {
            "Content-Type": CONTENT_TYPE,
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(self._last.get(subject, 0)),
            **context,
        }
        try:
            ack = await self._js.publish(subject, event.model_dump_json().encode(), headers=headers, timeout=2.0)
        except BadRequestError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise TransientError(f"breach {event.id} is refused: {error.description}") from error
            await self._reread(subject, event, error)
            return
        except (NatsError, TimeoutError) as error:
            raise TransientError(f"breach {event.id} is not confirmed: {error or type(error).__name__}") from error
        self._last[subject] = ack.seq

    async def _reread(self, subject: str, event: BreachEvent, cause: Exception) -> None:
        try:
            last = await self._js.get_last_msg(self._stream, subject)
        except NotFoundError:
            # Expired meanwhile: the subject is empty again.
            self._last.pop(subject, None)
            raise TransientError(f"breach {event.id}: its subject was emptied") from cause
        except (NatsError, TimeoutError) as error:
            raise TransientError(f"breach {event.id}: {error or type(error).__name__}") from error
        self._last[subject] = int(last.seq or 0)
        if _parse(last.data) != event:
            raise StaleWriterError(f"{subject}: another wrote before {event.id}") from cause


def _parse(body: bytes | None) -> BreachEvent | None:
    try:
        return BreachEvent.model_validate_json(body or b"")
    except ValidationError:
        return None
