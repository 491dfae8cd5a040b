"""Everything one worker knows of its requests to one system in one epoch, cut into frames on demand.

Pure: readings of the monotonic clock (µs) are passed in. A request is due (in line), then sent (in flight), then done
(a row). Workflows and groups pass through the same states.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.generator.transport import Response
from shared.clock import Anchor
from shared.contracts.frame import MAX_ACTIONS, ActionState, Frame, FrameId, Health
from shared.contracts.timing import ROW_DTYPE, ROW_FORMAT, Check, ErrorKind, Kind
from shared.histogram import buckets_of

_pack = struct.Struct(ROW_FORMAT).pack
_U32 = 0xFFFF_FFFF
MAX_EVENTS = 1_000
# A request sent later than this by the generator's own doing says nothing of the target: its frames are at fault.
LATE_AT_FAULT_US = 250_000
NO_TRACE = bytes(16)


@dataclass(slots=True)
class _Action:
    scenario: str
    name: str
    kind: Kind


class Ticket:
    """One request on its way; ``sent_us`` is None while it waits in line."""

    __slots__ = ("action", "intended_us", "sent_us", "user")

    def __init__(self, action: int, intended_us: int, user: int, sent_us: int | None) -> None:
        self.action, self.intended_us, self.user, self.sent_us = action, intended_us, user, sent_us


class InLine(Protocol):
    """An arrival that waits for a free user."""

    @property
    def due_us(self) -> int: ...


class EventStream:
    """Events of one (run, worker, epoch, system); ``cut`` empties it into the next frame."""

    def __init__(self, run: str, worker: str, epoch: int, system: str, anchor: Anchor) -> None:
        self.system = system
        self._identity = (run, worker, epoch, system)
        self._anchor = anchor
        self._zero_us = anchor.monotonic_us
        self._actions: list[_Action] = []
        self._sent: list[int] = []
        self._index: dict[tuple[str, str, Kind], int] = {}
        self._tickets: set[Ticket] = set()
        self._lines: list[tuple[int, Collection[InLine]]] = []
        self._rows = bytearray()
        self._seq = 0
        self._schedule_error_us = 0
        self._late: set[Ticket] = set()
        self._late_answered = False
        self.last_cut_us = anchor.monotonic_us

    @property
    def pending(self) -> int:
        """Rows not yet cut into frames."""
        return len(self._rows) // ROW_DTYPE.itemsize

    @property
    def sent(self) -> int:
        """Requests sent in this epoch; workflows and groups are not requests."""
        return sum(sent for action, sent in zip(self._actions, self._sent, strict=True) if action.kind is Kind.REQUEST)

    @property
    def in_flight(self) -> int:
        requests = {index for index, action in enumerate(self._actions) if action.kind is Kind.REQUEST}
        return sum(1 for ticket in self._tickets if ticket.sent_us is not None and ticket.action in requests)

    def declare(self, scenario: str, name: str, kind: Kind) -> int:
        """Row of an action in the table, made on first use; ``ValueError`` past 256 of them."""
        key = (scenario, name, kind)
        if key not in self._index:
            if len(self._actions) >= MAX_ACTIONS:
                raise ValueError(f"{self.system} has more than {MAX_ACTIONS} actions")
            self._index[key] = len(self._actions)
            self._actions.append(_Action(scenario, name, kind))
            self._sent.append(0)
        return self._index[key]

    def watch_line(self, action: int, line: Collection[InLine]) -> None:
        """Show arrivals that wait for a free user in every frame from now on."""
        self._lines.append((action, line))

    def due(self, action: int, intended_us: int, user: int) -> Ticket:
        """A request is due and may not be sent yet: it waits in line until it is dropped from there."""
        ticket = Ticket(action, intended_us, user, None)
        self._tickets.add(ticket)
        return ticket

    def begin(self, action: int, intended_us: int, user: int, now_us: int, *, own_delay: bool) -> Ticket:
        """It is handed to the transport. ``own_delay``: lateness was the generator's, not a busy user's."""
        sent_us = max(now_us, intended_us)
        ticket = Ticket(action, intended_us, user, sent_us)
        self._tickets.add(ticket)
        self._sent[action] += 1
        if own_delay and sent_us - intended_us > self._schedule_error_us:
            self._schedule_error_us = sent_us - intended_us
        if own_delay and sent_us - intended_us > LATE_AT_FAULT_US:
            self._late.add(ticket)
        return ticket

    def finish(
        self, ticket: Ticket, response: Response, error: ErrorKind, check: Check, attempt: int, flags: int,
        trace_id: bytes,
    ) -> None:  # fmt: skip
        """It ended: one row. What does not fit its column becomes the most that does."""
        sent_us = ticket.sent_us
        if sent_us is None:
            raise ValueError("a request that was never sent cannot have ended")
        self._tickets.discard(ticket)
        if self._late and ticket in self._late:
            self._late.discard(ticket)
            self._late_answered = True
        try:
            self._rows += _pack(
                ticket.intended_us - self._zero_us,
                sent_us - ticket.intended_us,
                response.done_us - sent_us,
                response.ttfb_us,
                response.connect_us,
                response.bytes_in,
                response.bytes_out,
                ticket.user,
                response.ttft_us,
                response.gap_us,
                response.tokens,
                response.status,
                ticket.action,
                attempt,
                error,
                check,
                flags,
                trace_id,
            )
        except struct.error:
            self._rows += _pack(
                ticket.intended_us - self._zero_us,
                min(sent_us - ticket.intended_us, _U32),
                min(max(response.done_us - sent_us, 0), _U32),
                min(response.ttfb_us, _U32),
                min(response.connect_us, _U32),
                min(response.bytes_in, _U32),
                min(response.bytes_out, _U32),
                ticket.user & _U32,
                min(response.ttft_us, _U32),
                min(response.gap_us, _U32),
                min(response.tokens, _U32),
                response.status & 0xFFFF,
                ticket.action,
                min(attempt, 255),
                error,
                check,
                flags,
                trace_id,
            )

    def refuse(self, action: int, intended_us: int, user: int, now_us: int, flags: int = 0) -> None:
        """An arrival that is not served, because its line is full or its run has ended: a row all the same."""
        ticket = self.begin(action, intended_us, user, now_us, own_delay=False)
        self.finish(ticket, Response(now_us), ErrorKind.REFUSED, Check.NONE, 0, flags, NO_TRACE)

    def drop(self, ticket: Ticket) -> None:
        """It left the line without being sent; without effect on what has ended."""
        self._tickets.discard(ticket)

    def cut(self, now_us: int, health: Health, *, at_fault: bool = False, final: bool = False) -> list[Frame]:
        """Every row so far in frames of at most ``MAX_EVENTS``; one frame without rows as a heartbeat.

        Only the last of them moves the watermark and is ``final``. They are at fault, too, when something was
        sent late since the cut before by the generator's own doing, or something that was is answered in them.
        """
        at_fault = at_fault or self._late_answered or self._schedule_error_us > LATE_AT_FAULT_US
        rows = np.frombuffer(bytes(self._rows), ROW_DTYPE)
        last = max(0, len(rows) - 1) // MAX_EVENTS * MAX_EVENTS
        frames = [
            self._frame(
                now_us,
                rows[at : at + MAX_EVENTS],
                health,
                at_fault=at_fault,
                final=final and at == last,
                last=at == last,
            )
            for at in range(0, last + 1, MAX_EVENTS)
        ]
        self._rows.clear()
        self._schedule_error_us, self._late_answered = 0, False
        self.last_cut_us = now_us
        return frames

    def _frame(
        self, now_us: int, events: NDArray[np.void], health: Health, *, at_fault: bool, final: bool, last: bool
    ) -> Frame:
        self._seq += 1
        run, worker, epoch, system = self._identity
        relative = now_us - self._anchor.monotonic_us
        return Frame(
            id=FrameId(run, worker, epoch, system, self._seq),
            anchor_wall_us=self._anchor.wall_us,
            anchor_monotonic_us=self._anchor.monotonic_us,
            watermark_us=relative if last else self.last_cut_us - self._anchor.monotonic_us,
            emitted_us=relative,
            actions=self._states(now_us),
            events=events,
            health=Health(
                health.loop_lag_us,
                min(self._schedule_error_us, _U32),
                health.cpu_permille,
                health.backlog_events,
                health.spooled_events,
            ),
            final=final,
            at_fault=at_fault,
        )

    def _states(self, now_us: int) -> tuple[ActionState, ...]:
        in_flight: list[list[int]] = [[] for _ in self._actions]
        waiting: list[list[int]] = [[] for _ in self._actions]
        for ticket in self._tickets:
            if ticket.sent_us is not None:
                in_flight[ticket.action].append(ticket.intended_us)
            elif ticket.intended_us <= now_us:
                waiting[ticket.action].append(ticket.intended_us)
        for index, line in self._lines:
            waiting[index].extend(arrival.due_us for arrival in line)
        return tuple(
            ActionState(
                action.scenario,
                action.name,
                action.kind,
                self._sent[i],
                len(in_flight[i]),
                len(waiting[i]),
                _ages(in_flight[i] + waiting[i], now_us),
            )
            for i, action in enumerate(self._actions)
        )


def _ages(intended_us: list[int], now_us: int) -> dict[int, int]:
    """How many of them have which age, by histogram bucket."""
    if not intended_us:
        return {}
    buckets, counts = np.unique(buckets_of(now_us - np.array(intended_us, np.int64)), return_counts=True)
    return dict(zip(buckets.tolist(), counts.tolist(), strict=True))
