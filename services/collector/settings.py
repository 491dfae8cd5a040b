"""What the collector reads from its environment."""

from datetime import timedelta

from pydantic import Field

from shared.settings import ServiceSettings
from shared.store.keeping import Keeping

WEEK_S = 7 * 86_400.0


class CollectorSettings(ServiceSettings):
    """``platform_url``: base URL of the platform that is scraped where ``config/resources.yaml`` names none.

    ``scrape_interval_s``: between two readings of a source of that file that names no interval of its own.
    ``span_sample_above``: share of ``span_queue`` above which quick traces are given up, 1 for never.
    ``spans_per_second``: how many spans are stored a second, slow and failed traces first; 0 for as many as come.
    ``keep_*_days``: how long requests, spans, resource samples and their minutes, ten-second and hourly roll-ups stay
    in the store.
    ``compress_after_hours`` and ``chunk_hours`` are TimescaleDB's.
    """

    platform_url: str | None = Field(default=None, pattern=r"^https?://")
    batch_events: int = Field(default=64_000, ge=1)
    batch_bytes: int = Field(default=8 * 1024 * 1024, ge=1)
    batch_age_s: float = Field(default=0.1, gt=0, le=10)
    max_ack_pending: int = Field(default=2_000, ge=1)
    ack_wait_s: float = Field(default=30.0, ge=1)
    max_event_age_s: float = Field(default=WEEK_S, gt=0, le=WEEK_S)
    max_event_ahead_s: float = Field(default=600.0, gt=0, le=86_400.0)
    dead_letters_per_minute: int = Field(default=100, ge=0)
    drain_timeout_s: float = Field(default=10.0, gt=0)
    span_queue: int = Field(default=20_000, ge=1)
    span_sample_above: float = Field(default=0.5, gt=0, le=1)
    spans_per_second: float = Field(default=0.0, ge=0)
    scrape_interval_s: float = Field(default=1.0, ge=0.05)
    keep_timings_days: float = Field(default=14, ge=1)
    keep_spans_days: float = Field(default=7, ge=1)
    keep_resources_days: float = Field(default=30, ge=1)
    keep_minutes_days: float = Field(default=90, ge=1)
    keep_windows_days: float = Field(default=7, ge=1)
    keep_hours_days: float = Field(default=400, ge=1)
    compress_after_hours: float = Field(default=12, ge=1)
    chunk_hours: float = Field(default=24, ge=1)

    @property
    def keeping(self) -> Keeping:
        return Keeping(
            timings=timedelta(days=self.keep_timings_days),
            spans=timedelta(days=self.keep_spans_days),
            resources=timedelta(days=self.keep_resources_days),
            minutes=timedelta(days=self.keep_minutes_days),
            windows=timedelta(days=self.keep_windows_days),
            hours=timedelta(days=self.keep_hours_days),
            compress_after=timedelta(hours=self.compress_after_hours),
            chunk=timedelta(hours=self.chunk_hours),
        )

    @property
    def oldest_event_s(self) -> float:
        """Older events are refused: past the age of TIMINGS, or what the store would drop at once."""
        return min(self.max_event_age_s, self.keep_timings_days * 86_400.0)
