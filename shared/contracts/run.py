"""A run: the desired state that is asked for and the states it passes through.

``RunDesired`` is always the whole, with a generation that grows by one at each change; a worker that missed
three of them needs only the last. ``RunState`` is published by the run's coordinator at each transition and once a
second in between.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Literal, TypeVar

from pydantic import Field, model_validator

from shared.contracts.base import Instant, Message, RunId, SystemId
from shared.contracts.scenario import Scenario
from shared.contracts.stress import StressSearch

Profile = Literal["steady", "ramp", "spike", "soak", "stress", "canary"]
Number = TypeVar("Number", int, float)
ENDLESS_S = 10 * 365 * 86_400.0
"""A duration of this and more means: until it is stopped."""


class Stage(Message):
    """One leg of a load drawn by hand: the level (share of users or rate) moves in a straight line to ``level``."""

    duration_s: float = Field(ge=0)
    level: float = Field(ge=0, le=1)


class Change(Message):
    """Other numbers for a load from ``at_s`` after the run's start on; None leaves what was. Never forgotten.

    The schedule stays a function of elapsed time alone, so that every worker, also one that joins later, computes the
    same arrivals.
    """

    at_s: float = Field(ge=0)
    users: int | None = Field(default=None, ge=1, le=100_000)
    rate: float | None = Field(default=None, gt=0, le=1_000_000)


class Pause(Message):
    """No load from ``from_s`` until ``to_s`` after the start (None: still paused). The run's end stays where it is."""

    from_s: float = Field(ge=0)
    to_s: float | None = Field(default=None, ge=0)


class Limits(Message):
    """Hard caps of a run, held by every worker whatever the loads ask. None: the workers' own caps alone.

    ``rate``: requests/s over all workers. ``requests``: requests in all; every stripe of the load has an equal part,
    and one that another worker takes over begins its part again; the run stops when more are counted in all.
    ``requests_per_day`` (UTC): the run stops when so many are counted. Counting is done each second. ``spool`` False:
    the run stops rather than keep frames on a worker's disk.
    """

    rate: float | None = Field(default=None, gt=0)
    requests: int | None = Field(default=None, ge=1)
    requests_per_day: int | None = Field(default=None, ge=1)
    spool: bool = True

    def within(self, rate: float | None, requests: int | None) -> "Limits":
        """These, or a worker's own caps where they are tighter."""
        return self.model_copy(update={"rate": _least(self.rate, rate), "requests": _least(self.requests, requests)})


class Load(Message):
    """One scenario's share of a run.

    Closed: ``users`` repeat the scenario. Open: ``rate`` arrivals/s start it, evenly spaced or as a Poisson process;
    ``users`` bound how many run at once. An arrival that finds none free waits in line and its wait counts; one that
    finds ``max_waiting`` in line already is refused, and counted as such. ``stages`` stand for the profile.
    """

    scenario: Scenario
    users: int = Field(ge=1, le=100_000)
    rate: float | None = Field(default=None, gt=0, le=1_000_000)
    spacing: Literal["even", "poisson"] = "even"
    profile: Profile = "steady"
    duration_s: float = Field(gt=0)
    ramp_up_s: float = Field(default=0.0, ge=0)
    stages: tuple[Stage, ...] = ()
    max_waiting: int = Field(default=100_000, ge=0)
    changes: tuple[Change, ...] = ()

    @property
    def users_at_most(self) -> int:
        """The most users the load ever has, changes included."""
        return max([self.users, *(change.users for change in self.changes if change.users is not None)])

    @model_validator(mode="after")
    def _ramp_within(self) -> "Load":
        if self.ramp_up_s > self.duration_s:
            raise ValueError(f"ramp-up of {self.ramp_up_s:g} s is longer than the duration of {self.duration_s:g} s")
        return self

    @model_validator(mode="after")
    def _rows_for_all(self) -> "Load":
        for name, found in self.scenario.data.items():
            if found.use == "unique" and len(found.rows) < self.users_at_most:
                raise ValueError(
                    f"data {name!r} of {self.scenario.name} is unique and has {len(found.rows)} rows for "
                    f"{self.users_at_most} users; give it more, or use: cycled"
                )
        return self


