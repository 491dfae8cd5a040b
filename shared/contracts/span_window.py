"""One-second aggregates of the spans that benchmarks name, as the collector publishes them on ``span.<system>``.

They are of the traces that are recorded: a sample of the requests, drawn without regard to how long these took. Each
message belongs to one collector and has a number of its own, ascending; a reader merges it once and adds cells of the
same (system, span, second) together.
"""

from pydantic import Field

from shared.contracts.base import Message
from shared.contracts.window import Exemplar


class SpanCell(Message):
    """Spans of one name that ended in one second. ``times`` maps bucket (``shared.histogram``) to count."""

    span: str
    second: int
    count: int
    failed: int = 0
    times: dict[int, int] = Field(default_factory=dict)
    sum_us: int = 0
    worst: tuple[Exemplar, ...] = ()


class SpanWindows(Message):
    """What one collector has seen of one system since it last said so."""

    environment: str
    system: str
    service: str
    collector: str
    seq: int
    cells: tuple[SpanCell, ...] = ()
