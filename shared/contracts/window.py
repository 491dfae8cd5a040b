"""One-second aggregates of one frame, as the collector publishes them after its commit.

Each message belongs to exactly one frame and carries its identity; a reader merges a frame once and adds cells
of the same (run, system, scenario, action, second) together.
"""

from pydantic import Field

from shared.contracts.base import Message
from shared.contracts.timing import Kind


class Exemplar(Message):
    """A request worth looking at. ``recorded``: its trace was sampled, so its spans can be found."""

    trace_id: str
    response_us: int
    recorded: bool
    user: int = 0


class Cell(Message):
    """One action in one second of ``done``. Histograms map bucket (``shared.histogram``) to count."""

    scenario: str
    action: str
    kind: Kind
    second: int
    count: int
    failed: int = 0
    ramp_up: int = 0
    errors: dict[int, int] = Field(default_factory=dict)
    service: dict[int, int] = Field(default_factory=dict)
    response: dict[int, int] = Field(default_factory=dict)
    service_sum_us: int = 0
    response_sum_us: int = 0
    service_max_us: int = 0
    response_max_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    worst: tuple[Exemplar, ...] = ()


class ActionNow(Message):
    """What is sent, in flight and in line as the frame was cut; ``ages`` is a histogram of now − intended."""

    scenario: str
    action: str
    kind: Kind
    sent: int
    in_flight: int = 0
    waiting: int = 0
    ages: dict[int, int] = Field(default_factory=dict)


class FrameWindows(Message):
    """Everything the stream needs to know of one committed frame. Times are µs since the Unix epoch."""

    run: str
    environment: str
    worker: str
    epoch: int
    system: str
    seq: int
    final: bool = False
    at_fault: bool = False
    watermark_us: int
    emitted_us: int
    loop_lag_us: int = 0
    schedule_error_us: int = 0
    cpu_permille: int = 0
    backlog_events: int = 0
    spooled_events: int = 0
    actions: tuple[ActionNow, ...] = ()
    cells: tuple[Cell, ...] = ()
