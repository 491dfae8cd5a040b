"""What the validator keeps of a run beyond its own life: all that WINDOWS of the last minutes cannot tell again.

That is which frames were merged, the generator's health, duplicates, users over time, and the position in WINDOWS up
to which they are counted. Cells are left out: they are read again, from as far back as windows reach. So a checkpoint
stays small, however long the run is, and whatever the load. Pure; where it is kept is ``checkpoint_store.py``'s.
"""

import zlib
from dataclasses import asdict
from datetime import timedelta

from pydantic import Field, ValidationError

from services.validator.board import RunBoard, UsersAt
from services.validator.generator_course import GeneratorCourse
from services.validator.health import GeneratorHealth
from services.validator.producer import Line, Producer
from services.validator.windows import SystemWindows
from shared.contracts.base import Instant, Message
from shared.contracts.sources import KEPT_S, LATE_S
from shared.contracts.timing import Kind

READ_AGAIN = timedelta(seconds=KEPT_S + LATE_S)
"""So far before a checkpoint WINDOWS is read again; what windows hold of that time came later than this."""
MOST_MISSING = 1_000
"""Ranges of frames given up that are kept per producer; the oldest are forgotten, and would count as redelivered."""


class ProducerState(Message):
    """One worker and epoch. ``missing``: ranges of frames given up, ends included; ``ahead``: watermarks by seq."""

    worker: str
    epoch: int
    contiguous: int
    watermark_us: int | None
    missing: tuple[tuple[int, int], ...] = ()
    ahead: dict[int, int] = Field(default_factory=dict)
    final_seq: int | None = None
    heard_us: int = 0
    retired: bool = False


class SystemState(Message):
    """Windows of one system but for their cells. ``duplicates``: scenario, action, kind, count."""

    watermark_us: int | None
    producers: tuple[ProducerState, ...] = ()
    health: dict[str, int]
    duplicates: tuple[tuple[str, str, int, int], ...] = ()
    heard: tuple[int, ...] = ()
    faults: tuple[int, ...] = ()


class Position(Message):
    """The last message of WINDOWS that was merged, and when it was stored."""

    sequence: int
    at: Instant


class CourseState(Message):
    """The generator's worst of each step of time."""

    step_s: int = 1
    worst: dict[int, tuple[int, int, int, int]] = Field(default_factory=dict)


class Checkpoint(Message):
    """One run as of message ``position`` of WINDOWS, which was stored ``at``."""

    run: str
    position: int
    at: Instant
    heard_us: int
    users: tuple[tuple[int, int, int], ...] = ()
    generator: CourseState = CourseState()
    systems: dict[str, SystemState] = Field(default_factory=dict)

    def packed(self) -> bytes:
        return zlib.compress(self.model_dump_json().encode(), 1)

    @classmethod
    def unpacked(cls, body: bytes) -> "Checkpoint":
        """Raises ``ValueError`` for what is no checkpoint."""
        try:
            return cls.model_validate_json(zlib.decompress(body))
        except (zlib.error, ValidationError) as error:
            raise ValueError(f"not a checkpoint: {error}") from error


def capture(board: RunBoard, position: int, at: Instant) -> Checkpoint:
    """A run as it stands."""
    return Checkpoint(
        run=board.run,
        position=position,
        at=at,
        heard_us=board.heard_us,
        users=tuple((one.second, one.users, one.in_flight) for one in board.users),
        generator=CourseState(step_s=board.generator.step_s, worst=board.generator.worst),
        systems={system: _capture(windows) for system, windows in board.windows.items()},
    )


def restore(board: RunBoard, saved: Checkpoint, now_us: int) -> None:
    """Give a fresh board what a checkpoint holds; cells come with ``SystemWindows.replay``.

    Workers are as silent as they were: nobody listened since.
    """
    unheard_us = max(0, now_us - int(saved.at.timestamp() * 1e6))
    board.joined_late = False
    board.heard_us = saved.heard_us
    board.users = [UsersAt(*one) for one in saved.users]
    board.generator = GeneratorCourse(saved.generator.step_s, saved.generator.worst)
    board.windows = {system: _restored(state, unheard_us) for system, state in saved.systems.items()}


def _capture(windows: SystemWindows) -> SystemState:
    producers = [(key, one, False) for key, one in windows.producers.items()]
    producers += [(key, one, True) for key, one in windows.retired.items()]
    return SystemState(
        watermark_us=windows.watermark_us,
        producers=tuple(
            ProducerState(
                worker=worker,
                epoch=epoch,
                contiguous=one.sequence.contiguous,
                watermark_us=one.sequence.watermark_us,
                missing=tuple(ranges_of(one.sequence.missing)[-MOST_MISSING:]),
                ahead=one.sequence.ahead,
                final_seq=one.final_seq,
                heard_us=one.heard_us,
                retired=retired,
            )
            for (worker, epoch), one, retired in producers
        ),
        health=asdict(windows.health),
        duplicates=tuple((*line[:2], int(line[2]), count) for line, count in windows.duplicates.items()),
        heard=tuple(windows.heard),
        faults=tuple(windows.faults),
    )


def _restored(state: SystemState, unheard_us: int) -> SystemWindows:
    windows = SystemWindows()
    windows.watermark_us = state.watermark_us
    windows.health = GeneratorHealth(**state.health)
    windows.heard, windows.faults = set(state.heard), set(state.faults)
    for scenario, action, kind, count in state.duplicates:
        line: Line = (scenario, action, Kind(kind))
        windows.duplicates[line] = count
    for saved in state.producers:
        producer = Producer()
        producer.sequence.contiguous = saved.contiguous
        producer.sequence.watermark_us = saved.watermark_us
        producer.sequence.ahead.update(saved.ahead)
        producer.sequence.missing = {seq for first, last in saved.missing for seq in range(first, last + 1)}
        producer.final_seq, producer.heard_us = saved.final_seq, saved.heard_us + unheard_us
        (windows.retired if saved.retired else windows.producers)[saved.worker, saved.epoch] = producer
    return windows


def ranges_of(numbers: set[int]) -> list[tuple[int, int]]:
    """Whole numbers as ranges, ends included, in order."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges
