"""What the collector reads from its environment."""

from pydantic import Field

from shared.settings import ServiceSettings


class CollectorSettings(ServiceSettings):
    """``platform_url``: base URL of the platform whose instances are scraped; without it nothing is.

    ``span_sample_above``: share of ``span_queue`` above which quick traces are given up, 1 for never.
    ``spans_per_second``: how many spans are stored a second, slow and failed traces first; 0 for as many as come.
    """

    platform_url: str | None = Field(default=None, pattern=r"^https?://")
    batch_events: int = Field(default=32_000, ge=1)
    batch_bytes: int = Field(default=4 * 1024 * 1024, ge=1)
    batch_age_s: float = Field(default=0.1, gt=0, le=10)
    max_ack_pending: int = Field(default=2_000, ge=1)
    ack_wait_s: float = Field(default=30.0, ge=1)
    max_event_age_s: float = Field(default=86_400.0, gt=0, le=86_400.0)
    max_event_ahead_s: float = Field(default=600.0, gt=0, le=86_400.0)
    dead_letters_per_minute: int = Field(default=100, ge=0)
    drain_timeout_s: float = Field(default=10.0, gt=0)
    span_queue: int = Field(default=20_000, ge=1)
    span_sample_above: float = Field(default=0.5, gt=0, le=1)
    spans_per_second: float = Field(default=0.0, ge=0)
    scrape_interval_s: float = Field(default=1.0, ge=0.05)
