"""What the validator hears: runs through FastStream, windows and resource samples straight from their streams.

A message that is no contract is logged and passed over: none of these streams is ours to empty into DEAD, and the
next message is as good. Nothing is judged before the past of WINDOWS has been read (``joined``).
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from faststream import AckPolicy
from faststream.nats import JStream, NatsMessage
from nats.js.api import ConsumerConfig, DeliverPolicy
from pydantic import BaseModel, ValidationError

from services.validator.checkpoint import READ_AGAIN, Checkpoint, Position
from services.validator.judging import Judge
from services.validator.stream_reader import follow
from shared import metrics
from shared.bus import Bus
from shared.clock import wall_us
from shared.config import describe
from shared.contracts.resource import ResourceSample
from shared.contracts.run import RunDesired, RunState
from shared.contracts.span_window import SpanWindows
from shared.contracts.window import FrameWindows
from shared.reading import raw_body

LOOK_BACK = timedelta(seconds=120)
QUIET_JOIN_S = 0.5
KEPT_CONSUMER_S = 3_600.0

M = TypeVar("M", bound=BaseModel)
logger = logging.getLogger(__name__)


class Inbox:
    """Feeds a judge. ``done``: runs whose report is final; what still comes of them is ignored. ``news`` is set by
    whatever is to be judged; who judges clears it.
    """

    def __init__(self, bus: Bus, judge: Judge, *, look_back: timedelta = LOOK_BACK) -> None:
        self._bus, self._judge = bus, judge
        self._since = datetime.now(UTC) - look_back
        self._heard_at = time.monotonic()
        self._counted: dict[str, int] = {}
        self._known = 0
        self.position: Position | None = None
        self.done: dict[str, None] = {}
        self.joined = False
        self.news = asyncio.Event()

    def listen(self) -> None:
        """Register what FastStream carries; the caller starts the broker afterwards."""
        subjects, broker = self._bus.subjects, self._bus.broker

        async def hear_desired(message: NatsMessage) -> None:
            desired = _parse(RunDesired, message.body, message.raw_message.subject)
            if desired is not None and desired.run not in self.done:
                self._judge.board(desired.run).note_desired(desired)

        async def hear_state(message: NatsMessage) -> None:
            state = _parse(RunState, message.body, message.raw_message.subject)
            if state is not None and state.run not in self.done:
                self._judge.board(state.run).note_state(state)

        for subject, hear in ((subjects.run_desired("*"), hear_desired), (subjects.run_state("*"), hear_state)):
            broker.subscriber(
                subject,
                stream=JStream(subjects.stream("RUNS"), declare=False),
                config=ConsumerConfig(
                    deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, inactive_threshold=KEPT_CONSUMER_S
                ),
                ack_policy=AckPolicy.NACK_ON_ERROR,
                decoder=raw_body,
            )(hear)

    def begin_at(self, position: Position, checkpoints: Iterable[Checkpoint]) -> None:
        """Read from before a position, where frames are counted already; only their cells are taken again."""
        self._known, self._counted = position.sequence, {one.run: one.position for one in checkpoints}
        self._since = position.at - READ_AGAIN
        self._judge.settle_joining()

    async def read_windows(self) -> None:
        """Merge every frame's windows, for ever."""
        subjects = self._bus.subjects
        async for message in follow(self._bus.js, subjects.stream("WINDOWS"), subjects.window("*", "*"), self._since):
            self._heard_at = time.monotonic()
            frame = _parse(FrameWindows, message.data, message.subject)
            sequence = message.metadata.sequence.stream
            if frame is not None and frame.run not in self.done:
                self._take(frame, sequence)
                self.news.set()
            self.position = Position(sequence=sequence, at=message.metadata.timestamp)
            if not self.joined and message.metadata.num_pending == 0:
                self._join()

    def _take(self, frame: FrameWindows, sequence: int) -> None:
        """Merge a frame; one that a checkpoint has counted gives its cells only, and none if its run is forgotten."""
        if sequence > self._counted.get(frame.run, self._known):
            self._judge.board(frame.run).merge(frame, wall_us())
            metrics.FRAMES_MERGED.inc()
        elif frame.run in self._counted:
            self._judge.board(frame.run).replay(frame)

    async def read_resources(self) -> None:
        """Keep every resource sample, for ever."""
        subjects = self._bus.subjects
        async for message in follow(self._bus.js, subjects.stream("RESOURCES"), subjects.resource("*"), self._since):
            sample = _parse(ResourceSample, message.data, message.subject)
            if sample is not None:
                self._judge.resources.add(sample)
                self.news.set()

    async def read_spans(self) -> None:
        """Merge what is told of named spans, for ever."""
        subjects = self._bus.subjects
        async for message in follow(self._bus.js, subjects.stream("RESOURCES"), subjects.span("*"), self._since):
            windows = _parse(SpanWindows, message.data, message.subject)
            if windows is not None:
                self._judge.spans.merge(windows)

    def look(self) -> None:
        """Take an empty or quiet stream for one whose past has been read."""
        if not self.joined and self._bus.connected and time.monotonic() - self._heard_at > QUIET_JOIN_S:
            self._join()

    def finish(self, run: str) -> None:
        """Forget a run whose report is final."""
        self.done[run] = None
        while len(self.done) > 10_000:
            self.done.pop(next(iter(self.done)))
        self._judge.forget(run)

    def _join(self) -> None:
        self.joined = True
        self._counted.clear()
        self._judge.settle_joining()


def _parse(kind: type[M], body: bytes, subject: str) -> M | None:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        logger.error("ignored %s: %s", subject, describe(error))  # noqa: TRY400 - the sender's fault, no traceback
        return None
