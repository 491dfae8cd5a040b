"""Where the time of one cross-system call went: each system's own time, the network between them, the critical path.

Own time is what a span's children do not cover (the union of their intervals, so that parallel calls count once); that
of a client span is the network, the callee's line before its span begins included. The critical path cuts a call's
duration into pieces, each with the one hop that was waited for, so its pieces always add up to the duration. Pure.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.validator.span_tree import CLIENT, SLACK_US, Node, adopt, grow
from shared.store.figures import TraceSpan

GENERATOR = "tidegate-generator"
"""Service name of the generator's spans; its own time is think time and pauses between polls."""


@dataclass(frozen=True, slots=True, order=True)
class Hop:
    """``own``: within a service. ``network``: on the way from ``via`` to it and back. ``call``: within a service
    that recorded nothing, as seen by ``via``.
    """

    service: str
    kind: Literal["own", "network", "call"] = "own"
    via: str = ""

    def __str__(self) -> str:
        """Begins with the service that can be given more replicas: a line before its door is network too."""
        if self.kind == "own":
            return self.service
        how = "network from" if self.kind == "network" else "called by"
        return f"{self.service or 'unknown'} ({how} {self.via})"


@dataclass(frozen=True, slots=True)
class HopTime:
    """Own time (µs) of each call of a hop, sorted, and its part (µs) of the critical path."""

    calls_us: tuple[int, ...]
    path_us: int

    @property
    def own_us(self) -> int:
        return sum(self.calls_us)


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of the critical path, ``start_us`` after the call began."""

    hop: Hop
    name: str
    start_us: int
    duration_us: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One call. ``path`` is in the order of time; ``lost`` counts spans that belong nowhere."""

    duration_us: int
    hops: Mapping[Hop, HopTime]
    path: tuple[Piece, ...]
    spans: int
    lost: int = 0

    @property
    def services(self) -> frozenset[str]:
        """Systems that recorded a part in it."""
        return frozenset(hop.service for hop in self.hops if hop.kind == "own") - {GENERATOR}

    @property
    def unanswered(self) -> int:
        """Calls of which only the caller's side is here: not recorded by the callee, or still to come."""
        return sum(len(time.calls_us) for hop, time in self.hops.items() if hop.kind == "call")


@dataclass(frozen=True, slots=True)
class SlowestHop:
    """The hop most of the critical path was spent in. ``share`` is of what was spent in the systems and between them;
    a call of it took ``p50_ms`` and ``p95_ms`` (nearest rank).
    """

    hop: Hop
    share: float
    p50_ms: float
    p95_ms: float


def find_slowest(calls: Iterable[Breakdown]) -> SlowestHop | None:
    """Over some calls together. None where no time was spent but by the generator, or nobody knows where."""
    path: dict[Hop, int] = {}
    each: dict[Hop, list[int]] = {}
    for call in calls:
        for hop, time in call.hops.items():
            if hop != Hop(GENERATOR):
                path[hop] = path.get(hop, 0) + time.path_us
                each.setdefault(hop, []).extend(time.calls_us)
    slowest = max(sorted(path), key=lambda hop: path[hop], default=None)
    if slowest is None or not slowest.service or not path[slowest]:
        return None
    p50_us, p95_us = (nearest_rank(sorted(each[slowest]), q) for q in (0.5, 0.95))
    return SlowestHop(slowest, path[slowest] / sum(path.values()), p50_us / 1e3, p95_us / 1e3)


def nearest_rank(ordered: Sequence[int], q: float) -> int:
    """The q-quantile of sorted values, as ``percentile_disc`` has it."""
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def break_down(spans: Iterable[TraceSpan]) -> Breakdown | None:
    """The whole trace from its root on; None while its root is not there."""
    trees = grow(spans)
    if not trees or trees[0].span.parent_span_id:
        return None
    return _measure(trees[0], trees[1:])


