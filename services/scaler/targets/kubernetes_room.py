"""How many more replicas of a workload the nodes have room for, as the scheduler counts: by what is requested.

Looks at readiness, cordons, taints, the node selector and the required node affinity of the pod template. It does not
look at affinity between pods, topology spread, quotas, or nodes that an autoscaler of nodes would add.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from lightkube.models.core_v1 import NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration
from lightkube.resources.core_v1 import Node, Pod

from services.scaler.targets.kubernetes_state import quantity

Amounts = dict[str, Decimal]
ENDED = ("Succeeded", "Failed")


def room_on(nodes: Iterable[Node], pods: Iterable[Pod], template: PodSpec, waiting: int) -> int:
    """Replicas that fit beside ``pods`` (all of the cluster), less ``waiting``, which have no node yet."""
    used: dict[str, Amounts] = defaultdict(lambda: defaultdict(Decimal))
    for pod in pods:
        if pod.spec is None or not pod.spec.nodeName or (pod.status is not None and pod.status.phase in ENDED):
            continue
        for name, amount in {**requests_of(pod.spec), "pods": Decimal(1)}.items():
            used[pod.spec.nodeName][name] += amount
    each = {**requests_of(template), "pods": Decimal(1)}
    fits = sum(_fits(node, used[_name(node)], each) for node in nodes if accepts(node, template))
    return max(0, fits - waiting)


def requests_of(spec: PodSpec) -> Amounts:
    """What the scheduler reserves: containers and sidecars together, or a greater initial container, and the overhead.

    Source: the documentation of init containers, "Resource sharing within containers". A request that is not given is
    the limit.
    """
    running: Amounts = defaultdict(Decimal)
    highest: Amounts = {}
    for container in spec.initContainers or []:
        asked = _asked(container.resources)
        is_sidecar = container.restartPolicy == "Always"
        for name, amount in asked.items():
            if is_sidecar:
                running[name] += amount
            highest[name] = max(highest.get(name, Decimal(0)), running[name] + (0 if is_sidecar else amount))
    for container in spec.containers:
        for name, amount in _asked(container.resources).items():
            running[name] += amount
    total = {name: max(running.get(name, Decimal(0)), highest.get(name, Decimal(0))) for name in {*running, *highest}}
    for name, text in (spec.overhead or {}).items():
        total[name] = total.get(name, Decimal(0)) + quantity(text)
    return total


def accepts(node: Node, template: PodSpec) -> bool:
    """Whether the scheduler would put such a pod there at all."""
    if node.spec is not None and node.spec.unschedulable:
        return False
    conditions = (node.status and node.status.conditions) or []
    if not any(condition.type == "Ready" and condition.status == "True" for condition in conditions):
        return False
    labels = (node.metadata and node.metadata.labels) or {}
    if any(labels.get(key) != value for key, value in (template.nodeSelector or {}).items()):
        return False
    affinity = template.affinity and template.affinity.nodeAffinity
    required = affinity and affinity.requiredDuringSchedulingIgnoredDuringExecution
    if required and not any(_matches(term, labels, _name(node)) for term in required.nodeSelectorTerms):
        return False
    taints = (node.spec and node.spec.taints) or []
    return all(
        any(_tolerates(toleration, taint) for toleration in template.tolerations or [])
        for taint in taints
        if taint.effect != "PreferNoSchedule"
    )


def _name(node: Node) -> str:
    return (node.metadata and node.metadata.name) or ""


def _asked(resources: object) -> Amounts:
    limits, requests = getattr(resources, "limits", None) or {}, getattr(resources, "requests", None) or {}
    return {name: quantity(text) for name, text in {**limits, **requests}.items()}


def _fits(node: Node, used: Amounts, each: Amounts) -> int:
    allocatable = (node.status and node.status.allocatable) or {}
    return max(
        0,
        min(int((quantity(allocatable.get(name)) - used[name]) // asked) for name, asked in each.items() if asked > 0),
    )


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if not toleration.key:
        return toleration.operator == "Exists"
    if toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == (taint.value or "")


def _matches(term: NodeSelectorTerm, labels: dict[str, str], name: str) -> bool:
    """All requirements of a term; one without any matches nothing."""
    expressions, fields = term.matchExpressions or [], term.matchFields or []
    if not expressions and not fields:
        return False
    return all(_holds(one, labels) for one in expressions) and all(
        _holds(one, {"metadata.name": name}) for one in fields
    )


def _holds(requirement: NodeSelectorRequirement, labels: dict[str, str]) -> bool:
    value, values = labels.get(requirement.key), requirement.values or []
    match requirement.operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    if value is None or not value.lstrip("-").isdecimal():
        return False
    return int(value) > int(values[0]) if requirement.operator == "Gt" else int(value) < int(values[0])
