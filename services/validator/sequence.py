"""Which frames of one producer have been seen: the contiguous sequence, what came ahead of it, what is missing.

This is what makes a redelivery of any age recognisable in constant memory: all up to ``contiguous`` were seen but
those in ``missing``. Time is not known here; the owner decides when a gap has lasted long enough.
"""

MAX_MISSING = 100_000
"""Gaps given up that are remembered; beyond it the oldest are forgotten and would count as redeliveries."""


class Sequence:
    """Frames of one (run, worker, epoch, system), numbered from 1 without gaps.

    ``start`` is where reading began: a reader that joins mid-stream takes all before it as seen. ``watermark_us`` is
    that of the contiguous part, None before there is any.
    """

    __slots__ = ("ahead", "contiguous", "missing", "watermark_us")

    def __init__(self, start: int = 1) -> None:
        self.contiguous = start - 1
        self.watermark_us: int | None = None
        self.missing: set[int] = set()
        self.ahead: dict[int, int] = {}

    @property
    def gap(self) -> bool:
        """True while frames have come beyond one that has not."""
        return bool(self.ahead)

    def admit(self, seq: int, watermark_us: int) -> bool:
        """Note one frame; False when it was seen before."""
        if seq in self.missing:
            self.missing.discard(seq)
            return True
        if seq <= self.contiguous or seq in self.ahead:
            return False
        self.ahead[seq] = watermark_us
        self._advance()
        return True

    def give_up(self) -> int:
        """Stop waiting for the frames before the first one ahead; returns how many. They still count if they come."""
        if not self.ahead:
            return 0
        first = min(self.ahead)
        lost = range(self.contiguous + 1, first)
        self.missing.update(lost)
        while len(self.missing) > MAX_MISSING:
            self.missing.discard(min(self.missing))
        self.contiguous = first - 1
        self._advance()
        return len(lost)

    def _advance(self) -> None:
        while (watermark_us := self.ahead.pop(self.contiguous + 1, None)) is not None:
            self.contiguous += 1
            self.watermark_us = max(watermark_us, self.watermark_us or watermark_us)
