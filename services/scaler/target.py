"""What the scaler asks of whatever runs the replicas, and how it may fail. Adapters implement it, one file each."""

import time
from typing import Protocol

from services.scaler.readings import SampleWindow
from services.scaler.situation import Observation
from shared.contracts.scaling_rules import ScalingRules
from shared.errors import TidegateError, TransientError


class FencedError(TidegateError):
    """The target has heard a later epoch: another scaler has taken over, so this one must not act."""


class RefusedError(TidegateError):
    """The target will not do it however often it is asked; the text says why."""


class Target(Protocol):
    """``dry_run``: it can only be observed; ``set_replicas`` is never called."""

    dry_run: bool

    async def observe(self, service: str) -> Observation:
        """How many replicas there are. Raises ``RefusedError`` or ``TransientError``."""
        ...

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        """Want that many from now on; returns before they are ready, and asking again changes nothing.

        Raises ``FencedError`` for an epoch older than one heard before, ``RefusedError``, and ``TransientError`` when
        it is not known whether it was heard.
        """
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

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        raise RefusedError(f"{service}: no platform is configured (TIDEGATE_PLATFORM_URL), so nothing is moved")
