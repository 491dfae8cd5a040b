"""The target there is when none is configured: replicas are those whose samples arrive, and none is ever moved."""

import time

from services.scaler.readings import SampleWindow
from services.scaler.situation import Observation
from services.scaler.target import RefusedError
from shared.contracts.scaling_rules import ScalingRules
from shared.errors import TransientError


class SamplesOnly:
    """Observes by resource samples alone."""

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
