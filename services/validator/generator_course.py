"""The generator's own state over the time of a run: the worst of all its workers at each moment. Pure, bounded."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contracts.window import FrameWindows

MOST_POINTS = 600
Worst = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class GeneratorAt:
    """The worst within the seconds from ``second`` on. ``cpu``: share of one core."""

    second: int
    loop_lag_ms: float
    schedule_error_ms: float
    cpu: float
    backlog_events: int


class GeneratorCourse:
    """Keeps the worst of each step of seconds; a step grows to double its length as often as the run needs it.

    A frame that comes twice changes nothing, in whatever order. ``worst``: loop lag and schedule error (µs), CPU
    (permille) and backlog by the first second of their step.
    """

    def __init__(self, step_s: int = 1, worst: Mapping[int, Worst] | None = None) -> None:
        self.step_s = step_s
        self.worst: dict[int, Worst] = dict(worst or {})

    def note(self, frame: FrameWindows) -> None:
        told = (frame.loop_lag_us, frame.schedule_error_us, frame.cpu_permille, frame.backlog_events)
        self._keep(frame.emitted_us // 1_000_000, told)
        while len(self.worst) > MOST_POINTS:
            kept, self.worst = self.worst, {}
            self.step_s *= 2
            for second, worst in kept.items():
                self._keep(second, worst)

    def points(self) -> tuple[GeneratorAt, ...]:
        return tuple(
            GeneratorAt(second, lag_us / 1e3, error_us / 1e3, cpu / 1e3, backlog)
            for second, (lag_us, error_us, cpu, backlog) in sorted(self.worst.items())
        )

    def _keep(self, second: int, told: Worst) -> None:
        step = second // self.step_s * self.step_s
        lag, error, cpu, backlog = self.worst.get(step, (0, 0, 0, 0))
        self.worst[step] = (max(lag, told[0]), max(error, told[1]), max(cpu, told[2]), max(backlog, told[3]))