def break_down_request(spans: Iterable[TraceSpan], response_us: int) -> Breakdown | None:
    """The one request of a trace that took ``response_us``, line before sending included; the trace may go on still.

    Of the trace's outermost calls it is the one whose duration comes closest. None where there is no such call.
    """
    trees = grow(spans)
    outermost = [node for root in trees for node in (root.children if not root.span.parent_span_id else [root])]
    calls = [node for node in outermost if node.span.kind == CLIENT]
    if not calls:
        return None
    request = min(calls, key=lambda node: (abs(node.duration_us - response_us), node.order))
    request.parent = None
    return _measure(request, [root for root in trees if root.span.parent_span_id and root not in calls])


def _measure(root: Node, fragments: list[Node]) -> Breakdown:
    lost = adopt(root, fragments)
    calls: dict[Hop, dict[int, int]] = {}
    entries: dict[int, int] = {}
    hops = {id(node): _hop(node) for node in root.walk()}
    for node in root.walk():
        hop = hops[id(node)]
        parent = node.parent
        own = hop.kind == "own"
        inside = own and parent is not None and node is not root and parent.span.service == node.span.service
        entry = entries[id(node)] = entries[id(parent)] if inside else id(node)
        of_hop = calls.setdefault(hop, {})
        # What a callee calls back, or does beneath a client span, is a call of its own.
        of_hop[entry] = of_hop.get(entry, 0) + _own_us(node)
    pieces = tuple(reversed(list(_critical_path(root, hops))))
    path: dict[Hop, int] = {}
    for piece in pieces:
        path[piece.hop] = path.get(piece.hop, 0) + piece.duration_us
    times = {hop: HopTime(tuple(sorted(calls[hop].values())), path.get(hop, 0)) for hop in sorted(calls)}
    return Breakdown(root.duration_us, times, pieces, len(hops), lost)


def _hop(node: Node) -> Hop:
    service = node.span.service
    if node.span.kind != CLIENT:
        return Hop(service)
    callees = [child for child in node.children if child.span.service != service]
    if callees:
        return Hop(min(callees, key=lambda child: child.order).span.service, "network", service)
    # With children of its own it is an envelope around the true call; without any the callee recorded nothing.
    return Hop(service) if node.children else Hop(node.span.peer, "call", service)


def _own_us(node: Node) -> int:
    own, covered_to = node.duration_us, node.start_us
    for child in sorted(node.children, key=lambda child: child.start_us):
        start, end = max(child.start_us, covered_to), min(child.end_us, node.end_us)
        if end > start:
            own -= end - start
            covered_to = end
    return own


def _critical_path(root: Node, hops: Mapping[int, Hop]) -> Iterator[Piece]:
    """Pieces from the end back to the beginning: at each moment the last to finish of those waited for.

    As CRISP does (Zhang et al., USENIX ATC 2022), but a child counts for all the time it ran while its parent waited,
    and one that outlives its parent counts for the nearest ancestor that outlives it: that is who polls for its result.
    """
    waited = _waited_for(root)
    cursor = root.end_us
    stack = [(root, iter(waited.get(id(root), ())), root.start_us)]
    while stack:
        node, rest, floor = stack[-1]
        child = next((child for child in rest if child.start_us < cursor), None)
        if child is not None and child.end_us > floor:
            end = min(child.end_us, cursor)
            if end < cursor:
                yield Piece(hops[id(node)], node.span.name, end - root.start_us, cursor - end)
            cursor = end
            stack.append((child, iter(waited.get(id(child), ())), max(child.start_us, floor)))
            continue
        if floor < cursor:
            yield Piece(hops[id(node)], node.span.name, floor - root.start_us, cursor - floor)
        cursor = floor
        stack.pop()


def _waited_for(root: Node) -> dict[int, list[Node]]:
    """By node: what it waits for, latest end first."""
    waited: dict[int, list[Node]] = {}
    for node in root.walk():
        waiter = None if node is root else node.parent
        if waiter is not None and waiter.span.kind != CLIENT:
            while waiter is not None and waiter.end_us + SLACK_US < node.end_us:
                waiter = None if waiter is root else waiter.parent
        if waiter is not None:
            waited.setdefault(id(waiter), []).append(node)
    for nodes in waited.values():
        nodes.sort(key=lambda node: node.order)
    return waited
