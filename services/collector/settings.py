"""What the collector reads from its environment."""

from pydantic import Field

from shared.settings import ServiceSettings


class CollectorSettings(ServiceSettings):
    """``platform_url``: base URL of the platform that is scraped where ``config/resources.yaml`` names none.

    ``scrape_interval_s``: between two readings of a source of that file that names no interval of its own.
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
    scrape_interval_s: float = Field(default=1.0, ge=0.05)
