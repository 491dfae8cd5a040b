"""The containers of a service as the Docker Engine tells of them: its replicas, and a copy of one. Pure.

Source of the fields: Engine API, ``GET /containers/{id}/json`` and ``POST /containers/create``.

Each replica has a slot: the number in its label where the scaler made it, else the lowest free one in order of
creation. The count that is wanted is kept nowhere: it is the number of containers, whatever their state. One that is to
go is renamed first, and is no replica from then on.
"""

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.engine_api import (
    DECISION,
    EPOCH,
    MB,
    NANO,
    SERVICE,
    SLOT,
    STEADY_S,
    amount,
    seconds,
)
from services.scaler.targets.target import RefusedError

COMPOSE_NUMBER = "com.docker.compose.container-number"
SHARES_PER_CORE = 1024
"""``CpuShares`` of one promised core, as Kubernetes turns requests into shares."""

LOOPED = 2
GRACE_S = 10

Container = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replicas:
    """``slots``: each replica by its number. ``leaving``: ids of those that are to go."""

    slots: dict[int, Container]
    leaving: tuple[str, ...]

    @property
    def first(self) -> Container:
        """The one that others are copies of: of the lowest slot, a ready one before others."""
        return min(self.slots.items(), key=lambda item: (not _ready(item[1]), item[0]))[1]

    def missing(self, replicas: int) -> list[int]:
        """The slots to fill for so many: the lowest that are free."""
        free = (number for number in itertools.count(1) if number not in self.slots)
        return [next(free) for _ in range(replicas - len(self.slots))]

    def beyond(self, replicas: int) -> list[Container]:
        """Those to take away for so many: of the highest slots."""
        return [self.slots[number] for number in sorted(self.slots, reverse=True)[: max(0, len(self.slots) - replicas)]]


def replicas_of(service: str, containers: Iterable[Container]) -> Replicas:
    """``RefusedError`` when there is none to copy."""
    own = [one for one in containers if labels_of(one).get(SERVICE) == service and not _going(one)]
    leaving = [one["Id"] for one in own if leaves(service, one)]
    staying = sorted((one for one in own if not leaves(service, one)), key=lambda one: (one["Created"], one["Id"]))
    if not staying:
        raise RefusedError(f"{service}: no container carries the label {SERVICE}={service}")
    slots: dict[int, Container] = {}
    unnumbered = []
    for one in staying:
        label = labels_of(one).get(SLOT, "")
        if label.isdecimal() and int(label) not in slots:
            slots[int(label)] = one
        else:
            unnumbered.append(one)
    for one in unnumbered:
        slots[next(number for number in itertools.count(1) if number not in slots)] = one
    return Replicas(slots, tuple(leaving))


def observation(replicas: Replicas, now_s: float) -> Observation:
    """Their states. One that ended and is not started again is unhealthy, as is one that is paused."""
    states = [_state(one, now_s) for one in replicas.slots.values()]
    return Observation(
        desired=len(states),
        ready=states.count("ready"),
        starting=states.count("starting"),
        unhealthy=states.count("unhealthy") + states.count("restarting"),
        restarting=states.count("restarting"),
    )


def sizes_of(container: Container) -> Sizes:
    """Cores reserved are told by ``CpuShares``; the engine knows no other promise of CPU."""
    host = container["HostConfig"]
    cpu_limit = amount(host, "NanoCpus", NANO)
    if cpu_limit is None and (quota := amount(host, "CpuQuota", 1)) is not None:
        cpu_limit = quota / (host.get("CpuPeriod") or 100_000)
    return Sizes(
        cpu_limit=cpu_limit,
        memory_limit=amount(host, "Memory", MB),
        cpu_reserved=amount(host, "CpuShares", SHARES_PER_CORE),
        memory_reserved=amount(host, "MemoryReservation", MB),
    )


def resizing(container: Container, sizes: Sizes) -> dict[str, Any]:
    """The body of ``POST /containers/{id}/update``; empty when nothing is to change. ``RefusedError``: a running
    container's bound can be moved, not taken away."""
    host, before, body = container["HostConfig"], sizes_of(container), dict[str, Any]()
    for name, value in sizes:
        if value is None and getattr(before, name) is not None:
            raise RefusedError(f"{name_of(container)}: {name} cannot be taken away from a running container")
    if sizes.cpu_limit != before.cpu_limit and sizes.cpu_limit is not None:
        if amount(host, "CpuQuota", 1) is None:
            body["NanoCpus"] = round(sizes.cpu_limit * NANO)
        else:
            body["CpuQuota"] = round(sizes.cpu_limit * (host.get("CpuPeriod") or 100_000))
    if sizes.cpu_reserved != before.cpu_reserved and sizes.cpu_reserved is not None:
        body["CpuShares"] = max(2, round(sizes.cpu_reserved * SHARES_PER_CORE))
    if sizes.memory_reserved != before.memory_reserved and sizes.memory_reserved is not None:
        body["MemoryReservation"] = round(sizes.memory_reserved * MB)
    if sizes.memory_limit != before.memory_limit and sizes.memory_limit is not None:
        body["Memory"] = round(sizes.memory_limit * MB)
        # Memory and swap together have a bound too, which must stay above; swap keeps what it had.
        swap = int(host.get("MemorySwap") or 0)
        body["MemorySwap"] = body["Memory"] + swap - int(host.get("Memory") or 0) if swap > 0 else swap
    return body


