"""How long the store keeps what, the same on both sides; how it sees to it stands in ``upkeep_*.py``."""

from dataclasses import dataclass
from datetime import timedelta

TIMINGS_AGE = timedelta(days=7)
"""What the stream TIMINGS keeps: no frame comes later than that."""
FRAMES_KEPT = TIMINGS_AGE + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Keeping:
    """Ages past which something is dropped; ``windows`` and ``hours`` are those of the two grains of the roll-ups,
    ``minutes`` that of the minutes of resource samples.

    ``compress_after``: age of a chunk, by the time of its rows, past which TimescaleDB compresses it. ``chunk``: the
    time that a chunk of the large tables covers there; plain PostgreSQL has partitions of a day.
    """

    timings: timedelta = timedelta(days=14)
    spans: timedelta = timedelta(days=7)
    resources: timedelta = timedelta(days=30)
    minutes: timedelta = timedelta(days=90)
    windows: timedelta = timedelta(days=7)
    hours: timedelta = timedelta(days=400)
    compress_after: timedelta = timedelta(hours=12)
    chunk: timedelta = timedelta(days=1)

    @property
    def tables(self) -> dict[str, timedelta]:
        """The large tables that are dropped by age of their rows."""
        return {
            "request_timing": self.timings,
            # At least as far back as a frame may still come: its rows go into both tables or into none.
            "request_trace": max(self.spans, FRAMES_KEPT),
            "spans": self.spans,
            "resource_sample": self.resources,
        }
