"""How many replicas are wanted, who may say so, and what to start or drain to get there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class StaleEpochError(Exception):
    """The request comes from a decider that another has replaced; `epoch` is the highest seen."""

    def __init__(self, asked: int, epoch: int) -> None:
        super().__init__(f"epoch {asked} is older than {epoch}")
        self.epoch = epoch


class OutOfLimitsError(Exception):
    """The number asked for is outside the service's hard limits."""


@dataclass(frozen=True)
class Desired:
    """The wanted number of replicas and the highest epoch that has spoken."""

    replicas: int
    min: int
    max: int
    epoch: int = 0
    decision: str | None = None

    def after(self, replicas: int, epoch: int, decision: str | None) -> Desired:
        """What is wanted after a request. An older epoch is refused before its number is looked at."""
        if epoch < self.epoch:
            raise StaleEpochError(epoch, self.epoch)
        if not self.min <= replicas <= self.max:
            raise OutOfLimitsError(f"replicas: {replicas} is outside {self.min} to {self.max}")
        return Desired(replicas, self.min, self.max, epoch, decision)


@dataclass(frozen=True)
class Standing:
    """One replica as the plan sees it."""

    id: str
    state: str
    outstanding: int


@dataclass(frozen=True)
class Plan:
    """How many replicas to start, and which to drain."""

    start: int
    drain: tuple[str, ...]


_GIVEN_UP_FIRST = {"unhealthy": 0, "starting": 1, "ready": 2}


def plan_replicas(desired: int, standings: Sequence[Standing]) -> Plan:
    """Bring `standings` (oldest first) to `desired`. Draining replicas do not count; they are leaving already.

    The unhealthy go first, then those starting, then the ready with the fewest requests, youngest first.
    """
    kept = [standing for standing in standings if standing.state != "draining"]
    excess = len(kept) - desired
    if excess <= 0:
        return Plan(-excess, ())
    youngest_first = reversed(kept)
    leaving = sorted(youngest_first, key=lambda one: (_GIVEN_UP_FIRST[one.state], one.outstanding))
    return Plan(0, tuple(standing.id for standing in leaving[:excess]))


def restart_delay_s(deaths_in_a_row: int) -> float:
    """The pause before a dead replica is replaced: none at first, then doubling from 0.2 s up to 5 s."""
    return 0.0 if deaths_in_a_row <= 1 else min(5.0, 0.2 * 2.0 ** min(deaths_in_a_row - 2, 10))
