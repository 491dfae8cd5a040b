"""What the Docker Engine says of a container becomes a reading. Pure.

Source of the fields: Engine API, ``GET /containers/json``, ``/containers/{id}/json``, ``/containers/{id}/stats``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.collector.source_config import ContainerRule
from services.collector.usage import Usage
from shared.errors import BadMessageError

SERVICE, SYSTEM, INSTANCE = "tidegate.service", "tidegate.system", "tidegate.instance"
# What an orchestrator calls the service; it counts for containers that are ours by ``tidegate.system``.
ORCHESTRATED = ("com.docker.swarm.service.name", "com.docker.compose.service")


@dataclass(frozen=True, slots=True)
class Container:
    """A container that is an instance of a service."""

    id: str
    service: str
    system: str
    instance: str


def pick(summary: Mapping[str, Any], rules: Sequence[ContainerRule]) -> Container | None:
    """Whose instance a container of the engine's list is: by the first rule that fits, else by its own labels."""
    labels: Mapping[str, str] = summary.get("Labels") or {}
    rule = next((rule for rule in rules if _fits(rule, labels)), None)
    service = rule.service if rule else labels.get(SERVICE, "")
    system = rule.system if rule else labels.get(SYSTEM, "")
    if not service and system:
        service = next((labels[name] for name in ORCHESTRATED if labels.get(name)), system)
    if not service:
        return None
    names = summary.get("Names") or [summary["Id"][:12]]
    return Container(summary["Id"], service, system or service, labels.get(INSTANCE) or names[0].lstrip("/"))


def takes_traffic(inspected: Mapping[str, Any]) -> bool:
    """Running, not paused, and healthy where it has a health check."""
    state = inspected.get("State") or {}
    health = (state.get("Health") or {}).get("Status") or "none"
    return bool(state.get("Running")) and not state.get("Paused") and health in ("none", "healthy")


def life_of(inspected: Mapping[str, Any]) -> str:
    """Another one after each start of the container: its counters begin anew."""
    return f"{inspected.get('Id')} {(inspected.get('State') or {}).get('StartedAt')}"


def usage_of(inspected: Mapping[str, Any], stats: Mapping[str, Any], at_s: float) -> Usage:
    """One reading; ``BadMessageError`` when it is not what the API promises.

    CPU is a ratio of the container's limit, where it has none of the CPUs it may run on; memory is without the page
    cache that the kernel can take back at any time, as ``docker stats`` shows it.
    """
    try:
        cpu = stats.get("cpu_stats") or {}
        throttling = cpu.get("throttling_data") or {}
        memory = stats.get("memory_stats") or {}
        networks = list((stats.get("networks") or {}).values())
        block = stats.get("blkio_stats") or {}
        moved, done = block.get("io_service_bytes_recursive"), block.get("io_serviced_recursive")
        nanoseconds = (cpu.get("cpu_usage") or {}).get("total_usage")
        return Usage(
            at_s=at_s,
            # A container that does not run has a reading of zeros.
            cpu_s=nanoseconds / 1e9 if nanoseconds else None,
            cpu_limit_cores=_cores(inspected.get("HostConfig") or {}, cpu),
            periods=throttling.get("periods"),
            throttled_periods=throttling.get("throttled_periods"),
            memory_bytes=_working_set(memory),
            memory_limit_bytes=memory.get("limit"),
            received=_sum(networks, "rx_bytes"),
            sent=_sum(networks, "tx_bytes"),
            errors=_sum(networks, "rx_errors", "tx_errors"),
            drops=_sum(networks, "rx_dropped", "tx_dropped"),
            read_bytes=_of_operation(moved, "read"),
            written_bytes=_of_operation(moved, "write"),
            reads=_of_operation(done, "read"),
            writes=_of_operation(done, "write"),
            threads=(stats.get("pids_stats") or {}).get("current"),
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BadMessageError(f"no container statistics as the Engine API describes them: {error!r}") from error


def _fits(rule: ContainerRule, labels: Mapping[str, str]) -> bool:
    key, equals, value = rule.label.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _cores(host: Mapping[str, Any], cpu: Mapping[str, Any]) -> float | None:
    if host.get("NanoCpus"):
        return float(host["NanoCpus"]) / 1e9
    if (host.get("CpuQuota") or 0) > 0:
        return float(host["CpuQuota"]) / float(host.get("CpuPeriod") or 100_000)
    if host.get("CpusetCpus"):
        return float(count_cpus(host["CpusetCpus"]))
    online = cpu.get("online_cpus") or len((cpu.get("cpu_usage") or {}).get("percpu_usage") or ())
    return float(online) if online else None


def count_cpus(listed: str) -> int:
    """How many CPUs a list such as ``0-3,7`` names; ``ValueError`` when it is none."""
    count = 0
    for part in listed.split(","):
        first, dash, last = part.partition("-")
        count += int(last) - int(first) + 1 if dash else 1
    return count


def _working_set(memory: Mapping[str, Any]) -> float | None:
    used = memory.get("usage")
    if not used:
        return None
    detail = memory.get("stats") or {}
    # cgroups v1 says total_inactive_file, v2 inactive_file.
    idle = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    return float(max(0, used - idle))


def _sum(networks: Sequence[Mapping[str, Any]], *names: str) -> float | None:
    told = [network[name] for network in networks for name in names if name in network]
    return float(sum(told)) if told else None


def _of_operation(entries: Sequence[Mapping[str, Any]] | None, operation: str) -> float | None:
    """Sum over devices. An empty list is also what an engine without these statistics sends, so it is no zero."""
    told = [entry["value"] for entry in entries or () if str(entry["op"]).lower() == operation]
    return float(sum(told)) if told else None
