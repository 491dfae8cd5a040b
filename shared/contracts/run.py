"""A run: the desired state that is asked for and the states it passes through.

``RunDesired`` is always the whole, with a generation that grows by one at each change; a worker that missed
three of them needs only the last. ``RunState`` is published by the run's coordinator at each transition and once a
second in between.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.base import Instant, Message, RunId, SystemId
from shared.contracts.scenario import Scenario

Profile = Literal["steady", "ramp", "spike", "soak"]


class Load(Message):
    """One scenario's share of a run.

    Closed: ``users`` repeat the scenario. Open: ``rate`` arrivals/s start it, ``users`` bound how many run at once;
    an arrival that finds none free waits in line and its wait counts.
    """

    scenario: Scenario
    users: int = Field(ge=1, le=100_000)
    rate: float | None = Field(default=None, gt=0, le=1_000_000)
    profile: Profile = "steady"
    duration_s: float = Field(gt=0)
    ramp_up_s: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _ramp_within(self) -> "Load":
        if self.ramp_up_s > self.duration_s:
            raise ValueError(f"ramp-up of {self.ramp_up_s:g} s is longer than the duration of {self.duration_s:g} s")
        return self


class RunDesired(Message):
    """What should be so. ``shards`` is how many stripes the load is cut into (bounds how many workers can share it)."""

    run: RunId
    environment: str
    generation: int = Field(ge=1)
    status: Literal["running", "stopped"]
    loads: tuple[Load, ...] = Field(min_length=1)
    targets: dict[SystemId, str]
    allowed_hosts: tuple[str, ...]
    seed: int = 0
    shards: int = Field(default=16, ge=1, le=1024)
    traces_per_s: float = Field(default=100.0, ge=0)
    suite: str | None = None
    requested_by: str = ""
    requested_at: Instant
    reason: str = ""

    @property
    def duration_s(self) -> float:
        return max(load.duration_s for load in self.loads)

    @property
    def ramp_up_s(self) -> float:
        return max(load.ramp_up_s for load in self.loads)

    @property
    def users(self) -> int:
        return sum(load.users for load in self.loads)


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


class WorkerProgress(Message):
    """What a worker says of one run in its lease, each second.

    ``refused``: one line when the run cannot go on because of what was asked (credentials refused, host not allowed).
    """

    worker: str
    run: str
    epoch: int
    users: int = 0
    shards: tuple[int, ...] = ()
    systems: tuple[SystemProgress, ...] = ()
    drained: bool = False
    last_ack_us: int = 0
    loop_lag_ms: float = 0.0
    backlog_events: int = 0
    spooled_events: int = 0
    refused: str = ""


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


class RunState(Message):
    """Where the run stands, said by its coordinator."""

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
    reason: str = ""
