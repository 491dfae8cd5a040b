"""Everything one worker knows of its requests to one system in one epoch, cut into frames on demand.

Pure: readings of the monotonic clock (µs) are passed in. A request is ``due`` (in line), then ``sent`` (in flight),
then ``done`` (a row). Workflows pass through the same states.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.clock import Anchor
from shared.contracts.frame import MAX_ACTIONS, ActionState, Frame, FrameId, Health
from shared.contracts.timing import ROW_DTYPE, ROW_FORMAT, Check, ErrorKind, Kind
from shared.histogram import bucket_of

_ROW = struct.Struct(ROW_FORMAT)
_U32 = 0xFFFF_FFFF
MAX_EVENTS = 1_000


@dataclass(slots=True)
class _Action:
    scenario: str
    name: str
    kind: Kind
    sent: int = 0


@dataclass(slots=True)
class Ticket:
    """One request on its way; ``sent_us`` is None while it waits in line."""

    action: int
    intended_us: int
    user: int
    sent_us: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. Durations in µs count from sent; ``trace_id`` is 16 bytes."""

    done_us: int
    error: ErrorKind = ErrorKind.OK
    status: int = 0
    check: Check = Check.NONE
    ttfb_us: int = 0
    connect_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    ttft_us: int = 0
    gap_us: int = 0
    tokens: int = 0
    attempt: int = 0
    flags: int = 0
    trace_id: bytes = bytes(16)


class EventStream:
    """Events of one (run, worker, epoch, system); ``cut`` empties it into the next frame."""

    def __init__(self, run: str, worker: str, epoch: int, system: str, anchor: Anchor) -> None:
        self.system = system
        self._identity = (run, worker, epoch, system)
        self._anchor = anchor
        self._actions: list[_Action] = []
        self._index: dict[tuple[str, str, Kind], int] = {}
        self._tickets: dict[int, Ticket] = {}
        self._rows = bytearray()
        self._seq = 0
        self._schedule_error_us = 0
        self.pending = 0
        self.last_cut_us = anchor.monotonic_us

    @property
    def sent(self) -> int:
        """Requests sent in this epoch; workflows are not requests."""
        return sum(action.sent for action in self._actions if action.kind is Kind.REQUEST)

    @property
    def in_flight(self) -> int:
        return sum(
            1
            for ticket in self._tickets.values()
            if ticket.sent_us is not None and self._actions[ticket.action].kind is Kind.REQUEST
        )

    def declare(self, scenario: str, name: str, kind: Kind) -> int:
        """Row of an action in the table, made on first use; ``ValueError`` past 256 of them."""
        key = (scenario, name, kind)
        if key not in self._index:
            if len(self._actions) >= MAX_ACTIONS:
                raise ValueError(f"{self.system} has more than {MAX_ACTIONS} actions")
            self._index[key] = len(self._actions)
            self._actions.append(_Action(scenario, name, kind))
        return self._index[key]

    def due(self, action: int, intended_us: int, user: int) -> Ticket:
        """A request is due and not yet sent: it waits in line."""
        ticket = Ticket(action, intended_us, user)
        self._tickets[id(ticket)] = ticket
        return ticket

    def send(self, ticket: Ticket, now_us: int, *, own_delay: bool = True) -> None:
        """It is handed to the transport. ``own_delay``: lateness was the generator's, not a busy user's."""
        ticket.sent_us = max(now_us, ticket.intended_us)
        self._actions[ticket.action].sent += 1
        if own_delay:
            self._schedule_error_us = max(self._schedule_error_us, ticket.sent_us - ticket.intended_us)

    def finish(self, ticket: Ticket, outcome: Outcome) -> None:
        """It ended: one row."""
        del self._tickets[id(ticket)]
        if ticket.sent_us is None:
            raise ValueError("a request that was never sent cannot have ended")
        self._rows += _ROW.pack(
            ticket.intended_us - self._anchor.monotonic_us,
            min(ticket.sent_us - ticket.intended_us, _U32),
            min(max(outcome.done_us - ticket.sent_us, 0), _U32),
            min(outcome.ttfb_us, _U32),
            min(outcome.connect_us, _U32),
            min(outcome.bytes_in, _U32),
            min(outcome.bytes_out, _U32),
            ticket.user & _U32,
            min(outcome.ttft_us, _U32),
            min(outcome.gap_us, _U32),
            min(outcome.tokens, _U32),
            outcome.status & 0xFFFF,
            ticket.action,
            min(outcome.attempt, 255),
            outcome.error,
            outcome.check,
            outcome.flags,
            outcome.trace_id,
        )
        self.pending += 1

    def drop(self, ticket: Ticket) -> None:
        """It left the line without being sent; without effect on what has ended."""
        self._tickets.pop(id(ticket), None)

    def cut(self, now_us: int, health: Health, *, at_fault: bool = False, final: bool = False) -> list[Frame]:
        """Every row so far in frames of at most ``MAX_EVENTS``; one frame without rows as a heartbeat.

        Only the last of them moves the watermark and is ``final``.
        """
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
        self.pending = 0
        self._schedule_error_us = 0
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
        in_flight = [0] * len(self._actions)
        waiting = [0] * len(self._actions)
        ages: list[dict[int, int]] = [{} for _ in self._actions]
        for ticket in self._tickets.values():
            if ticket.sent_us is not None:
                in_flight[ticket.action] += 1
            elif ticket.intended_us <= now_us:
                waiting[ticket.action] += 1
            else:
                continue
            bucket = bucket_of(now_us - ticket.intended_us)
            ages[ticket.action][bucket] = ages[ticket.action].get(bucket, 0) + 1
        return tuple(
            ActionState(action.scenario, action.name, action.kind, action.sent, in_flight[i], waiting[i], ages[i])
            for i, action in enumerate(self._actions)
        )
