"""What ``shared.store.results`` reads, as plain values: decision modules use them without knowing a database."""

from dataclasses import dataclass, field
from datetime import datetime

from shared.contracts.timing import Kind


@dataclass(frozen=True, slots=True)
class Times:
    """Durations of a series in ms; a figure is None where it is not known."""

    mean: float | None = None
    max: float | None = None
    percentiles: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Streaming:
    """Streamed answers of a series: how many, their tokens, and the rate of these after the first one of each."""

    answers: int
    tokens: int
    tokens_per_s: float | None
    first_token: Times
    longest_gap: Times


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """One action (or workflow) of one scenario against one system, over the whole run; histograms: bucket to count."""

    series_id: int
    system: str
    scenario: str
    action: str
    kind: Kind
    sent: int
    held: int
    stored: int
    failed: int
    cancelled: int
    errors: dict[int, int]
    service: Times
    response: Times
    streaming: Streaming | None = None
    service_histogram: dict[int, int] = field(default_factory=dict)
    response_histogram: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeriesAfter:
    """The part of a series from a moment on: response histogram (bucket to count), exact sum, failures.

    ``cancelled``: how long requests had gone on that were given up; they stand in none of the others. ``refused``: of
    the failures, arrivals that nobody was free to send.
    """

    response: dict[int, int]
    sum_us: int
    failed: int
    cancelled: dict[int, int] = field(default_factory=dict)
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Edges:
    """Requests at the edges of what is judged of a run.

    ``early`` were sent in ramp-up and ended after it, ``late`` were due before the run's end and ended after it,
    ``after`` were due after it, since iterations under way are led to their end.
    """

    early: int = 0
    late: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What ended within some seconds from ``second`` on (Unix epoch): requests of a system (``scenario`` is empty), or
    workflows of a scenario. ``kind``: ``shared.contracts.timing.Kind``."""

    system: str
    scenario: str
    kind: int
    second: int
    count: int
    failed: int
    service_p50_ms: float
    service_p95_ms: float
    service_p99_ms: float
    response_p50_ms: float
    response_p95_ms: float
    response_p99_ms: float


@dataclass(frozen=True, slots=True)
class InstanceReading:
    """Median of one metric of one instance over the ``seconds`` in which it was ready and told of it."""

    service: str
    system: str
    instance: str
    metric: str
    median: float
    seconds: int


@dataclass(frozen=True, slots=True)
class Connecting:
    """Of the requests of a system that were looked at, how many had a connection opened for them.

    ``connect_ms`` and ``service_ms``: means of those; opening is a part of the service time.
    """

    system: str
    looked_at: int
    opened: int
    connect_ms: float
    service_ms: float


@dataclass(frozen=True, slots=True)
class SpanTotals:
    """One action (or workflow) of a run in a span of whole hours, without ramp-up and cancelled requests.

    ``stored`` counts these too. ``response``: bucket to count. ``refused``: of the failed, arrivals that nobody was
    free to send.
    """

    run: str
    system: str
    scenario: str
    action: str
    kind: Kind
    start: datetime
    stored: int
    cancelled: int
    count: int
    failed: int
    sum_us: int
    max_us: int
    response: dict[int, int]
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """How much of a run the store holds. ``sent`` and ``held`` as of the frames committed so far."""

    stored: int
    sent: int
    held: int
    frames: dict[tuple[str, int, str], tuple[int, int]]
    """(worker, epoch, system) to (last sequence, frames committed)."""


@dataclass(frozen=True, slots=True, order=True)
class TraceSpan:
    """A span as far as the hop breakdown needs it. Times are µs by the wall clock of the host that recorded it.

    ``kind``: number of OpenTelemetry's ``SpanKind``. ``peer``: whom a client says it called, where it says so.
    """

    span_id: bytes
    duration_us: int
    start_us: int
    service: str
    name: str
    kind: int
    parent_span_id: bytes = b""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class UsageStep:
    """What one instance told of one metric within a step of time that begins at ``at``; ``samples``: how often.

    Units are those of ``shared.contracts.resource``. ``most_at``: when the most was told.
    """

    service: str
    system: str
    instance: str
    metric: str
    at: datetime
    samples: int
    mean: float
    most: float
    most_at: datetime
    least: float


@dataclass(frozen=True, slots=True)
class UsageDay:
    """What one instance told of one metric on a day (of UTC, which begins at ``at``): in how many ``minutes`` (one
    with fewer samples than the fullest counts in part), their ``mean`` and the 95th percentile of their means."""

    service: str
    system: str
    instance: str
    metric: str
    at: datetime
    samples: int
    mean: float
    minutes: float
    p95: float


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """Memory (MB) of one instance within a step: the least of it, and its mean share of the limit.

    ``load``: mean requests/s, else mean cores, else the CPU's ratio; None where nothing was told. ``began``: a sample
    told memory and no rate, as the first of a life does. None where no CPU is ever told.
    """

    service: str
    system: str
    instance: str
    at: datetime
    memory_mb: float
    memory_ratio: float | None
    load: float | None
    began: bool


@dataclass(frozen=True, slots=True)
class CallTimes:
    """Calls of one service by another, from pairs of a client's span and the server's span below it.

    ``network``: bucket (``shared.histogram``) to count of client's time less server's: transfer, and waiting.
    ``calls`` counts what was looked at, in so many ``traces``, ``answered`` those with a server's span,
    ``failed`` those whose client's span is an error. ``client_us`` and ``server_us``: sums over the answered.
    ``bytes_*``: sums of the bodies' sizes; None where no client's span tells any.
    """

    caller: str
    callee: str
    calls: int
    answered: int
    failed: int
    client_us: int
    server_us: int
    network: dict[int, int]
    bytes_sent: float | None = None
    bytes_received: float | None = None
    traces: int = 0


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One large table of the store: ``bytes`` with indexes, ``rows`` as the planner estimates them, ``since``: begin of
    its oldest part. ``compressible``: bytes of parts old enough to be compressed that are not; None where the store
    compresses nothing."""

    table: str
    bytes: int
    rows: int
    since: datetime | None
    compressible: int | None = None


@dataclass(frozen=True, slots=True)
class Commits:
    """How timings were committed within a time: ``commits`` of ``frames`` with ``events`` rows over ``span_s``."""

    commits: int
    frames: int
    events: int
    span_s: float


@dataclass(frozen=True, slots=True)
class Served:
    """Requests that runs sent to a system within a step of time that begins at ``at``, and how many failed."""

    system: str
    at: datetime
    count: int
    failed: int
    bytes_in: int
    bytes_out: int