class RunDesired(Message):
    """What should be so. ``shards`` is how many stripes the load is cut into (bounds how many workers can share it).

    ``search``: of a run that looks for its breaking point; whoever presides over the validators leads it on.
    """

    run: RunId
    environment: str
    generation: int = Field(ge=1)
    status: Literal["running", "paused", "stopped"]
    loads: tuple[Load, ...] = Field(min_length=1)
    targets: dict[SystemId, str]
    allowed_hosts: tuple[str, ...]
    seed: int = 0
    shards: int = Field(default=16, ge=1, le=1024)
    traces_per_s: float = Field(default=100.0, ge=0)
    pauses: tuple[Pause, ...] = ()
    limits: Limits = Limits()
    search: StressSearch | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    suite: str | None = None
    requested_by: str = ""
    requested_at: Instant
    reason: str = ""

    def changed(self, now: datetime, **changes: object) -> "RunDesired":
        """The next generation, with other values for some fields."""
        return self.model_copy(update={"generation": self.generation + 1, "requested_at": now, **changes})

    @property
    def duration_s(self) -> float:
        return max(load.duration_s for load in self.loads)

    @property
    def ramp_up_s(self) -> float:
        return max(load.ramp_up_s for load in self.loads)

    @property
    def users(self) -> int:
        """The most the run ever has, changes included."""
        return sum(load.users_at_most for load in self.loads)


def _least(one: Number | None, other: Number | None) -> Number | None:
    return min((value for value in (one, other) if value is not None), default=None)


class Phase(StrEnum):
    """A run passes them in order; the last three are final."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self in (Phase.FINISHED, Phase.STOPPED, Phase.FAILED)


class SystemProgress(Message):
    """One worker's work against one system in one epoch. ``acknowledged``: events in frames the broker has kept."""

    system: str
    sent: int = 0
    acknowledged: int = 0
    in_flight: int = 0
    last_seq: int = 0


class HeldBack(Message):
    """A time in which the broker took none of a worker's frames, so that they waited in memory, and past it on disk.

    ``until`` None: it lasts. ``waiting`` and ``spooled``: the most events that waited in all, and on disk.
    """

    since: Instant
    until: Instant | None = None
    waiting: int = 0
    spooled: int = 0


class WorkerProgress(Message):
    """What a worker says of one run in its lease, each second. ``clock_skew_ms``: its clock minus the broker's.

    ``refused``: one line when the run cannot go on because of what was asked (credentials refused, host not allowed).
    ``held_back``: the last times its frames had to wait for the broker. ``leaving``: it takes no stripes any more, and
    the others are to reckon without it.
    """

    worker: str
    run: str
    epoch: int
    users: int = 0
    shards: tuple[int, ...] = ()
    systems: tuple[SystemProgress, ...] = ()
    drained: bool = False
    last_ack_us: int = 0
    clock_skew_ms: float | None = None
    loop_lag_ms: float = 0.0
    backlog_events: int = 0
    spooled_events: int = 0
    held_back: tuple[HeldBack, ...] = ()
    refused: str = ""
    leaving: bool = False


class LostWorker(Message):
    """A worker whose lease lapsed during the run, and the bound of what was lost with it.

    ``held_ms``: from its last acknowledged frame to the last moment it can have sent (its lease's end).
    ``held_requests``: that time at the rate it had; requests beyond these cannot have been made unrecorded.
    """

    worker: str
    epoch: int
    last_ack_at: Instant
    declared_at: Instant
    acknowledged: int
    in_flight: int
    held_ms: float
    held_requests: int


class GoneWorkers(Message):
    """Workers, by epoch, that are gone for so long that a state names them no more: how many, and their sums.

    ``lost`` of them went without having drained, with at most ``held_requests`` that were not recorded.
    """

    epochs: int = 0
    sent: int = 0
    acknowledged: int = 0
    lost: int = 0
    held_requests: int = 0


class DayCount(Message):
    """A day (UTC) of a run, and how many requests it had sent when the day began."""

    day: date
    sent_before: int


class RunState(Message):
    """Where the run stands, said by its coordinator.

    ``workers`` and ``lost`` name every worker and epoch that lives, and the last of those that are gone; ``gone`` sums
    up the others, so that a state stays small however long a run goes on.
    """

    run: RunId
    environment: str
    phase: Phase
    generation: int
    at: Instant
    coordinator: str
    started_at: Instant | None = None
    ended_at: Instant | None = None
    workers: tuple[WorkerProgress, ...] = ()
    lost: tuple[LostWorker, ...] = ()
    gone: GoneWorkers = GoneWorkers()
    day: DayCount | None = None
    reason: str = ""
