"""A breach as subscribers see it: CloudEvents 1.0 in structured JSON on ``breach.<system>.<metric>.<series>``.

One id per episode: opened once, escalated or updated any number of times, resolved once; ``revision`` counts the
events of an episode from 1 without a gap. Message headers carry ``traceparent`` of the worst recorded exemplar where
there is one. What may change within v1 is written down in ``docs/breaches.md``.
"""

from enum import StrEnum
from typing import Literal

from shared.contracts.base import Instant, Message
from shared.contracts.window import Exemplar

CONTENT_TYPE = "application/cloudevents+json"


class BreachStatus(StrEnum):
    OPENED = "opened"
    ESCALATED = "escalated"
    UPDATED = "updated"
    RESOLVED = "resolved"


class DriftMetric(StrEnum):
    """What a canary is held to beside benchmarks: its own past days. Worth knowing, and nothing to scale on."""

    RESPONSE_TIME = "response_time_drift"
    WORKFLOW_TIME = "workflow_time_drift"
    ERROR_RATE = "error_rate_drift"
    THROUGHPUT = "throughput_drift"


class BreachWindow(Message):
    start: Instant
    end: Instant
    seconds: float


class Acknowledgement(Message):
    """Who has taken an episode on. ``revision`` is that of the event which told it first."""

    by: str
    at: Instant
    note: str = ""
    revision: int


class Breach(Message):
    """One state of one episode. ``limit`` is the one crossed (target or critical); values in the metric's ``unit``.

    ``worst`` is the farthest value told since the episode opened; ``exemplars`` and ``recommendation`` are of that
    moment, also once it is resolved. ``slowest_hop``, found in the exemplars' spans and told by a later revision,
    begins with the name of the service they spent most of their time in. ``note`` says what the figures cannot: that a
    run ended, that requests hang. ``severity`` is the label that the benchmark gives to the level. ``silenced_by``:
    ids of the silences in force as the event was told; nobody is to be called for it. ``baseline``: of a drift
    (``DriftMetric``), what past days had; its ``limit`` is the end of their band, it is always of level ``target``, and
    ``critical`` only repeats the limit.
    """

    breach: str
    revision: int
    status: BreachStatus
    environment: str
    run: str
    system: str
    service: str
    metric: str
    series: str
    scenario: str = ""
    action: str = ""
    level: Literal["target", "critical"]
    severity: str = ""
    statistic: str
    value: float
    worst: float | None = None
    limit: float
    target: float
    critical: float
    baseline: float | None = None
    unit: str
    better: Literal["lower", "higher"]
    confidence: float
    samples: int
    window: BreachWindow
    opened_at: Instant
    resolved_at: Instant | None = None
    exemplars: tuple[Exemplar, ...] = ()
    slowest_hop: str = ""
    recommendation: str = ""
    note: str = ""
    silenced_by: tuple[str, ...] = ()
    acknowledged: Acknowledgement | None = None

    @property
    def told(self) -> str:
        """What this revision tells, the last part but one of its type: a status, or ``acknowledged``."""
        acknowledged = self.acknowledged is not None and self.acknowledged.revision == self.revision
        return "acknowledged" if acknowledged else self.status.value


class BreachEvent(Message):
    """The CloudEvents envelope."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: Instant
    datacontenttype: Literal["application/json"] = "application/json"
    data: Breach

    @classmethod
    def of(cls, breach: Breach, at: Instant) -> "BreachEvent":
        return cls(
            id=f"{breach.breach}.{breach.revision}",
            source=f"/tidegate/{breach.environment}/validator",
            type=f"io.tidegate.breach.{breach.told}.v1",
            subject=f"{breach.system}/{breach.metric}/{breach.series}",
            time=at,
            data=breach,
        )
