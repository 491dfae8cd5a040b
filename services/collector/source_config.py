"""The part ``sources:`` of ``config/resources.yaml``: what is read for resource samples, one entry each.

``docs/resources.md`` shows every kind with its fields.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from services.collector.samples import ResourceMap
from shared.contracts.base import Document, Name, SystemId
from shared.contracts.resource import RESOURCE_UNITS


def _known(metrics: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(metrics) - RESOURCE_UNITS.keys())
    if unknown:
        raise ValueError(f"no such metric: {', '.join(unknown)}; there are {', '.join(RESOURCE_UNITS)}")
    return metrics


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return pattern


Kept = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known)]


class SourceBase(Document):
    """``name``: tells two of a kind apart, in logs, metrics and leases; the kind where it is not given.

    ``every_s``: seconds between two readings, ``TIDEGATE_SCRAPE_INTERVAL_S`` where not given. ``timeout_s``: how long
    one may take.
    """

    kind: str
    name: str = Field(default="", pattern=r"^[a-z][a-z0-9-]{0,31}$", validate_default=False)
    every_s: float | None = Field(default=None, ge=0.1, le=60)
    timeout_s: float = Field(default=5.0, gt=0, le=60)

    @property
    def title(self) -> str:
        return self.name or self.kind


class DnsRule(Document):
    """``name``: each address that DNS has for it is an instance of this service, read at ``port``."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    port: int = Field(ge=1, le=65535)
    service: Name
    system: SystemId


class PlatformSpec(SourceBase):
    """Instances found by Prometheus HTTP discovery at ``<url>/sd`` or by DNS, each read at ``/metrics`` by the mapping.

    ``url``: that of ``TIDEGATE_PLATFORM_URL`` where neither it nor ``dns`` is given; without any nothing is read.
    """

    kind: Literal["platform"]
    url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+")
    dns: tuple[DnsRule, ...] = ()
    timeout_s: float = Field(default=2.0, gt=0, le=60)

    @model_validator(mode="after")
    def _one_way(self) -> "PlatformSpec":
        if self.url is not None and self.dns:
            raise ValueError("url and dns are two ways to find instances; give one")
        return self


class ContainerRule(Document):
    """``label``: ``KEY`` or ``KEY=VALUE``, all containers with it are instances of this service."""

    label: str = Field(pattern=r"^[^=\s]+(=.*)?$")
    service: Name
    system: SystemId


class DockerSpec(SourceBase):
    """``url``: the engine's; that of ``DOCKER_HOST``, else the local socket, where it is not given."""

    kind: Literal["docker"]
    url: str | None = Field(default=None, pattern=r"^(unix|tcp|http|https|ssh)://\S+$")
    containers: tuple[ContainerRule, ...] = ()
    keep: Kept | None = None


class OwnedSpec(SourceBase):
    """What is read belongs to one service of one system, which is named like the service where it is not given."""

    service: Name
    system: SystemId = ""
    instance: Name | None = None
    keep: Kept | None = None

    @property
    def of_system(self) -> str:
        return self.system or self.service


class StoredSpec(OwnedSpec):
    """``storage``: a path on the file system whose use is told as the service's."""

    storage: Path | None = None


class CgroupSpec(StoredSpec):
    """``path``: below ``root``, with ``*`` and ``**`` as patterns; each match is an instance."""

    kind: Literal["cgroup"]
    path: str = Field(pattern=r"^/?[^/]")
    root: Path = Path("/sys/fs/cgroup")

    @model_validator(mode="after")
    def _inside(self) -> "CgroupSpec":
        if ".." in Path(self.path).parts:
            raise ValueError("path: must stay below root; write it without '..'")
        return self


class ProcessSpec(StoredSpec):
    """Found by ``pid_file``, by ``command`` (a regular expression anywhere in the command line) or by the TCP ``port``
    it listens on, with all its descendants unless ``children`` is false.

    ``cpu_limit_cores``, ``memory_limit_mb``: what ratios are of; the machine's where they are not given.
    """

    kind: Literal["process"]
    pid_file: Path | None = None
    command: Annotated[str, Field(min_length=1), AfterValidator(_compiles)] | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    children: bool = True
    cpu_limit_cores: float | None = Field(default=None, gt=0)
    memory_limit_mb: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> "ProcessSpec":
        given = [way for way in ("pid_file", "command", "port") if getattr(self, way) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of pid_file, command and port to find the process by, not {found}")
        return self


class NvidiaSpec(OwnedSpec):
    """``gpus``: indices as ``nvidia-smi`` shows them; all where they are not given."""

    kind: Literal["nvidia"]
    gpus: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)


SourceSpec = Annotated[
    PlatformSpec | DockerSpec | CgroupSpec | ProcessSpec | NvidiaSpec,
    Field(discriminator="kind"),
]


def _default_sources() -> tuple[Any, ...]:
    return (PlatformSpec(kind="platform"),)


class Resources(ResourceMap):
    """The whole file. Without ``sources`` the platform alone is read."""

    sources: tuple[SourceSpec, ...] = Field(default_factory=_default_sources)

    @model_validator(mode="after")
    def _named_once(self) -> "Resources":
        titles = [source.title for source in self.sources]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"sources: two are called {', '.join(twice)}; give each a name of its own")
        return self