def room(replicas: Replicas, running: Sequence[Container], engine: Mapping[str, Any]) -> int | None:
    """How many more fit in what the machine has less what its running containers are promised. None where a replica is
    promised nothing."""
    needs = _promised(replicas.first)
    has = {"cores": float(engine.get("NCPU") or 0), "memory": (engine.get("MemTotal") or 0) / MB}
    taken = [_promised(one) for one in running]
    # A hair more than whole: sums of cores are not exact.
    bounds = [(has[name] - sum(one[name] for one in taken)) / need + 1e-9 for name, need in needs.items() if need]
    return max(0, int(min(bounds))) if bounds else None


def copy_of(container: Container, service: str, slot: int, image: str, epoch: int, decision: str) -> dict[str, Any]:
    """The body of ``POST /containers/create`` for another replica like this one.

    ``RefusedError`` for what two containers cannot both have: a fixed port of the host, a fixed address.
    """
    config, host = container["Config"], copy.deepcopy(dict(container["HostConfig"]))
    for port, bindings in (host.get("PortBindings") or {}).items():
        for binding in bindings or ():
            if binding.get("HostPort") not in (None, "", "0"):
                raise RefusedError(
                    f"{name_of(container)} publishes {port} on port {binding['HostPort']} of the host, which a second "
                    "container cannot; publish no fixed port and put a proxy in front"
                )
    body = {name: value for name, value in config.items() if name not in ("Hostname", "Domainname", "MacAddress")}
    if config.get("Hostname") and not container["Id"].startswith(config["Hostname"]):
        body["Hostname"] = config["Hostname"]
    labels = {**labels_of(container), SERVICE: service, SLOT: str(slot), EPOCH: str(epoch), DECISION: decision}
    if COMPOSE_NUMBER in labels:
        labels[COMPOSE_NUMBER] = str(slot)
    host["ContainerIDFile"] = ""
    networks = endpoints(container)
    first = {name: networks[name] for name in list(networks)[:1]}
    return {
        **body,
        "Image": image,
        "Labels": labels,
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": first},
    }


def endpoints(container: Container) -> dict[str, dict[str, Any]]:
    """The networks that a copy joins, with the aliases that are not this container's own."""
    joined: dict[str, dict[str, Any]] = {}
    own = {container["Id"][:12], name_of(container)}
    for name, endpoint in ((container.get("NetworkSettings") or {}).get("Networks") or {}).items():
        if name in ("none", "host", "bridge"):
            continue
        fixed = {key: value for key, value in (endpoint.get("IPAMConfig") or {}).items() if value}
        if fixed:
            raise RefusedError(f"{name_of(container)} has a fixed address in the network {name}, which a copy cannot")
        aliases = [alias for alias in endpoint.get("Aliases") or () if alias not in own]
        joined[name] = {"Aliases": aliases, "DriverOpts": endpoint.get("DriverOpts")}
    return joined


def name_of(container: Container) -> str:
    return str(container["Name"]).lstrip("/")


def slot_name(service: str, slot: int) -> str:
    """The name of the replica in a slot: two scalers that fill the same one get the same container."""
    return f"{service}.{slot}"


def leaving_name(service: str, container_id: str) -> str:
    return f"{service}.leaving.{container_id[:12]}"


def leaves(service: str, container: Container) -> bool:
    return name_of(container) == leaving_name(service, container["Id"])


def grace_s(container: Container) -> int:
    """How long it may take to stop."""
    told = container["Config"].get("StopTimeout")
    return GRACE_S if told is None else int(told)


def unstarted(container: Container) -> bool:
    """Made by a scaler that did not live to start it."""
    return SLOT in labels_of(container) and bool(container["State"].get("Status") == "created")


def labels_of(container: Container) -> Mapping[str, str]:
    return container["Config"].get("Labels") or {}


def _going(container: Container) -> bool:
    return bool(container["State"].get("Status") == "removing")


def _ready(container: Container) -> bool:
    state = container["State"]
    health = (state.get("Health") or {}).get("Status") or "none"
    return bool(state.get("Running")) and not state.get("Paused") and health in ("none", "healthy")


def _state(container: Container, now_s: float) -> str:
    state = container["State"]
    restarts, status = int(container.get("RestartCount") or 0), state.get("Status")
    fresh = status == "running" and now_s - seconds(state.get("StartedAt")) < STEADY_S
    if restarts >= LOOPED and (fresh or status == "restarting"):
        return "restarting"
    if _ready(container) and status != "restarting":
        return "ready"
    beginning = status == "running" and (state.get("Health") or {}).get("Status") == "starting"
    return "starting" if beginning or status in ("created", "restarting") else "unhealthy"


def _promised(container: Container) -> dict[str, float]:
    sizes = sizes_of(container)
    return {"cores": sizes.cpu_reserved or 0.0, "memory": sizes.memory_reserved or 0.0}
