"""The frame: one NATS message with up to about a thousand timing events of one worker and system, in columns.

Byte layout, little endian, no padding beyond what is written (``docs/contracts/frame.md`` explains it field by
field and ``tests/unit/golden/`` holds frames that must stay readable):

    header    96 bytes  ``HEADER``
    names    name_count x (u16 length, UTF-8 bytes); 0 is the run, 1 the worker, 2 the system
    actions  action_count x 24 bytes  ``ACTION``
    ages     age_count x 8 bytes  ``AGE``: sparse histogram of the ages of requests in flight or in line
    columns  for each of ``COLUMNS`` in order, event_count values
    crc      u32, CRC-32 (zlib) of everything before it

A frame is identified by (run, worker, epoch, system, seq); seq counts from 1 without gaps per epoch and system.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.contracts.timing import COLUMNS, ROW_DTYPE, EventColumns, Events, Kind
from shared.errors import BadMessageError

MAGIC = b"TGF1"
HEADER = struct.Struct("<4sHHIQQqqqqIIIIIHHH10x")
ACTION = struct.Struct("<HHBxHQII")
AGE = struct.Struct("<HHI")
MAX_ACTIONS = 256
FLAG_FINAL = 1
FLAG_AT_FAULT = 2


class FrameError(BadMessageError):
    """The bytes are not a whole, undamaged frame; the message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class FrameId:
    """Identity of a frame; a second one with the same identity is a redelivery."""

    run: str
    worker: str
    epoch: int
    system: str
    seq: int


