"""What the validator knows of one run: what was asked, where it stands, its windows, its open episodes."""

from dataclasses import dataclass, field

from services.validator.generator_course import GeneratorCourse
from services.validator.hops import SlowestHop
from services.validator.lifecycle import Episode
from services.validator.windows import SystemWindows
from shared.contracts.benchmarks import Benchmark, Benchmarks, Source
from shared.contracts.breach import Breach
from shared.contracts.run import RunDesired, RunState
from shared.contracts.window import FrameWindows

MOST_POINTS = 3_600
MOST_RESOLVED = 200
"""Episodes that are over are in the store; so many of the newest are kept for a store that is behind."""

Key = tuple[str, str, str]
"""System, metric and series: what has at most one open episode."""


@dataclass(frozen=True, slots=True)
class UsersAt:
    """Users and requests in flight in one second, as the run's coordinator said."""

    second: int
    users: int
    in_flight: int


@dataclass(slots=True)
class RunBoard:
    """State of one run; ``joined_late`` where reading its windows began while it ran. ``hops``: by open episode.

    ``refutable``: open episodes that were opened from answered requests alone, which late frames may prove wrong.
    """

    run: str
    joined_late: bool = False
    desired: RunDesired | None = None
    state: RunState | None = None
    windows: dict[str, SystemWindows] = field(default_factory=dict)
    episodes: dict[Key, Episode] = field(default_factory=dict)
    breaches: dict[str, Breach] = field(default_factory=dict)
    floors_s: dict[Key, int] = field(default_factory=dict)
    hops: dict[str, SlowestHop] = field(default_factory=dict)
    refutable: set[str] = field(default_factory=set)
    heard_us: int = 0
    users: list[UsersAt] = field(default_factory=list)
    generator: GeneratorCourse = field(default_factory=GeneratorCourse)

    @property
    def live(self) -> bool:
        """True while its load is made: asked for, begun, and not at a final phase."""
        return self.desired is not None and self.state is not None and not self.state.phase.final

    @property
    def over(self) -> bool:
        return self.state is not None and self.state.phase.final

    @property
    def started_s(self) -> int:
        return int(self.state.started_at.timestamp()) if self.state and self.state.started_at else 0

    @property
    def began_s(self) -> float:
        """The moment the load began, s since the Unix epoch; 0 before it did."""
        return self.state.started_at.timestamp() if self.state and self.state.started_at else 0.0

    def merge(self, frame: FrameWindows, now_us: int) -> bool:
        windows = self.windows.get(frame.system)
        if windows is None:
            windows = self.windows[frame.system] = SystemWindows(joined_late=self.joined_late)
        self.heard_us = now_us
        self.generator.note(frame)
        return windows.merge(frame, now_us)

    def replay(self, frame: FrameWindows) -> None:
        """Take a frame's cells again; a checkpoint counts the rest."""
        if frame.system in self.windows:
            self.windows[frame.system].replay(frame)

    def keep(self, breach: Breach) -> None:
        """Note the last event of an episode; of those that are resolved the newest few stay."""
        self.breaches.pop(breach.breach, None)
        self.breaches[breach.breach] = breach
        if len(self.breaches) > MOST_RESOLVED + len(self.episodes):
            live = {episode.breach for episode in self.episodes.values()}
            del self.breaches[next(one for one in self.breaches if one not in live)]

    def stale(self, now_us: int, after_s: float) -> bool:
        """True when nothing has been heard of the run for that long."""
        asked_us = int(self.desired.requested_at.timestamp() * 1e6) if self.desired else 0
        return now_us - max(self.heard_us, asked_us) > after_s * 1e6

    def note_desired(self, desired: RunDesired) -> None:
        """Take a newer desired state; an older generation is a redelivery."""
        if self.desired is None or desired.generation >= self.desired.generation:
            self.desired = desired

    def note_state(self, state: RunState) -> None:
        """Take a newer state; states of one run are told in order, so an older one is a redelivery."""
        if self.state is not None and (state.at < self.state.at or self.state.phase.final):
            return
        self.state = state
        second = int(state.at.timestamp())
        if not self.users or second > self.users[-1].second:
            in_flight = sum(system.in_flight for worker in state.workers for system in worker.systems)
            self.users.append(UsersAt(second, sum(worker.users for worker in state.workers), in_flight))
        if len(self.users) > MOST_POINTS:
            # An endless run keeps its whole course at half the grain.
            del self.users[1::2]


def concerns(benchmarks: Benchmarks, desired: RunDesired, system: str, benchmark: Benchmark) -> bool:
    """True when a run can measure a benchmark: its scenarios call the system, or load its resources through others."""
    scenarios = [load.scenario for load in desired.loads]
    if not benchmark.source.of_requests:
        return system in benchmarks.reached(name for scenario in scenarios for name in scenario.systems)
    if benchmark.source is Source.WORKFLOW_TIME:
        return any(
            scenario.workflow and scenario.system == system and benchmark.chooses(scenario.name, "")
            for scenario in scenarios
        )
    return any(
        step.system == system and benchmark.chooses(scenario.name, step.action)
        for scenario in scenarios
        for step in scenario.steps
    )
