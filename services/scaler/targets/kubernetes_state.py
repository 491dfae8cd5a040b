"""What a workload and its pods say: how many replicas are in which state, whether a rollout is under way, and sizes."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from lightkube.models.core_v1 import Container, ContainerStatus, PodTemplateSpec
from lightkube.resources.apps_v1 import Deployment, StatefulSet
from lightkube.resources.core_v1 import Pod
from lightkube.utils.quantity import parse_quantity

from services.scaler.situation import Observation, Sizes

Workload = Deployment | StatefulSet
Standing = Literal["ready", "starting", "unhealthy", "restarting"]

RESTARTS = 3
RECENT_S = 60.0
"""A container that was started again so often, the last time so recently, keeps ending although it runs just now."""

BACKING_OFF = "CrashLoopBackOff"
CANNOT_START = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
MIB = 1_048_576


def observed(workload: Workload, pods: list[Pod], now: datetime) -> Observation:
    """The observation of a workload whose selector matches ``pods``; those that are leaving or have ended are none."""
    standings = [standing(pod, now) for pod in pods if not _leaving(pod)]
    restarting = standings.count("restarting")
    return Observation(
        desired=wanted(workload),
        ready=standings.count("ready"),
        starting=standings.count("starting"),
        unhealthy=standings.count("unhealthy") + restarting,
        restarting=restarting,
        updating=rolling_out(workload),
    )


def wanted(workload: Workload) -> int:
    """Replicas asked for; 1 where nothing is said, as the API defaults it."""
    spec = workload.spec
    return 1 if spec is None or spec.replicas is None else spec.replicas


def standing(pod: Pod, now: datetime) -> Standing:
    """A pod that was ready and is no longer is unhealthy; one that never was since its start is starting."""
    status = pod.status
    if status is None:
        return "starting"
    containers = [*(status.initContainerStatuses or []), *(status.containerStatuses or [])]
    if any(_keeps_ending(container, now) for container in containers):
        return "restarting"
    ready = next((condition for condition in status.conditions or [] if condition.type == "Ready"), None)
    if ready is not None and ready.status == "True":
        return "ready"
    if any(_reason_of_waiting(container) in CANNOT_START for container in containers):
        return "unhealthy"
    started = [one for container in status.containerStatuses or [] if (one := _running_since(container)) is not None]
    if ready is None or ready.lastTransitionTime is None or not started:
        return "starting"
    return "unhealthy" if ready.lastTransitionTime > max(started) else "starting"


def rolling_out(workload: Workload) -> bool:
    """Whether pods of an older template are being replaced, or are to be: also paused, stuck or going back.

    A change of replicas alone is none. A stateful set that is updated by deleting its pods never rolls by itself.
    """
    status = workload.status
    if status is None or not seen_by_controller(workload):
        return True
    if isinstance(workload, Deployment):
        stuck = any(
            condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded"
            for condition in (workload.status and workload.status.conditions) or []
        )
        return stuck or (status.replicas or 0) > (status.updatedReplicas or 0)
    if updated_on_delete(workload):
        return False
    strategy = workload.spec and workload.spec.updateStrategy
    kept = (strategy and strategy.rollingUpdate and strategy.rollingUpdate.partition) or 0
    differs = workload.status is not None and workload.status.currentRevision != workload.status.updateRevision
    return differs and (status.updatedReplicas or 0) < (status.replicas or 0) - kept


def seen_by_controller(workload: Workload) -> bool:
    """Whether the status speaks of the latest version of what is wanted."""
    generation = (workload.metadata and workload.metadata.generation) or 0
    return workload.status is not None and (workload.status.observedGeneration or 0) >= generation


def updated_on_delete(workload: Workload) -> bool:
    """Whether new templates reach only pods that someone deletes."""
    if isinstance(workload, Deployment) or workload.spec is None or workload.spec.updateStrategy is None:
        return False
    return workload.spec.updateStrategy.type == "OnDelete"


def main_container(template: PodTemplateSpec | None, name: str) -> Container | None:
    """The container that sizes are of: the one named as default, as the workload, or the only one; else None."""
    containers = (template and template.spec and template.spec.containers) or []
    annotations = (template and template.metadata and template.metadata.annotations) or {}
    for wanted_name in (annotations.get(DEFAULT_CONTAINER), name):
        for container in containers:
            if container.name == wanted_name:
                return container
    return containers[0] if len(containers) == 1 else None


def sizes_of(container: Container) -> Sizes:
    """Limits and requests. A request that is not given is the limit, as the scheduler has it."""
    resources = container.resources
    limits = (resources and resources.limits) or {}
    requests = {**limits, **((resources and resources.requests) or {})}
    return Sizes(
        cpu_limit=_number(limits.get("cpu")),
        memory_limit=_number(limits.get("memory"), MIB),
        cpu_reserved=_number(requests.get("cpu")),
        memory_reserved=_number(requests.get("memory"), MIB),
    )


def resources_for(sizes: Sizes) -> dict[str, Any]:
    """A container's ``resources`` as a patch that sets these sizes; null takes away what they have not.

    In the API's canonical notation, so that sizes taken back make the template what it was.
    """
    return {
        "limits": {"cpu": _cores(sizes.cpu_limit), "memory": _bytes(sizes.memory_limit)},
        "requests": {"cpu": _cores(sizes.cpu_reserved), "memory": _bytes(sizes.memory_reserved)},
    }


def quantity(text: str | None) -> Decimal:
    """Cores, bytes or a count from the API's notation; 0 where nothing is said."""
    return parse_quantity(text) or Decimal(0)


def _number(text: str | None, unit: int = 1) -> float | None:
    return None if text is None else float(quantity(text) / unit)


def _cores(cores: float | None) -> str | None:
    if cores is None:
        return None
    millicores = round(cores * 1000)
    return f"{millicores}m" if millicores % 1000 else str(millicores // 1000)


def _bytes(mib: float | None) -> str | None:
    if mib is None:
        return None
    amount = round(mib * MIB)
    for power, unit in ((3, "Gi"), (2, "Mi"), (1, "Ki")):
        if amount % 1024**power == 0:
            return f"{amount // 1024**power}{unit}"
    return str(amount)


def _leaving(pod: Pod) -> bool:
    has_ended = pod.status is not None and pod.status.phase in ("Succeeded", "Failed")
    return has_ended or (pod.metadata is not None and pod.metadata.deletionTimestamp is not None)


def _keeps_ending(container: ContainerStatus, now: datetime) -> bool:
    if _reason_of_waiting(container) == BACKING_OFF:
        return True
    ended = container.lastState and container.lastState.terminated
    if not ended or ended.finishedAt is None:
        return False
    return container.restartCount >= RESTARTS and (now - ended.finishedAt).total_seconds() < RECENT_S


def _reason_of_waiting(container: ContainerStatus) -> str | None:
    waiting = container.state and container.state.waiting
    return waiting.reason if waiting else None


def _running_since(container: ContainerStatus) -> datetime | None:
    running = container.state and container.state.running
    return running.startedAt if running else None
