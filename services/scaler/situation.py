"""What a decision is made from, as values that travel in the audit record, so that it can be made again from there.

Owns the vocabulary only: ``Facts`` come from outside (target, samples, breaches), ``Memory`` is what the scaler knows
of its own past. Times are seconds since the Unix epoch.
"""

from typing import Literal

from pydantic import Field

from shared.contracts.base import Message
from shared.contracts.scaling import Action
from shared.contracts.scaling import Sizes as Sizes

LATEST_S = 3.0
"""What ``Reading.latest`` averages over."""

Verdict = Literal["helped", "no_effect", "worse", "unknown"]


class Observation(Message):
    """The target's word on one service. ``unhealthy`` and ``starting`` are not among the ``ready``.

    ``restarting``: replicas that keep ending and being started again (a crash loop), counted among the ``unhealthy``.
    ``updating``: a rollout is under way, also one that is paused or rolling back.
    """

    desired: int
    ready: int
    starting: int = 0
    unhealthy: int = 0
    restarting: int = 0
    updating: bool = False


class Reading(Message):
    """One metric: mean over the ready instances that reported within the window; ``latest`` over the last seconds.

    ``missing``: ready instances that were silent. ``idle``: no traffic, so the metric has no value and needs none.
    ``span_s``: how much of the window the values cover.
    """

    value: float | None = None
    latest: float | None = None
    reported: int = 0
    missing: int = 0
    idle: bool = False
    span_s: float = 0.0
    instances: dict[str, float] = Field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether it may carry a decision to remove replicas."""
        return self.idle or (self.value is not None and self.missing == 0)


class Demand(Message):
    """What is offered to a service, made of the seconds that lie behind; rates in requests/s over all replicas.

    ``stable`` and ``panic``: means over the two windows. ``rate``: the most that any of several windows proves.
    ``forecast``: the rate when a replica ordered now is ready. ``dispersion``: variance over mean of the requests in a
    second, 1 for independent ones. ``surge``: what nine in ten forecasts fell short by at most, over the root of the
    rate. ``panic_ago_s``: since when the load has no longer been a sudden one; None if it was not. ``waiting``:
    requests in line. ``missing``: ready replicas that were not heard.
    """

    stable: float
    panic: float
    rate: float
    forecast: float
    dispersion: float = 1.0
    surge: float = 0.0
    panic_ago_s: float | None = None
    service_s: float
    waiting: float = 0.0
    missing: int = 0


class OpenBreach(Message):
    """The last word of the validator on an episode that is open. ``judged_s``: end of the window it speaks of."""

    breach: str
    run: str
    system: str
    service: str
    metric: str
    level: str
    value: float
    limit: float
    confidence: float
    slowest_hop: str = ""
    judged_s: float


class Change(Message):
    """A recorded decision to move and what became of it.

    ``ok``: None until its result is known. ``done_s``: when the result was. ``before``: the measurements it was made
    on. ``expected``: what its metrics were to be afterwards. A resize has ``to_sizes`` and moves no replicas;
    ``reverses``: the decision that it undoes.
    """

    decision: str
    at_s: float
    action: Action
    current: int
    target: int
    cause: str
    limit: float | None = None
    breaches: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    before: dict[str, float] = Field(default_factory=dict)
    expected: dict[str, float] = Field(default_factory=dict)
    from_sizes: Sizes | None = None
    to_sizes: Sizes | None = None
    reverses: str = ""
    dry_run: bool = False
    ok: bool | None = None
    done_s: float | None = None
    verdict: Verdict | None = None

    @property
    def undecided(self) -> bool:
        """True until it failed or its effect is recorded, which is ``unknown`` at once for one that was overtaken."""
        return not self.dry_run and self.ok is not False and self.verdict is None


class Order(Message):
    """An operator's word that is in force until ``until_s``: this many replicas or, where None, no move at all."""

    id: str
    replicas: int | None
    until_s: float
    by: str
    reason: str


class Escalation(Message):
    """A cause for which nothing more is tried since ``at_s``, until ``over_s``; ``breaches`` it was open for."""

    cause: str
    decision: str
    at_s: float
    breaches: tuple[str, ...] = ()
    over_s: float | None = None


class Holding(Message):
    """What one service holds of the budget: ``replicas`` there or on their way, never less than its minimum counts.

    ``wanted``: how many it would have, were there room. ``cpu_cores``, ``memory`` (MB): of one replica, None where
    nobody tells.
    """

    service: str
    min: int
    replicas: int
    wanted: int
    cpu_cores: float | None = None
    memory: float | None = None


class Shares(Message):
    """The budget over all services (``bounds`` by quantity: replicas, cpu_cores, memory) and who holds how much."""

    bounds: dict[str, float]
    holdings: tuple[Holding, ...]


class Facts(Message):
    """What is so at ``now_s``. Without an observation ``unobserved`` says why.

    ``room``: how many more replicas the free reservations of the nodes hold; None where nobody asked or knows.
    ``shares``: None where there is no budget.
    """

    service: str
    now_s: float
    observation: Observation | None = None
    unobserved: str = ""
    readings: dict[str, Reading] = Field(default_factory=dict)
    demand: Demand | None = None
    breaches: tuple[OpenBreach, ...] = ()
    room: int | None = None
    shares: Shares | None = None


class Memory(Message):
    """What is remembered. ``highest_wanted``/``lowest_wanted``: over the stabilization windows down and up.

    ``idle_since_s``: since when all conditions to scale down have held. ``watched_since_s``: since when the service has
    been looked at without a gap, by whichever scaler. ``loud_since_s``: per cause that asks for a scale-up, since when,
    pauses of a few seconds aside. ``escalations``: also the last that are over. ``order``: what an operator wants now.
    ``orders_heard``: position in ORDERS of the last one taken. ``resumed_s``: when one last asked for a ``resume``.
    ``sizes_heard``: position of the last order for sizes that came to its end.
    """

    changes: tuple[Change, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    idle_since_s: float | None = None
    watched_since_s: float | None = None
    highest_wanted: int = 0
    lowest_wanted: int = 0
    loud_since_s: dict[str, float] = Field(default_factory=dict)
    order: Order | None = None
    orders_heard: int = 0
    resumed_s: float | None = None
    sizes_heard: int = 0


def undecided(changes: tuple[Change, ...]) -> Change | None:
    """The change that is under way, if one is."""
    return next((change for change in reversed(changes) if change.undecided), None)


def proved_needed(changes: tuple[Change, ...]) -> frozenset[str]:
    """The decisions whose undoing made it worse."""
    return frozenset(change.reverses for change in changes if change.reverses and change.verdict == "worse")
