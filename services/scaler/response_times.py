"""Response times and errors per system of the last minute and a half, from the windows the collector publishes. Pure.

A frame delivered again changes nothing: frames are remembered for as long as their seconds. Frames of a generator that
was itself at fault are left out: they say nothing of the system.
"""

from shared.contracts.timing import Kind
from shared.contracts.window import FrameWindows
from shared.histogram import Histogram

KEPT_S = 90
ENOUGH = 20
"""Fewer requests than this in a span make no percentile."""

Frame = tuple[str, str, int, str, int]


class ResponseTimes:
    """Histograms per (system, kind) and second of ``done``."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, Kind], dict[int, Histogram]] = {}
        self._outcomes: dict[str, dict[int, tuple[int, int]]] = {}
        self._frames: dict[Frame, int] = {}
        self._newest = 0

    def add(self, frame: FrameWindows) -> None:
        """Merge one frame once."""
        identity = (frame.run, frame.worker, frame.epoch, frame.system, frame.seq)
        emitted = frame.emitted_us // 1_000_000
        if frame.at_fault or identity in self._frames or emitted < self._newest - KEPT_S:
            return
        self._frames[identity] = emitted
        for cell in frame.cells:
            seconds = self._seconds.setdefault((frame.system, cell.kind), {})
            seconds.setdefault(cell.second, Histogram()).merge(cell.response)
            if cell.kind is Kind.REQUEST:
                outcomes = self._outcomes.setdefault(frame.system, {})
                count, failed = outcomes.get(cell.second, (0, 0))
                outcomes[cell.second] = count + cell.count, failed + cell.failed
        if emitted > self._newest:
            self._newest = emitted
            self._forget(emitted - KEPT_S)

    def p95_ms(self, system: str, begin_s: float, end_s: float, kind: Kind = Kind.REQUEST) -> float | None:
        """Nearest-rank p95 of the seconds that lie within the span; None with fewer than ``ENOUGH`` requests."""
        total = Histogram()
        for second, histogram in self._seconds.get((system, kind), {}).items():
            if begin_s <= second and second + 1 <= end_s:
                total.merge(histogram)
        value_us = total.percentile_us(0.95) if total.total >= ENOUGH else None
        return None if value_us is None else round(value_us / 1000, 3)

    def error_rate(self, system: str, begin_s: float, end_s: float) -> float | None:
        """Share of requests that failed in these seconds; None with fewer than ``ENOUGH``."""
        spans = self._outcomes.get(system, {}).items()
        within = [one for second, one in spans if begin_s <= second and second + 1 <= end_s]
        count, failed = sum(one[0] for one in within), sum(one[1] for one in within)
        return round(failed / count, 6) if count >= ENOUGH else None

    def span_s(self, system: str, begin_s: float, end_s: float) -> float:
        """From the first second with a request within the span to its end."""
        seconds = [second for second in self._seconds.get((system, Kind.REQUEST), {}) if begin_s <= second < end_s]
        return round(end_s - min(seconds), 3) if seconds else 0.0

    def measured(self, begin_s: float, end_s: float) -> dict[str, float]:
        """``p95_ms.<system>`` of every system that has enough requests within the span."""
        values = {
            f"p95_ms.{system}": self.p95_ms(system, begin_s, end_s)
            for system, kind in sorted(self._seconds)
            if kind is Kind.REQUEST
        }
        return {name: value for name, value in values.items() if value is not None}

    def _forget(self, horizon: int) -> None:
        for identity in [frame for frame, emitted in self._frames.items() if emitted < horizon]:
            del self._frames[identity]
        for seconds in self._seconds.values():
            for second in [second for second in seconds if second < horizon]:
                del seconds[second]
        for outcomes in self._outcomes.values():
            for second in [second for second in outcomes if second < horizon]:
                del outcomes[second]
