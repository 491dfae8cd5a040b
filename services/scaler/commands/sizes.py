"""What one replica of each service may use and has reserved, asked of the targets; what does not answer is left out."""

import asyncio

from services.scaler.commands.stack import Stack
from services.scaler.readings import SampleWindow
from services.scaler.settings import ScalerSettings
from services.scaler.situation import Sizes
from services.scaler.targets.opening import open_targets
from services.scaler.targets.target import RefusedError, Target
from shared.contracts.scaling_rules import ScalingRules
from shared.errors import ConfigError, TransientError


async def read_sizes(rules: ScalingRules, settings: ScalerSettings, stack: Stack) -> dict[str, Sizes]:
    """By service; one whose target is away, or tells nothing of it, is absent."""
    if settings.platform_url is None and stack.supervisor_url is not None:
        settings = settings.model_copy(update={"platform_url": stack.supervisor_url})
    try:
        async with open_targets(rules, settings, SampleWindow()) as targets:
            told = await asyncio.gather(*(_ask(service, target) for service, target in targets.items()))
    except (ConfigError, TransientError):
        return {}  # who looks at usage need not be able to reach what runs the replicas
    return {service: sizes for service, sizes in told if sizes != Sizes()}


async def _ask(service: str, target: Target) -> tuple[str, Sizes]:
    try:
        return service, await target.sizes(service)
    except (RefusedError, TransientError):
        return service, Sizes()
