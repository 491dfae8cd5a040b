"""One worker in one epoch against one system, as its frames tell: sequence, watermark, what it sent, what is stuck."""

from services.validator.sequence import Sequence
from shared.contracts.timing import Kind
from shared.contracts.window import ActionNow, FrameWindows

SILENCE_US = 6_000_000
"""A worker's frames come at least each second; after this long without one it has left (its lease ended earlier)."""

Line = tuple[str, str, Kind]
"""Scenario, action and kind: what is counted apart."""


class Producer:
    """State is merged by maximum or by frame number only, so that the order in which frames come does not matter."""

    __slots__ = ("_gap_since_us", "_gap_start", "_last_seq", "actions", "final_seq", "heard_us", "sent", "sequence")

    def __init__(self, start: int = 1) -> None:
        self.sequence = Sequence(start)
        self.actions: tuple[ActionNow, ...] = ()
        self.sent: dict[Line, dict[int, int]] = {}
        self.final_seq: int | None = None
        self._last_seq = 0
        self.heard_us = 0
        self._gap_since_us = 0
        self._gap_start = -1

    @property
    def final(self) -> bool:
        """True when everything it will ever send has been seen."""
        return self.final_seq is not None and self.sequence.contiguous >= self.final_seq

    def silent(self, now_us: int) -> bool:
        return now_us - self.heard_us > SILENCE_US

    def live(self, now_us: int) -> bool:
        """True while the run's event time has to wait for this worker."""
        return not self.final and not self.silent(now_us)

    def gone(self, now_us: int, after_s: float) -> bool:
        """True when it has left, and nothing it told is within that time any more."""
        return not self.live(now_us) and now_us - self.heard_us > after_s * 1e6

    def retire(self) -> "Producer":
        """Itself with nothing left but which of its frames were seen."""
        self.actions, self.sent = (), {}
        return self

    def admit(self, frame: FrameWindows, now_us: int) -> bool:
        """Note a frame heard at wall time ``now_us``; False when it is a redelivery."""
        if not self.sequence.admit(frame.seq, frame.watermark_us):
            return False
        self.heard_us = max(self.heard_us, now_us)
        if frame.final:
            self.final_seq = frame.seq
        self.note_sent(frame)
        return True

    def note_sent(self, frame: FrameWindows) -> None:
        """Take what a frame tells of sent and waiting requests; again changes nothing."""
        if frame.seq > self._last_seq:
            self._last_seq, self.actions = frame.seq, frame.actions
        second = frame.emitted_us // 1_000_000
        for action in frame.actions:
            by_second = self.sent.setdefault((action.scenario, action.action, action.kind), {})
            by_second[second] = max(by_second.get(second, 0), action.sent)

    def give_up_gap(self, now_us: int) -> int:
        """Frames that stayed away longer than the silence limit; event time goes on without them."""
        if not self.sequence.gap:
            self._gap_start = -1
            return 0
        if self.sequence.contiguous != self._gap_start:
            self._gap_start, self._gap_since_us = self.sequence.contiguous, now_us
            return 0
        return self.sequence.give_up() if now_us - self._gap_since_us > SILENCE_US else 0

    def sent_between(self, line: Line, first_s: int, last_s: int) -> int:
        """Requests sent in whole seconds ``first_s`` to ``last_s``, to the grain of frames."""
        by_second = self.sent.get(line, {})
        until = _sent_by(by_second, last_s)
        before = _sent_by(by_second, first_s - 1)
        if before is None:
            # Its first frames lie within: what it had sent by the first of them is not known to be of this window.
            before = min((sent for second, sent in by_second.items() if second <= last_s), default=0)
        return (until or 0) - before

    def forget_before(self, second: int) -> None:
        """Drop counters older than a second, keeping the newest of them as the base of what follows."""
        for by_second in self.sent.values():
            old = sorted(s for s in by_second if s < second)
            for s in old[:-1]:
                del by_second[s]


def _sent_by(by_second: dict[int, int], second: int) -> int | None:
    """The counter as of a second, None before the first. It never falls, so the newest one told is the largest."""
    for near in range(second, second - 3, -1):
        if near in by_second:
            return by_second[near]
    return max((sent for told, sent in by_second.items() if told <= second), default=None)
