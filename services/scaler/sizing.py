"""Feed-forward: how many replicas the load asks for by itself, whatever they are at now. Pure.

```
load     n = ⌈λ·S / (c·u)⌉                       λ forecast over the start-up time
bursts   n = ⌈(λ·S + h·√λ·S) / c⌉                square-root staffing with the dispersion and surges that were measured
backlog  n = ⌈(λ·S + B·S / T_drain) / (c·u)⌉     B: in line, and what will be before one more replica is ready
```
S service time, c concurrency of a replica, u target utilization. Replicas that are starting count as there.
"""

import math

from services.scaler.demand import SMOOTH_S
from services.scaler.situation import Demand, Facts, Observation
from shared.contracts.scaling import Candidate
from shared.contracts.scaling_rules import ServiceRules, Sizing

CAUSE = "sizing"

COVERED = 1.645
"""Standard deviations of a burst that replicas carry at full use: 95 in 100, as the usual objective is a p95."""


def sized(rules: ServiceRules, facts: Facts) -> tuple[Candidate, ...]:
    """What load, bursts and backlog ask for; none where the demand is not known. ``holds``: more than is wanted now."""
    if rules.sizing is None or facts.demand is None or facts.observation is None:
        return ()
    seen, demand, sizing = facts.observation, facts.demand, rules.sizing
    work = demand.forecast * demand.service_s
    share = sizing.concurrency * sizing.utilization
    said = f"{demand.forecast:.4g} requests/s × {demand.service_s:.4g} s"
    room = max(COVERED * math.sqrt(demand.dispersion / SMOOTH_S), demand.surge) * math.sqrt(demand.stable)
    line = _line(seen, demand, sizing)
    drained = work + line * demand.service_s / sizing.drain
    asked = (
        ("load", work, share, ""),
        ("bursts", work + room * demand.service_s, sizing.concurrency, f" and bursts of {room:.4g} requests/s more"),
        ("backlog", drained, share, f" and {line:.4g} in line within {sizing.drain:g} s"),
    )
    return tuple(
        _candidate(
            f"{CAUSE}:{name}", servers, per_replica, said + more, seen.desired * (1 + rules.tuning.tolerance), seen
        )
        for name, servers, per_replica, more in asked
    )


def busy_servers(values: dict[str, float]) -> float | None:
    """Servers at work per replica, of metrics per replica; by it the effect of a sizing is judged."""
    if "service_time" in values and "request_rate" in values:
        return round(values["request_rate"] * values["service_time"] / 1000, 6)
    return values.get("servers_busy")


def _line(seen: Observation, demand: Demand, sizing: Sizing) -> float:
    """Requests in line, and those that will be by the time a replica ordered now is ready, when none is coming yet."""
    if demand.service_s <= 0 or seen.starting or seen.ready < seen.desired:
        return demand.waiting
    carried = seen.ready * sizing.concurrency / demand.service_s
    return demand.waiting + max(0.0, demand.rate - carried) * sizing.start_up


def _candidate(
    source: str, servers: float, per_replica: float, note: str, tolerated: float, seen: Observation
) -> Candidate:
    # 1e-9: exactly 15 replicas are 15, whatever binary fractions make of it.
    replicas = max(math.ceil(servers / per_replica - 1e-9), 1)
    return Candidate(
        source=source,
        value=round(servers, 6),
        limit=round(seen.desired * per_replica, 6),
        replicas=replicas,
        holds=replicas > tolerated,
        note=note,
    )
