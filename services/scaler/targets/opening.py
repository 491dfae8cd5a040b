"""Opens the target of each service as the rules name it; services with the same target share one connection."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

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
        opener = _Opener(stack, settings)
        targets: dict[str, Target] = {}
        for service, its in rules.services.items():
            chosen = its.target or rules.target or settings.scaler_target
            if _unkept(chosen, settings):
                targets[service] = SamplesOnly(samples, rules)
            else:
                targets[service] = await opener.open(service, chosen)
        yield targets


def _unkept(chosen: named.ScalingTarget | None, settings: ScalerSettings) -> bool:
    """The same rules serve where nobody keeps the replicas: there they are counted, not moved."""
    if isinstance(chosen, named.WorkersTarget):
        return chosen.url is None and settings.workers_url is None
    return chosen is None and settings.platform_url is None


class _Opener:
    """Keeps what targets share. A kind's library is loaded only where the kind is used."""

    def __init__(self, stack: AsyncExitStack, settings: ScalerSettings) -> None:
        self._stack, self._settings = stack, settings
        self._session: aiohttp.ClientSession | None = None
        self._engines: dict[str | None, object] = {}
        self._clusters: dict[str | None, Any] = {}

    async def open(self, service: str, chosen: named.ScalingTarget | None) -> Target:
        if isinstance(chosen, named.DockerTarget | named.SwarmTarget):
            return self._on_engine(service, chosen)
        if chosen is None or isinstance(chosen, named.LocalTarget | named.WorkersTarget):
            return await self._local(service, chosen)
        return await self._in_cluster(service, chosen)

    async def _local(self, service: str, chosen: named.LocalTarget | named.WorkersTarget | None) -> Target:
        settings = self._settings
        kept_by = settings.workers_url if isinstance(chosen, named.WorkersTarget) else settings.platform_url
        url = (chosen and chosen.url) or kept_by
        if url is None:
            raise ConfigError(f"services.{service}.target: local needs url, or TIDEGATE_PLATFORM_URL")
        if self._session is None:
            self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        return LocalTarget(self._session, str(url), settings.scaler_target_timeout_s)

    def _on_engine(self, service: str, chosen: named.DockerTarget | named.SwarmTarget) -> Target:
        from services.scaler.targets.docker_engine import DockerTarget
        from services.scaler.targets.engine import EngineConnection
        from services.scaler.targets.swarm import SwarmTarget

        engine = self._engines.get(chosen.url)
        if not isinstance(engine, EngineConnection):
            try:
                engine = EngineConnection(chosen.url, self._settings.scaler_target_timeout_s)
            except ConfigError as error:
                raise ConfigError(f"services.{service}.target.url: {error}") from error
            self._stack.callback(engine.close)
            self._engines[chosen.url] = engine
        if isinstance(chosen, named.SwarmTarget):
            return SwarmTarget(engine, chosen.name_of)
        return DockerTarget(engine, chosen.name)

    async def _in_cluster(self, service: str, chosen: named.KubernetesTarget) -> Target:
        from services.scaler.targets.kubernetes import KubernetesTarget
        from services.scaler.targets.kubernetes_cluster import open_cluster

        timeout_s = self._settings.scaler_target_timeout_s
        if chosen.context not in self._clusters:
            try:
                opened = await self._stack.enter_async_context(open_cluster(chosen.context, timeout_s))
            except ConfigError as error:
                raise ConfigError(f"services.{service}.target: {error}") from error
            self._clusters[chosen.context] = opened
        return KubernetesTarget(self._clusters[chosen.context], chosen, timeout_s)
