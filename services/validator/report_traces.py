"""The traced calls of a report: where their time went before and after, and the slowest of them span by span. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from services.validator.comparison import Compared
from services.validator.course import Course, follow
from services.validator.facts import Facts
from services.validator.hop_change import part_calls, path_ms
from services.validator.hop_table import ScenarioHops, TracedCall, list_hops
from services.validator.hops import find_slowest
from services.validator.span_tree import Node, adopt, grow
from shared.contracts.benchmarks import Benchmarks
from shared.store.figures import TraceSpan

SLOWEST_SHOWN = 3
SPANS_SHOWN = 80

Json = dict[str, Any]


def list_slowest(scenarios: Iterable[ScenarioHops]) -> list[Json]:
    """The slowest calls of each scenario with their spans, slowest first."""
    return [
        {
            "scenario": hops.scenario,
            "trace_id": call.trace_id,
            "started_at": call.started_us / 1e6,
            "duration_ms": call.breakdown.duration_us / 1e3,
            "slowest_hop": str(found.hop) if (found := find_slowest([call.breakdown])) else "",
            "spans": draw_waterfall(call.spans),
        }
        for hops in scenarios
        for call in sorted(hops.calls, key=lambda call: (-call.breakdown.duration_us, call.trace_id))[:SLOWEST_SHOWN]
    ]


def draw_waterfall(spans: Iterable[TraceSpan]) -> list[Json]:
    """Spans in the order they are drawn, each below what called it; the shortest are left out of a long trace."""
    trees = grow(spans)
    if not trees:
        return []
    root = trees[0]
    adopt(root, trees[1:])
    longest = sorted(root.walk(), key=lambda node: (-node.duration_us, node.order))[:SPANS_SHOWN]
    shown = {id(node) for node in longest}
    return [
        {
            "service": node.span.service,
            "name": node.span.name,
            "depth": depth,
            "start_ms": (node.start_us - root.start_us) / 1e3,
            "duration_ms": node.duration_us / 1e3,
        }
        for node, depth in _in_order(root)
        if id(node) in shown
    ]


def _in_order(root: Node) -> Iterable[tuple[Node, int]]:
    stack = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        children = sorted(node.children, key=lambda child: (child.start_us, child.order), reverse=True)
        stack.extend((child, depth + 1) for child in children)


def list_hop_sections(benchmarks: Benchmarks, facts: Facts, compared: Iterable[Compared]) -> list[Json]:
    """The hop table of each scenario; ``parts`` tell calls of before and after apart where a time was broken."""
    systems = {owner.service: system for system, owner in benchmarks.systems.items()}
    calls = {hops.scenario: hops.calls for hops in facts.hops}
    found = _find_course(facts, compared)
    sections = list_hops(facts.hops, systems)
    return [{**section, "parts": _parts(calls[section["scenario"]], found)} for section in sections]


def _find_course(facts: Facts, compared: Iterable[Compared]) -> tuple[Compared, Course] | None:
    """Of the broken times that were kept for a part of the run, the one with the worst score."""
    timed = [item for item in compared if item.judgement.broken and item.benchmark.unit == "ms"]
    courses = (
        (item, follow(facts, item.system, item.benchmark)) for item in sorted(timed, key=lambda i: i.score or 0.0)
    )
    return next(((item, course) for item, course in courses if course.has_both), None)


def _parts(calls: Sequence[TracedCall], found: tuple[Compared, Course] | None) -> Json | None:
    """Mean time (ms) that a call waited for each hop, while a benchmark was kept and while it was broken."""
    if found is None:
        return None
    item, course = found
    kept, broken = part_calls(calls, course)
    if not kept or not broken:
        return None
    return {"system": item.system, "metric": item.benchmark.metric, "kept": _part(kept), "broken": _part(broken)}


def _part(calls: Sequence[TracedCall]) -> Json:
    hops = sorted({hop for call in calls for hop in call.breakdown.hops})
    return {"traces": len(calls), "path_ms": {str(hop): round(path_ms(calls, hop), 3) for hop in hops}}
