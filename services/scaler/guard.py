"""The capacity guard: what the nodes have room for and what the budget over all services leaves bound every scale-up.
Pure; who holds how much stands in the facts."""

from dataclasses import replace

from services.scaler.decision import Case, Decision, clamp_steps
from services.scaler.situation import Holding, Observation, Shares
from shared.contracts.scaling import Action

ROUNDING = 1e-9
"""Ten times 0.1 is 1, whatever binary fractions make of it."""


def guarded(case: Case, decision: Decision) -> Decision:
    """The scale-up as far as there is room, or a hold that says what lacks; other decisions as they are."""
    if decision.action is not Action.SCALE_UP:
        return decision
    desired, wanted = case.seen.desired, decision.target
    placed = min(wanted, placeable(case.seen, case.facts.room))
    granted, lacking = (
        (placed, "") if case.facts.shares is None else grant(case.facts.shares, case.facts.service, placed)
    )
    target, clamps = clamp_steps(wanted, (("capacity", placed), ("budget", max(granted, desired))))
    if target == wanted:
        return decision
    if target > desired:
        words = f"{decision.reason}; room for {target} ({clamps[-1].name})"
        return replace(decision, target=target, reason=words, clamps=(*decision.clamps, *clamps))
    code = clamps[-1].name
    words = "what runs the replicas has no room for another" if code == "capacity" else lacking
    held = case.hold(
        code, f"{decision.cause} asks for {wanted} replicas: {words}", (*decision.clamps, *clamps), decision.confidence
    )
    return replace(held, cause=decision.cause, limit=decision.limit)


def placeable(seen: Observation, room: int | None) -> int:
    """How many replicas there can be; those that are wanted and not placed yet take their room first."""
    if room is None:
        return 1_000_000
    waiting = max(0, seen.desired - seen.ready - seen.starting - seen.unhealthy)
    return seen.desired + max(0, room - waiting)


def wanted_of(decision: Decision) -> int:
    """How many replicas there would be, were there room."""
    return next((clamp.before for clamp in decision.clamps if clamp.name in ("capacity", "budget")), decision.target)


def grant(shares: Shares, service: str, wanted: int) -> tuple[int, str]:
    """How many replicas of ``wanted`` the budget leaves a service, and what lacks where it is fewer.

    Dominant resource fairness (Ghodsi et al., 2011) over what is free: nobody loses what he holds or his minimum; then
    one replica after the other goes to the service whose largest share of any bound is the smallest, among those that
    want more and for whom there is room. So a service alone may take all, and of several that ask none starves.
    """
    needs = {one.service: _needs(one, shares.bounds) for one in shares.holdings}
    counts = {one.service: max(one.replicas, one.min) for one in shares.holdings}
    unknown = [f"{name} of {one}" for one, need in needs.items() for name, size in need.items() if size is None]
    if unknown:
        words = f"what one replica takes is not known ({', '.join(unknown)}), so nothing is granted"
        return min(wanted, counts[service]), words
    wants = {one.service: one.wanted for one in shares.holdings} | {service: wanted}
    free = {
        name: bound * (1 + ROUNDING) - sum(count * (needs[one][name] or 0.0) for one, count in counts.items())
        for name, bound in shares.bounds.items()
    }

    def lacking(one: str) -> list[str]:
        return [name for name, size in needs[one].items() if (size or 0.0) > free[name]]

    def dominant_share(one: str) -> float:
        return max(counts[one] * (size or 0.0) / shares.bounds[name] for name, size in needs[one].items())

    while able := [one for one in counts if counts[one] < wants[one] and not lacking(one)]:
        poorest = min(able, key=lambda one: (dominant_share(one), one))
        counts[poorest] += 1
        for name, size in needs[poorest].items():
            free[name] -= size or 0.0
    held = ", ".join(f"{one} {count}" for one, count in counts.items())
    return min(wanted, counts[service]), f"the budget of {' and '.join(lacking(service))} is shared out ({held})"


def _needs(holding: Holding, bounds: dict[str, float]) -> dict[str, float | None]:
    """What one replica takes of every bound quantity."""
    size = {"replicas": 1.0, "cpu_cores": holding.cpu_cores, "memory": holding.memory}
    return {name: size[name] for name in bounds}