@dataclass(frozen=True, slots=True)
class ActionState:
    """One action as the worker sees it when the frame is cut.

    ``sent``: cumulative count in this epoch of requests handed to the transport (workflows: started).
    ``in_flight`` sent and unanswered; ``waiting``: due but not yet sent. ``ages``: sparse histogram
    (``shared.histogram`` buckets) of now − intended of both.
    """

    scenario: str
    action: str
    kind: Kind
    sent: int = 0
    in_flight: int = 0
    waiting: int = 0
    ages: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """The generator's own state since the frame before: the evidence when it, not the target, was slow.

    ``loop_lag_us``: worst lateness of the event loop; ``schedule_error_us``: worst sent − intended that was not
    the target's doing; ``cpu_permille`` of one core; ``backlog_events``: cut but not yet acknowledged by the
    broker; ``spooled_events``: of these, on disk.
    """

    loop_lag_us: int = 0
    schedule_error_us: int = 0
    cpu_permille: int = 0
    backlog_events: int = 0
    spooled_events: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame, or one about to be encoded.

    The ``action`` column of ``events`` indexes ``actions``. ``watermark_us``
    and ``emitted_us`` are relative to the anchor: every event with ``done < watermark_us`` is in this frame or an
    earlier one of the same epoch and system.
    """

    id: FrameId
    anchor_wall_us: int
    anchor_monotonic_us: int
    watermark_us: int
    emitted_us: int
    actions: tuple[ActionState, ...]
    events: Events
    health: Health = field(default_factory=Health)
    final: bool = False
    at_fault: bool = False

    @property
    def done_wall_us(self) -> NDArray[np.int64]:
        """When each event was done, µs since the Unix epoch."""
        done: NDArray[np.int64] = (
            self.events["intended_us"]
            + self.events["dispatch_us"].astype(np.int64)
            + self.events["service_us"]
            + self.anchor_wall_us
        )
        return done


def encode(frame: Frame) -> bytes:
    """Bytes of a frame. Raises ``ValueError`` for more than 256 actions or names past 65,535 bytes."""
    if len(frame.actions) > MAX_ACTIONS:
        raise ValueError(f"a frame carries at most {MAX_ACTIONS} actions, not {len(frame.actions)}")
    names: dict[str, int] = {}
    listed: list[bytes] = []

    def index(text: str, *, fresh: bool = False) -> int:
        if fresh or text not in names:
            raw = text.encode()
            if len(raw) > 0xFFFF:
                raise ValueError(f"name of {len(raw)} bytes is longer than 65535")
            names[text] = len(listed)
            listed.append(len(raw).to_bytes(2, "little") + raw)
        return names[text]

    for text in (frame.id.run, frame.id.worker, frame.id.system):
        index(text, fresh=True)
    actions = bytearray()
    ages = bytearray()
    age_count = 0
    for number, state in enumerate(frame.actions):
        actions += ACTION.pack(
            index(state.scenario),
            index(state.action),
            state.kind,
            0,
            state.sent,
            state.in_flight,
            state.waiting,
        )
        for bucket, count in sorted(state.ages.items()):
            ages += AGE.pack(number, bucket, count)
            age_count += 1
    health = frame.health
    header = HEADER.pack(
        MAGIC,
        HEADER.size,
        FLAG_FINAL * frame.final | FLAG_AT_FAULT * frame.at_fault,
        len(frame.events),
        frame.id.epoch,
        frame.id.seq,
        frame.anchor_wall_us,
        frame.anchor_monotonic_us,
        frame.watermark_us,
        frame.emitted_us,
        health.loop_lag_us,
        health.schedule_error_us,
        health.cpu_permille,
        health.backlog_events,
        health.spooled_events,
        len(listed),
        len(frame.actions),
        age_count,
    )
    columns = [np.ascontiguousarray(frame.events[name]).tobytes() for name, _ in COLUMNS]
    body = b"".join((header, *listed, bytes(actions), bytes(ages), *columns))
    return body + zlib.crc32(body).to_bytes(4, "little")


def decode(data: bytes) -> Frame:
    """Frame of these bytes, checked whole; raises ``FrameError`` with the reason for anything else."""
    if len(data) < HEADER.size + 4:
        raise FrameError(f"{len(data)} bytes are fewer than a frame's header of {HEADER.size}")
    if data[:4] != MAGIC:
        raise FrameError(f"begins with {data[:4]!r}, a frame with {MAGIC!r}")
    if zlib.crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
        raise FrameError("checksum does not match: the frame was damaged or cut short")
    try:
        return _decode(data)
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise FrameError(f"malformed frame: {error}") from error


def _decode(data: bytes) -> Frame:
    (
        _,
        header_bytes,
        flags,
        event_count,
        epoch,
        seq,
        anchor_wall_us,
        anchor_monotonic_us,
        watermark_us,
        emitted_us,
        lag,
        schedule_error,
        cpu,
        backlog,
        spooled,
        name_count,
        action_count,
        age_count,
    ) = HEADER.unpack_from(data)
    at = header_bytes
    names: list[str] = []
    for _ in range(name_count):
        size = int.from_bytes(data[at : at + 2], "little")
        names.append(data[at + 2 : at + 2 + size].decode())
        at += 2 + size
    rows = list(ACTION.iter_unpack(data[at : at + ACTION.size * action_count]))
    at += ACTION.size * action_count
    ages: list[dict[int, int]] = [{} for _ in rows]
    for number, bucket, count in AGE.iter_unpack(data[at : at + AGE.size * age_count]):
        ages[number][bucket] = count
    at += AGE.size * age_count
    if len(data) != at + event_count * ROW_DTYPE.itemsize + 4:
        raise FrameError(
            f"{len(data)} bytes, but {event_count} events need {at + event_count * ROW_DTYPE.itemsize + 4}"
        )
    # Copied once, so that every column is aligned: the widest stand first.
    body = np.frombuffer(data, np.uint8, event_count * ROW_DTYPE.itemsize, at).copy()
    columns: dict[str, NDArray[Any]] = {}
    at = 0
    for name, kind in COLUMNS:
        columns[name] = np.frombuffer(body, kind, event_count, at)
        at += columns[name].nbytes
    events = EventColumns(columns, event_count)
    if event_count and int(columns["action"].max()) >= action_count:
        raise FrameError(f"an event names action {int(columns['action'].max())} of {action_count}")
    return Frame(
        id=FrameId(names[0], names[1], epoch, names[2], seq),
        anchor_wall_us=anchor_wall_us,
        anchor_monotonic_us=anchor_monotonic_us,
        watermark_us=watermark_us,
        emitted_us=emitted_us,
        actions=tuple(
            ActionState(names[scenario], names[action], Kind(kind), sent, in_flight, waiting, ages[number])
            for number, (scenario, action, kind, _, sent, in_flight, waiting) in enumerate(rows)
        ),
        events=events,
        health=Health(lag, schedule_error, cpu, backlog, spooled),
        final=bool(flags & FLAG_FINAL),
        at_fault=bool(flags & FLAG_AT_FAULT),
    )
