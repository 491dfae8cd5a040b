"""The search for a breaking point as a part of a run's desired state: what is asked, every step made, the answer.

Whoever leads the search appends a finished step and sets the next level in one new generation of ``RunDesired``, so
the stream alone says where a search stands, and another may go on with it at any moment.
"""

from typing import Literal

from pydantic import Field

from shared.contracts.base import Message

StepVerdict = Literal["met", "missed", "critical", "insufficient", "invalid"]


class StressMargin(Message):
    """How far one benchmark was from its limit in one step.

    ``margin`` is below 0 where the limit was kept: the log-odds of the share beyond it against the share allowed, or
    the logarithm of a mean over its limit; ``error`` is its standard error, autocorrelation included. Both are None
    where nothing could be told. ``effective``: of how many independent samples the ``samples`` have the weight.
    """

    system: str
    metric: str
    statistic: str = ""
    action: str = ""
    unit: str = ""
    limit: float
    value: float | None = None
    verdict: StepVerdict
    samples: int = 0
    effective: float = 0.0
    margin: float | None = None
    error: float | None = None

    @property
    def name(self) -> str:
        return f"{self.system} {self.metric}" + (f" ({self.action})" if self.action else "")


class StressStep(Message):
    """One level and what was seen at it. Seconds count from the run's start; ``from_s`` to ``to_s`` was judged.

    ``level`` is in arrivals/s or users, ``offered`` and ``achieved`` in requests/s. ``steady`` False: it was cut short
    or still drifting, so that its margins are bounds and not estimates.
    """

    number: int
    level: float
    begun_s: float
    from_s: float
    to_s: float
    offered: float = 0.0
    achieved: float = 0.0
    mean_ms: float | None = None
    p95_ms: float | None = None
    error_rate: float | None = None
    in_flight: int = 0
    verdict: StepVerdict
    steady: bool = True
    margins: tuple[StressMargin, ...] = ()
    note: str = ""


class FirstBroken(Message):
    """What broke first: the benchmark with its value, and the breach that told of it, with the slowest hop."""

    margin: StressMargin
    level: float
    breach: str = ""
    slowest_hop: str = ""


class StressAnswer(Message):
    """What a search came to. ``level``: the highest that keeps every benchmark, ``low`` to ``high`` its 95 % interval.

    ``found`` False: ``reason`` says why; what is known all the same is filled in. ``knee``: the level of the most
    throughput for the response time, ``throughput`` the requests/s at ``level``.
    """

    found: bool
    reason: str
    level: float | None = None
    low: float | None = None
    high: float | None = None
    throughput: float | None = None
    highest_met: float | None = None
    lowest_broken: float | None = None
    knee: float | None = None
    broke: FirstBroken | None = None


class StressSearch(Message):
    """The search as it is asked for, and where it stands. Levels are arrivals/s or users of all loads together.

    ``start`` is what the loads ask for at first; other levels scale all of them alike. ``limit``: which one counts
    as broken. ``precision``: half the width of the interval that is good enough, as a share of the level. ``since_s``:
    when the present level began, on the schedule; ``resting``: a low level until what an overload left is worked off.
    """

    unit: Literal["rate", "users"]
    start: float = Field(gt=0)
    max_level: float = Field(default=1_000_000.0, gt=0)
    max_steps: int = Field(default=11, ge=2, le=100)
    limit: Literal["target", "critical"] = "target"
    precision: float = Field(default=0.04, gt=0, lt=1)
    require: float | None = Field(default=None, gt=0)
    level: float = Field(gt=0)
    since_s: float = Field(default=0.0, ge=0)
    resting: bool = False
    steps: tuple[StressStep, ...] = ()
    answer: StressAnswer | None = None
