"""The search for a breaking point as it is led for real, on a simulated queue: a second of it takes a millisecond."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from bench.queue_model import Simulated, breaking_rate
from services.validator.stress_lead import begun_s, lead
from services.validator.stress_limits import Limit
from services.validator.stress_step import Sight
from services.validator.stress_track import Track
from shared.contracts.benchmarks import QUANTILES, Source
from shared.contracts.run import Load, RunDesired
from shared.contracts.scenario import Scenario
from shared.contracts.stress import StressSearch

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
DURATION_S = 3_600.0
SCENARIO = Scenario.model_validate(
    {"name": "queue", "system": "queue", "steps": [{"action": "ask", "system": "queue", "path": "/"}]}
)
LOOK_EVERY_S = 4
"""Once a step is older than ``EAGER_S`` it is looked at less often than for real, which looks every second."""
EAGER_S = 16


@dataclass(frozen=True, slots=True)
class Queue:
    """c servers of a rate (1/s each), and the limit (ms) of a statistic of the response time."""

    servers: int
    service_rate: float
    limit_ms: float
    statistic: str
    start: float

    @property
    def breaking_rate(self) -> float:
        return breaking_rate(self.limit_ms / 1e3, self.servers, self.service_rate, QUANTILES.get(self.statistic))

    @property
    def limit(self) -> Limit:
        target, critical = self.limit_ms, 2.5 * self.limit_ms
        name = "response_time"
        return Limit("queue", name, Source.RESPONSE_TIME, self.statistic, "ms", target, critical, ("queue",))

    def asked(self, max_steps: int = 11) -> RunDesired:
        """The run that searches for it."""
        search = StressSearch(unit="rate", start=self.start, level=self.start, max_steps=max_steps)
        load = Load(scenario=SCENARIO, users=100, rate=self.start, profile="stress", duration_s=DURATION_S)
        return RunDesired(
            run="run-of-a-queue",
            environment="bench",
            generation=1,
            status="running",
            loads=(load,),
            targets={"queue": "http://127.0.0.1"},
            allowed_hosts=("127.0.0.1",),
            search=search,
            requested_at=BEGAN,
        )


def search(queue: Queue, seed: int, disturbed_s: tuple[float, float] | None = None) -> RunDesired:
    """The desired state with the answer. ``disturbed_s``: the target stands still from and until then."""
    desired, simulated = queue.asked(), Simulated(queue.servers, queue.service_rate, seed)
    for elapsed_s in range(1, int(DURATION_S)):
        simulated.run(_rate_at(desired, elapsed_s - 1.0), float(elapsed_s))
        if disturbed_s is not None and disturbed_s[0] <= elapsed_s < disturbed_s[1]:
            simulated.stand_still(1.0)
        age_s = elapsed_s - begun_s(desired)
        if age_s > EAGER_S and elapsed_s % LOOK_EVERY_S:
            continue
        sight = _sight(queue, desired, simulated, elapsed_s)
        wanted = lead(desired, float(elapsed_s), BEGAN + timedelta(seconds=elapsed_s), sight, simulated.in_system)
        desired = wanted or desired
        if desired.search is None or desired.search.answer is not None:
            break
    return desired


def _rate_at(desired: RunDesired, elapsed_s: float) -> float:
    (load,) = desired.loads
    rates = [load.rate or 0.0, *(change.rate or 0.0 for change in load.changes if change.at_s <= elapsed_s)]
    return rates[-1]


def _sight(queue: Queue, desired: RunDesired, simulated: Simulated, elapsed_s: int) -> Sight | None:
    first = int(-(-begun_s(desired) // 1))
    seconds = range(first, elapsed_s)
    if desired.search is None or len(seconds) == 0:
        return None
    responses = [simulated.ended.get(second, {}) for second in seconds]
    sums = np.array([simulated.sums_ms.get(second, 0.0) for second in seconds])
    return Sight(
        number=len(desired.search.steps) + 1,
        level=desired.search.level,
        begun_s=float(first),
        searched=desired.search.limit,
        responses=responses,
        times_ms=sums,
        failed=np.zeros(len(seconds)),
        offered=np.array([float(simulated.arrived.get(second, 0)) for second in seconds]),
        faulty=np.zeros(len(seconds), dtype=bool),
        tracks=(Track.of_times(queue.limit, responses, sums),),
        in_flight=simulated.in_system,
    )


def searches(queue: Queue, seeds: int) -> Iterator[RunDesired]:
    for seed in range(seeds):
        yield search(queue, seed)
