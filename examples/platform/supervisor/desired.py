"""How many replicas are wanted, of which sizes, who may say so, and what to start or drain to get there. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..replica.spec import Sizes


class StaleEpochError(Exception):
    """The request comes from a decider that another has replaced; `epoch` is the highest seen."""

    def __init__(self, asked: int, epoch: int) -> None:
        super().__init__(f"epoch {asked} is older than {epoch}")
        self.epoch = epoch


class OutOfLimitsError(Exception):
    """What is asked for is outside the service's hard limits."""


@dataclass(frozen=True)
class Desired:
    """The wanted number of replicas and their sizes, and the highest epoch that has spoken."""

    replicas: int
    sizes: Sizes
    min: int
    max: int
    epoch: int = 0
    decision: str | None = None

    def after(self, replicas: int, epoch: int, decision: str | None) -> Desired:
        """What is wanted after a request. An older epoch is refused before its number is looked at."""
        self._check(epoch)
        if not self.min <= replicas <= self.max:
            raise OutOfLimitsError(f"replicas: {replicas} is outside {self.min} to {self.max}")
        return replace(self, replicas=replicas, epoch=epoch, decision=decision)

    def resized(self, sizes: Sizes, epoch: int, decision: str | None) -> Desired:
        """The same for the sizes of each replica."""
        self._check(epoch)
        if fault := sizes.fault():
            raise OutOfLimitsError(fault)
        return replace(self, sizes=sizes, epoch=epoch, decision=decision)

    def _check(self, epoch: int) -> None:
        if epoch < self.epoch:
            raise StaleEpochError(epoch, self.epoch)


@dataclass(frozen=True)
class Standing:
    """One replica as the plan sees it. `outdated`: it has other sizes than are wanted."""

    id: str
    state: str
    outstanding: int
    outdated: bool = False


@dataclass(frozen=True)
class Plan:
    """How many replicas to start, and which to drain."""

    start: int
    drain: tuple[str, ...]


_GIVEN_UP_FIRST = {"unhealthy": 0, "starting": 1, "ready": 2}


def plan_replicas(desired: int, standings: Sequence[Standing]) -> Plan:
    """Bring `standings` (oldest first) to `desired`. Draining replicas do not count; they are leaving already.

    While some are outdated one more is started, and when all that are up to date are ready one of the outdated goes: a
    rolling update, one at a time, with never fewer ready than are wanted. The unhealthy go first, then those starting,
    then the outdated, then the ready with the fewest requests, youngest first.
    """
    kept = [standing for standing in standings if standing.state != "draining"]
    outdated = [standing for standing in kept if standing.outdated]
    may_go_on = bool(outdated) and all(standing.state == "ready" for standing in kept if not standing.outdated)
    if may_go_on and len(kept) == desired + 1:
        return Plan(0, (_leaving(outdated)[0].id,))
    wanted = desired + 1 if may_go_on or (outdated and len(kept) > desired) else desired
    if len(kept) <= wanted:
        return Plan(wanted - len(kept), ())
    return Plan(0, tuple(standing.id for standing in _leaving(kept)[: len(kept) - wanted]))


def _leaving(kept: Sequence[Standing]) -> list[Standing]:
    """In the order in which they go."""
    youngest_first = reversed(kept)
    return sorted(youngest_first, key=lambda one: (_GIVEN_UP_FIRST[one.state], not one.outdated, one.outstanding))


def restart_delay_s(deaths_in_a_row: int) -> float:
    """The pause before a dead replica is replaced: none at first, then doubling from 0.2 s up to 5 s."""
    return 0.0 if deaths_in_a_row <= 1 else min(5.0, 0.2 * 2.0 ** min(deaths_in_a_row - 2, 10))


def room_for(desired: Desired, free_cpu_cores: float, free_memory_mib: float) -> int:
    """How many more replicas there may be: by the service's limit, and by what nobody has reserved yet."""
    sizes = desired.sizes
    reserved = ((free_cpu_cores, sizes.cpu_reserved_cores), (free_memory_mib, sizes.memory_reserved_mib))
    fits = [int(free / each + 1e-9) for free, each in reserved if each > 0 and free < math.inf]
    return max(0, min([desired.max - desired.replicas, *fits]))
