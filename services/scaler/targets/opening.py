"""Opens the target of each service as the rules name it; services with the same target share one connection."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from services.scaler.readings import SampleWindow
from services.scaler.settings import ScalerSettings
from services.scaler.targets.local import LocalTarget
from services.scaler.targets.target import SamplesOnly, Target
from shared.contracts import scaling_targets as named
from shared.contracts.scaling_rules import ScalingRules
from shared.errors import ConfigError


@asynccontextmanager
async def open_targets(
    rules: ScalingRules, settings: ScalerSettings, samples: SampleWindow
) -> AsyncIterator[dict[str, Target]]:
    """The target of every service, closed together. Raises ``ConfigError`` for one that cannot be."""
    async with AsyncExitStack() as stack:
        targets: dict[str, Target] = {}
        for service, its in rules.services.items():
            chosen = its.target or rules.target
            if chosen is None or isinstance(chosen, named.LocalTarget | named.WorkersTarget):
                kept_by = settings.workers_url if isinstance(chosen, named.WorkersTarget) else settings.platform_url
                url = (chosen and chosen.url) or kept_by
                if url is None and isinstance(chosen, named.LocalTarget):
                    raise ConfigError(f"services.{service}.target: local needs url, or TIDEGATE_PLATFORM_URL")
                if url is None:
                    # The same rules serve where nobody keeps the replicas: there they are counted, not moved.
                    targets[service] = SamplesOnly(samples, rules)
                    continue
                session = await stack.enter_async_context(aiohttp.ClientSession())
                targets[service] = LocalTarget(session, str(url), settings.scaler_target_timeout_s)
            else:
                raise ConfigError(f"services.{service}.target: {chosen.kind} is not known")
        yield targets
