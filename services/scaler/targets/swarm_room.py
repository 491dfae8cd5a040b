"""How many more replicas of a service a Swarm has room for, by the rules its scheduler places tasks by. Pure.

Source: the filters of SwarmKit's scheduler (readiness, resources, constraints, platform, host ports, replicas per
node). A node has what its description says less what the tasks on it have reserved.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_CONSTRAINT = re.compile(r"\s*([\w./-]+)\s*(==|!=)\s*(.*?)\s*")


def room(
    service: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]
) -> int | None:
    """None where nothing bounds it. ``tasks``: all that are wanted running, of every service."""
    spec = service["Spec"]
    needs = _amounts((spec["TaskTemplate"].get("Resources") or {}).get("Reservations"))
    per_node = _most_per_node(service)
    own = [task for task in tasks if task.get("ServiceID") == service["ID"]]
    fit = 0
    for node in nodes:
        if not _takes(node, spec["TaskTemplate"].get("Placement") or {}):
            continue
        here = [task for task in tasks if task.get("NodeID") == node["ID"]]
        bounds = _free(node, here, needs)
        if per_node:
            bounds.append(per_node - sum(1 for task in own if task.get("NodeID") == node["ID"]))
        if not bounds:
            return None
        fit += max(0, min(bounds))
    return max(0, fit - sum(1 for task in own if not task.get("NodeID")))


def _free(node: Mapping[str, Any], here: Sequence[Mapping[str, Any]], needs: Counter[str]) -> list[int]:
    """For each thing needed, how many replicas the rest of it would do for."""
    free = _amounts((node.get("Description") or {}).get("Resources"))
    for task in here:
        free.subtract(_amounts(((task.get("Spec") or {}).get("Resources") or {}).get("Reservations")))
    return [int(free[name] // amount) for name, amount in needs.items()]


def _amounts(resources: Mapping[str, Any] | None) -> Counter[str]:
    """Nano-CPUs, bytes, and pieces of each kind of generic resource."""
    told = resources or {}
    amounts = Counter({name: int(told[name]) for name in ("NanoCPUs", "MemoryBytes") if told.get(name)})
    for generic in told.get("GenericResources") or ():
        if discrete := generic.get("DiscreteResourceSpec"):
            amounts[discrete["Kind"]] += int(discrete["Value"])
        elif named := generic.get("NamedResourceSpec"):
            amounts[named["Kind"]] += 1
    return amounts


def _most_per_node(service: Mapping[str, Any]) -> int:
    """0 where there is no such bound. A port published on the host can be taken once."""
    spec = service["Spec"]
    most = int((spec["TaskTemplate"].get("Placement") or {}).get("MaxReplicas") or 0)
    ports = (spec.get("EndpointSpec") or {}).get("Ports") or ()
    if any(port.get("PublishMode") == "host" and port.get("PublishedPort") for port in ports):
        return 1
    return most


def _takes(node: Mapping[str, Any], placement: Mapping[str, Any]) -> bool:
    """Whether the node takes new tasks at all, and those of this placement."""
    spec = node.get("Spec") or {}
    if (node.get("Status") or {}).get("State") != "ready" or spec.get("Availability") != "active":
        return False
    platforms = placement.get("Platforms") or ()
    has = _platform((node.get("Description") or {}).get("Platform"))
    if platforms and not any(
        all(not asked or asked == its for asked, its in zip(_platform(one), has, strict=True)) for one in platforms
    ):
        return False
    return all(_meets(node, constraint) for constraint in placement.get("Constraints") or ())


def _platform(told: Mapping[str, Any] | None) -> tuple[str, str]:
    architecture = str((told or {}).get("Architecture") or "").lower()
    return ARCHITECTURES.get(architecture, architecture), str((told or {}).get("OS") or "").lower()


def _meets(node: Mapping[str, Any], constraint: str) -> bool:
    """One constraint, such as ``node.labels.disk == ssd``. One of an unknown form is met by no node."""
    found = _CONSTRAINT.fullmatch(constraint)
    if found is None:
        return False
    name, operator, wanted = found.groups()
    values = _values(node, name)
    if values is None:
        return False
    met = _within(values, wanted) if name == "node.ip" else values.lower() == wanted.lower()
    return met is (operator == "==")


def _values(node: Mapping[str, Any], name: str) -> str | None:
    """What a node has under the name of a constraint; empty where a label is missing, None for an unknown name."""
    spec, description = node.get("Spec") or {}, node.get("Description") or {}
    platform = description.get("Platform") or {}
    plain = {
        "node.id": node.get("ID"),
        "node.hostname": description.get("Hostname"),
        "node.role": spec.get("Role"),
        "node.ip": (node.get("Status") or {}).get("Addr"),
        "node.platform.os": platform.get("OS"),
        "node.platform.arch": platform.get("Architecture"),
    }
    if name in plain:
        return str(plain[name] or "")
    for prefix, labels in (
        ("node.labels.", spec.get("Labels")),
        ("engine.labels.", (description.get("Engine") or {}).get("Labels")),
    ):
        if name.startswith(prefix):
            return str((labels or {}).get(name.removeprefix(prefix), ""))
    return None


def _within(address: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False
