"""What a replica is told at its start, and the shape of one service in `platform.yaml`.

Plain dataclasses, so that a replica starts without pydantic; the supervisor validates the same classes with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

SYSTEMS = ("autmatrix", "relaycore", "neuroweaver")

KINDS_OF_WORK: dict[str, tuple[str, ...]] = {
    "autmatrix": ("api", "execution"),
    "relaycore": ("api", "routing", "cost_optimization", "provider"),
    "neuroweaver": ("api", "inference", "model_load"),
}
"""The service times each system needs in `platform.yaml`."""


@dataclass(frozen=True)
class ServiceTime:
    """A distribution of service times: its mean in milliseconds and, for lognormal, the sigma of the logarithm."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    mean_ms: Annotated[float, Ge(0), Le(600_000)]
    distribution: Literal["lognormal", "exponential", "fixed"] = "lognormal"
    sigma: Annotated[float, Ge(0), Le(3)] = 0.3


Cores = Annotated[float, Le(1024)]
Mebibytes = Annotated[float, Le(16 * 1024 * 1024)]


@dataclass(frozen=True)
class Sizes:
    """What one replica may use and has reserved. Told and counted, not enforced."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    cpu_limit_cores: Annotated[Cores, Gt(0)]
    memory_limit_mib: Annotated[Mebibytes, Gt(0)]
    cpu_reserved_cores: Annotated[Cores, Ge(0)] = 0.0
    memory_reserved_mib: Annotated[Mebibytes, Ge(0)] = 0.0

    def fault(self) -> str:
        """What is wrong with these sizes, or nothing."""
        for what, reserved, limit in (
            ("cpu_reserved_cores", self.cpu_reserved_cores, self.cpu_limit_cores),
            ("memory_reserved_mib", self.memory_reserved_mib, self.memory_limit_mib),
        ):
            if reserved > limit:
                return f"{what}: {reserved:g} is above the limit of {limit:g}"
        return ""


@dataclass(frozen=True)
class ServiceConfig:
    """One service of `platform.yaml`. `min` and `max` are the hard limits of `replicas`, `sizes` those at the start."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    system: Literal["autmatrix", "relaycore", "neuroweaver"]
    replicas: Annotated[int, Ge(0)]
    min: Annotated[int, Ge(0)]
    max: Annotated[int, Ge(1)]
    servers: Annotated[int, Ge(1)]
    service_time: dict[str, ServiceTime]
    sizes: Sizes
    api_servers: Annotated[int, Ge(1)] = 32
    seed: int = 0
    start_up_s: Annotated[float, Ge(0), Le(300)] = 0.0
    drain_deadline_s: Annotated[float, Ge(0), Le(600)] = 15.0


@dataclass(frozen=True)
class Fault:
    """A fault in force. `factor` multiplies service times (slow), `rate` is the share of 500s (errors).

    `crash` ends each replica when it hears of it, so soon after its start.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    kind: Literal["slow", "errors", "hang", "crash", "none"] = "none"
    factor: Annotated[float, Ge(0), Le(1000)] = 5.0
    rate: Annotated[float, Ge(0), Le(1)] = 0.5


@dataclass(frozen=True)
class ReplicaSpec:
    """Everything one replica is told, as JSON on its standard input."""

    service: str
    instance: str
    ordinal: int
    config: ServiceConfig
    peers: dict[str, str]
    secret: str = field(repr=False)
    password: str = field(repr=False)
    token_ttl_s: float
    data: str
    otlp_endpoint: str | None = None

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ReplicaSpec:
        """Rebuild what `dataclasses.asdict` made of a spec."""
        config = dict(document["config"])
        times = {kind: ServiceTime(**time) for kind, time in config["service_time"].items()}
        sizes = Sizes(**config["sizes"])
        return cls(**{**document, "config": ServiceConfig(**{**config, "service_time": times, "sizes": sizes})})
