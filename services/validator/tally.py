"""What one line did in one second, added up over frames."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.contracts.timing import ErrorKind
from shared.contracts.window import Cell, Exemplar

WORST_KEPT = 8


@dataclass(slots=True)
class Tally:
    """Everything of one line in one second, added up over frames."""

    count: int = 0
    failed: int = 0
    response_sum_us: int = 0
    response: dict[int, int] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)
    worst: tuple[Exemplar, ...] = ()

    @property
    def ended(self) -> int:
        """Without those that nobody was free to send."""
        return self.count - self.errors.get(ErrorKind.REFUSED, 0)

    def add(self, cell: Cell) -> None:
        self.count += cell.count
        self.failed += cell.failed
        self.response_sum_us += cell.response_sum_us
        for bucket, count in cell.response.items():
            self.response[bucket] = self.response.get(bucket, 0) + count
        for kind, count in cell.errors.items():
            self.errors[kind] = self.errors.get(kind, 0) + count
        if cell.worst:
            self.worst = worst_of((*self.worst, *cell.worst))


def worst_of(exemplars: Iterable[Exemplar], keep: int = WORST_KEPT) -> tuple[Exemplar, ...]:
    """The slowest, slowest first; ties by id, so that the choice does not depend on order."""
    return tuple(sorted(set(exemplars), key=lambda e: (-e.response_us, e.trace_id, e.user)))[:keep]
