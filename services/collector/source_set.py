"""The sources that the configuration names, made. A kind's library is loaded only where the kind is used."""

import logging

from services.collector.scrape import Platform
from services.collector.source import Source
from services.collector.source_config import (
    CgroupSpec,
    DockerSpec,
    PlatformSpec,
    ProcessSpec,
    Resources,
    SourceSpec,
)

logger = logging.getLogger(__name__)


def make_sources(resources: Resources, platform_url: str | None, every_s: float) -> list[tuple[Source, float]]:
    """Each source with its interval in seconds. The platform is left out where no address of it is known."""
    made = []
    for spec in resources.sources:
        source = _make(spec, resources, platform_url)
        if source is None:
            logger.info("%s: neither url: nor dns: nor TIDEGATE_PLATFORM_URL is given, so nothing is read", spec.title)
        else:
            made.append((source, spec.every_s or every_s))
    return made


def _make(spec: SourceSpec, resources: Resources, platform_url: str | None) -> Source | None:
    if isinstance(spec, PlatformSpec):
        url = None if spec.dns else spec.url or platform_url
        return Platform(spec, url, resources) if spec.dns or url else None
    if isinstance(spec, DockerSpec):
        from services.collector.docker_engine import DockerEngine

        return DockerEngine(spec)
    if isinstance(spec, CgroupSpec):
        from services.collector.cgroups import open_cgroups

        return open_cgroups(spec)
    if isinstance(spec, ProcessSpec):
        from services.collector.processes import open_processes

        return open_processes(spec)
    from services.collector.nvidia import Nvidia

    return Nvidia(spec)
