"""The generator's own state over the time of a run: the worst of all its workers at each moment. Pure, bounded."""

from dataclasses import dataclass

from shared.contracts.window import FrameWindows

MOST_POINTS = 600


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

    A frame that comes twice changes nothing, in whatever order.
    """

    def __init__(self) -> None:
        self._step_s = 1
        self._worst: dict[int, tuple[int, int, int, int]] = {}

    def note(self, frame: FrameWindows) -> None:
        told = (frame.loop_lag_us, frame.schedule_error_us, frame.cpu_permille, frame.backlog_events)
        self._keep(frame.emitted_us // 1_000_000, told)
        while len(self._worst) > MOST_POINTS:
            kept, self._worst = self._worst, {}
            self._step_s *= 2
            for second, worst in kept.items():
                self._keep(second, worst)

    def points(self) -> tuple[GeneratorAt, ...]:
        return tuple(
            GeneratorAt(second, lag_us / 1e3, error_us / 1e3, cpu / 1e3, backlog)
            for second, (lag_us, error_us, cpu, backlog) in sorted(self._worst.items())
        )

    def _keep(self, second: int, told: tuple[int, int, int, int]) -> None:
        step = second // self._step_s * self._step_s
        lag, error, cpu, backlog = self._worst.get(step, (0, 0, 0, 0))
        self._worst[step] = (max(lag, told[0]), max(error, told[1]), max(cpu, told[2]), max(backlog, told[3]))
