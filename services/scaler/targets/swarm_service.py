"""A Swarm service as the Engine API tells of it: its replicas and sizes, and the specification that would change them.
Pure.

Source of the fields: Engine API, ``GET /services/{id}``, ``/tasks``; of the states, SwarmKit's task model: a task is
``running`` only once it is healthy where it has a health check, and one that falls sick is ended and replaced.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.engine_api import DECISION, EPOCH, LOOP_S, MB, NANO, STEADY_S, amount, seconds
from services.scaler.targets.target import FencedError, RefusedError

ENDED = frozenset({"complete", "failed", "rejected"})
ROLLING = frozenset({"updating", "paused", "rollback_started", "rollback_paused"})


def observation(service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], now_s: float) -> Observation:
    """State of the replicas, by their slots; ``tasks`` are those of the service, also the ones kept as history.

    A slot without a live task whose last one ended was given up (its restart policy allows no more): unhealthy.
    """
    desired = replicas_of(service)
    slots: dict[int, list[Mapping[str, Any]]] = {}
    for task in sorted(tasks, key=lambda task: seconds(task.get("CreatedAt"))):
        slots.setdefault(int(task.get("Slot") or 0), []).append(task)
    live = [slot for slot in slots.values() if any(_wanted(task) for task in slot)]
    steady = [slot for slot in live if not _loops(slot, now_s)]
    looping = len(live) - len(steady)
    ready = sum(any(_wanted(task) and _state(task) == "running" for task in slot) for slot in steady)
    dead = [slot for slot in slots.values() if slot not in live and _state(slot[-1]) in ENDED]
    given_up = dead[: max(0, desired - len(live))]
    return Observation(
        desired=desired,
        ready=ready,
        starting=max(0, desired - ready - looping - len(given_up)),
        unhealthy=looping + len(given_up),
        restarting=looping + sum(_loops(slot, now_s) for slot in given_up),
        updating=updating(service) or any(_outdated(service, task) for slot in live for task in slot),
    )


def replicas_of(service: Mapping[str, Any]) -> int:
    """How many are wanted. ``RefusedError`` for a service that has no such number."""
    spec = service["Spec"]
    mode = spec.get("Mode") or {}
    if "Replicated" not in mode:
        raise RefusedError(
            f"{spec.get('Name')} is of the mode {', '.join(mode) or 'none'}; only a replicated service has a number "
            "of replicas to set"
        )
    return int(mode["Replicated"].get("Replicas") or 0)


def updating(service: Mapping[str, Any]) -> bool:
    """Whether an update or its rollback is under way, or was paused because it failed."""
    return (service.get("UpdateStatus") or {}).get("State") in ROLLING


def sizes_of(service: Mapping[str, Any]) -> Sizes:
    resources = service["Spec"].get("TaskTemplate", {}).get("Resources") or {}
    limits, reserved = resources.get("Limits") or {}, resources.get("Reservations") or {}
    return Sizes(
        cpu_limit=amount(limits, "NanoCPUs", NANO),
        memory_limit=amount(limits, "MemoryBytes", MB),
        cpu_reserved=amount(reserved, "NanoCPUs", NANO),
        memory_reserved=amount(reserved, "MemoryBytes", MB),
    )


def with_replicas(service: Mapping[str, Any], replicas: int, epoch: int, decision: str) -> dict[str, Any] | None:
    """The specification that wants so many: nothing else differs but the stamp, so no task is replaced. None when it is
    the one that stands. ``FencedError`` for an older epoch; ``RefusedError`` where it cannot be or must not be now."""
    current, heard = replicas_of(service), _fenced(service, epoch)
    if replicas < 1:
        raise RefusedError(f"{service['Spec'].get('Name')}: {replicas} replicas are asked for; the least is 1")
    if replicas == current and heard == epoch:
        return None
    spec = _stamped(service, epoch, decision)
    spec["Mode"]["Replicated"]["Replicas"] = replicas
    return spec


def with_sizes(service: Mapping[str, Any], sizes: Sizes, epoch: int, decision: str) -> dict[str, Any] | None:
    """The specification that gives each replica these sizes, in a rolling update that rolls back when it fails; None
    when it is the one that stands. Errors as ``with_replicas``."""
    replicas_of(service)
    heard = _fenced(service, epoch)
    if sizes_of(service) == sizes and heard == epoch:
        return None
    spec = _stamped(service, epoch, decision)
    resources = spec["TaskTemplate"].setdefault("Resources", {})
    for part, cpu, memory in (
        ("Limits", sizes.cpu_limit, sizes.memory_limit),
        ("Reservations", sizes.cpu_reserved, sizes.memory_reserved),
    ):
        amounts = dict(resources.get(part) or {})
        amounts["NanoCPUs"] = 0 if cpu is None else round(cpu * NANO)
        amounts["MemoryBytes"] = 0 if memory is None else round(memory * MB)
        resources[part] = amounts
    if sizes_of(service) != sizes:
        spec["UpdateConfig"] = {"Parallelism": 1, **(spec.get("UpdateConfig") or {}), "FailureAction": "rollback"}
    return spec


def _fenced(service: Mapping[str, Any], epoch: int) -> int:
    """The epoch heard last; ``FencedError`` when it is later than this one."""
    name, label = service["Spec"].get("Name"), (service["Spec"].get("Labels") or {}).get(EPOCH, "0")
    if not label.isdecimal():
        raise RefusedError(f"{name}: the label {EPOCH} is {label!r}, which is no epoch; remove it")
    if int(label) > epoch:
        raise FencedError(f"{name}: epoch {epoch} is older than {label}, which the service carries")
    return int(label)


def _stamped(service: Mapping[str, Any], epoch: int, decision: str) -> dict[str, Any]:
    """A copy of the specification with the epoch. An update under way is not disturbed: a new specification would end
    it, and take its place as what a rollback returns to."""
    if updating(service):
        state = service["UpdateStatus"]["State"]
        raise RefusedError(f"{service['Spec'].get('Name')} is being updated ({state}); nothing is changed meanwhile")
    spec: dict[str, Any] = copy.deepcopy(dict(service["Spec"]))
    spec["Labels"] = {**(spec.get("Labels") or {}), EPOCH: str(epoch), DECISION: decision}
    return spec


def _wanted(task: Mapping[str, Any]) -> bool:
    return task.get("DesiredState") in ("ready", "running") and _state(task) not in ENDED


def _outdated(service: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Whether a task that is wanted is of an earlier specification: an update is told of only once it has begun."""
    now, then = service["Spec"].get("TaskTemplate", {}), task.get("Spec")
    if not then or not _wanted(task):
        return False
    return (sizes_of(service), now.get("ForceUpdate", 0), (now.get("ContainerSpec") or {}).get("Image")) != (
        sizes_of({"Spec": {"TaskTemplate": then}}),
        then.get("ForceUpdate", 0),
        (then.get("ContainerSpec") or {}).get("Image"),
    )


def _loops(slot: Sequence[Mapping[str, Any]], now_s: float) -> bool:
    """Whether the replica of a slot keeps ending. Its tasks come in order of their creation."""
    if _state(slot[-1]) == "running" and now_s - _since(slot[-1]) >= STEADY_S:
        return False
    return sum(_state(task) in ENDED and now_s - _since(task) < LOOP_S for task in slot) > 1


def _state(task: Mapping[str, Any]) -> str:
    return str((task.get("Status") or {}).get("State"))


def _since(task: Mapping[str, Any]) -> float:
    return seconds((task.get("Status") or {}).get("Timestamp"))
