"""What the scaler asks of whatever runs the replicas, and how it may fail. Adapters implement it, one file each."""

import time
from typing import Protocol

from services.scaler.readings import SampleWindow
from services.scaler.situation import Observation, Sizes
from shared.contracts.scaling_rules import ScalingRules
from shared.errors import TidegateError, TransientError


class FencedError(TidegateError):
    """The target has heard a later epoch: another scaler has taken over, so this one must not act."""


class RefusedError(TidegateError):
    """The target will not do it however often it is asked; the text says why."""


class Target(Protocol):
    """``dry_run``: it can only be observed; nothing that changes it is ever called.

    Every method raises ``RefusedError`` (it will not, however often it is asked) or ``TransientError`` (it is not known
    whether it was heard); those that change something also ``FencedError`` for an epoch older than one heard before.
    Those are idempotent: asking again for the same changes nothing.
    """

    dry_run: bool

    async def observe(self, service: str) -> Observation:
        """How many replicas there are, and in which state."""
        ...

    async def room(self, service: str) -> int | None:
        """How many more replicas the free reservations of the nodes have room for; None where nothing is known."""
        ...

    async def sizes(self, service: str) -> Sizes:
        """What each replica may use and has reserved."""
        ...

    async def set_sizes(self, service: str, sizes: Sizes, epoch: int, decision: str) -> None:
        """Give each replica these sizes by an update of the service; returns before it is through. What is None is
        taken away where there was one; ``RefusedError`` where that cannot be."""
        ...

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        """Want that many from now on; returns before they are ready. Asking for what is there stamps the epoch."""
        ...


class SamplesOnly:
    """The target where none is configured: replicas are those whose samples arrive, and none is ever moved."""

    dry_run = True

    def __init__(self, samples: SampleWindow, rules: ScalingRules) -> None:
        self._samples = samples
        self._rules = rules

    async def observe(self, service: str) -> Observation:
        freshness_s = self._rules.services[service].tuning.freshness
        count = len(self._samples.ready_instances(service, time.time(), freshness_s))
        if count == 0:
            raise TransientError(f"no instance of {service} has sent a sample within {freshness_s:g} s")
        return Observation(desired=count, ready=count)

    async def room(self, service: str) -> int | None:
        return None

    async def sizes(self, service: str) -> Sizes:
        return Sizes()

    async def set_sizes(self, service: str, sizes: Sizes, epoch: int, decision: str) -> None:
        raise RefusedError(f"{service}: no platform is configured (TIDEGATE_PLATFORM_URL), so nothing is resized")

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        raise RefusedError(f"{service}: no platform is configured (TIDEGATE_PLATFORM_URL), so nothing is moved")
