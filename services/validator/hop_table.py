"""Many calls of one scenario broken down: per hop its own time and its share, and the slowest calls one by one. Pure.

Shares and percentiles are of the calls that were drawn evenly; the slowest are shown beside them and not counted in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.validator.hops import Breakdown, Hop, Piece, SlowestHop, find_slowest, nearest_rank
from shared.store.figures import TraceSpan

SLOWEST_SHOWN = 3
PIECES_SHOWN = 40

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One traced iteration of a scenario, begun at ``started_us`` (Unix epoch). ``drawn``: of the even sample."""

    trace_id: str
    breakdown: Breakdown
    drawn: bool = True
    started_us: int = 0
    spans: tuple[TraceSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class ScenarioHops:
    """The traced calls of one scenario; ``missing``: ids of traces whose root is not in the store (yet)."""

    scenario: str
    calls: tuple[TracedCall, ...]
    missing: tuple[str, ...] = ()

    @property
    def crosses_systems(self) -> bool:
        return any(len(call.breakdown.services) > 1 for call in self.calls)

    @property
    def drawn(self) -> list[Breakdown]:
        return [call.breakdown for call in self.calls if call.drawn]

    @property
    def slowest(self) -> SlowestHop | None:
        return find_slowest(self.drawn)


def list_hops(scenarios: Iterable[ScenarioHops], systems: Mapping[str, str]) -> list[Json]:
    """The report's section: one entry for each scenario whose calls cross systems. ``systems``: by service name."""
    return [_section(hops, systems) for hops in scenarios if hops.crosses_systems and hops.drawn]


def _section(scenario: ScenarioHops, systems: Mapping[str, str]) -> Json:
    calls = scenario.drawn
    total_us = sum(call.duration_us for call in calls)
    own: dict[Hop, list[int]] = {}
    path: dict[Hop, list[int]] = {}
    for call in calls:
        for hop, time in call.hops.items():
            own.setdefault(hop, []).extend(time.calls_us)
            path.setdefault(hop, []).append(time.path_us)
    slowest = scenario.slowest
    order = sorted(path, key=lambda hop: (-sum(path[hop]), hop))
    worst = sorted(scenario.calls, key=lambda call: (-call.breakdown.duration_us, call.trace_id))[:SLOWEST_SHOWN]
    return {
        "scenario": scenario.scenario,
        "traces": len(calls),
        "missing": len(scenario.missing),
        "duration_ms": _times([call.duration_us for call in calls]),
        "slowest_hop": str(slowest.hop) if slowest else "",
        "hops": [
            {
                "hop": str(hop),
                "kind": hop.kind,
                "service": hop.service,
                "via": hop.via,
                "system": systems.get(hop.service, ""),
                "calls": len(own[hop]),
                "own_ms": _times(own[hop]),
                # Of a whole call of the scenario, also of one without this hop.
                "path_ms": _times([*path[hop], *[0] * (len(calls) - len(path[hop]))]),
                "share": round(sum(path[hop]) / total_us, 4) if total_us else 0.0,
            }
            for hop in order
        ],
        "slowest": [_slowest(call) for call in worst],
    }


def _slowest(call: TracedCall) -> Json:
    found = find_slowest([call.breakdown])
    longest: list[Piece] = sorted(call.breakdown.path, key=lambda piece: -piece.duration_us)[:PIECES_SHOWN]
    return {
        "trace_id": call.trace_id,
        "duration_ms": _ms(call.breakdown.duration_us),
        "slowest_hop": str(found.hop) if found else "",
        "critical_path": [
            {
                "hop": str(piece.hop),
                "name": piece.name,
                "start_ms": _ms(piece.start_us),
                "duration_ms": _ms(piece.duration_us),
            }
            for piece in sorted(longest, key=lambda piece: piece.start_us)
        ],
    }


def _times(values_us: list[int]) -> dict[str, float]:
    ordered = sorted(values_us)
    return {
        "mean": _ms(sum(ordered) / len(ordered)),
        "p50": _ms(nearest_rank(ordered, 0.5)),
        "p95": _ms(nearest_rank(ordered, 0.95)),
    }


def _ms(value_us: float) -> float:
    return round(value_us / 1e3, 3)
