"""The spans of one trace as a tree, whatever state they came in: doubled, orphaned, circular, on clocks that disagree.

Times are µs; ``start_us`` and ``end_us`` of a node are those of its span moved onto the clock of the tree's root.
Pure. What the time was spent on belongs to ``hops.py``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from shared.store.figures import TraceSpan

CLIENT = 3
"""Of OpenTelemetry's ``SpanKind``: a span that waits for another system's answer."""
SLACK_US = 1_000
"""By so much a child may end after its parent and still count as ended with it: clocks and rounding."""


@dataclass(slots=True, eq=False)
class Node:
    """A span in its place. ``parent`` is None for the root and for fragments, whose parent is not known."""

    span: TraceSpan
    start_us: int
    end_us: int
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)

    @property
    def duration_us(self) -> int:
        return self.end_us - self.start_us

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Latest end first, then earliest start: the same whatever order the spans came in."""
        return -self.end_us, self.start_us, self.span.span_id

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children)


def grow(spans: Iterable[TraceSpan]) -> list[Node]:
    """The trees that the spans of one trace make; whole ones (whose root has no parent) first, then the longest.

    A span that came twice is taken once, in its longest form. A circle of parents is cut before its earliest span.
    """
    nodes = {
        span.span_id: Node(span, span.start_us, span.start_us + max(0, span.duration_us)) for span in sorted(spans)
    }
    for node in nodes.values():
        node.parent = nodes.get(node.span.parent_span_id)
    _cut_circles(nodes.values())
    for node in nodes.values():
        if node.parent is not None:
            node.parent.children.append(node)
    roots = [node for node in nodes.values() if node.parent is None]
    for root in roots:
        _align(root)
    return sorted(roots, key=lambda root: (bool(root.span.parent_span_id), -root.duration_us, root.order))


def adopt(root: Node, fragments: Sequence[Node]) -> int:
    """Hang each fragment under the shortest span of the tree that encloses it; how many spans found no place.

    A fragment's parent was lost on its way. Left where it is, its time would count as its caller's own.
    """
    if not fragments:
        return 0
    homes = sorted(root.walk(), key=lambda node: (node.duration_us, node.order))
    lost = 0
    for fragment in fragments:
        home = next((node for node in homes if _encloses(node, fragment)), None)
        if home is None:
            lost += sum(1 for _ in fragment.walk())
        else:
            fragment.parent = home
            home.children.append(fragment)
    return lost


def _encloses(node: Node, fragment: Node) -> bool:
    return node.start_us <= fragment.start_us and fragment.end_us <= node.end_us


def _cut_circles(nodes: Iterable[Node]) -> None:
    settled: set[int] = set()
    for first in nodes:
        trail: dict[int, Node] = {}
        node: Node | None = first
        while node is not None and id(node) not in settled and id(node) not in trail:
            trail[id(node)] = node
            node = node.parent
        if node is not None and id(node) in trail:
            members = list(trail.values())
            circle = members[list(trail).index(id(node)) :]
            min(circle, key=lambda member: (member.start_us, member.span.span_id)).parent = None
        settled.update(trail)


def _align(root: Node) -> None:
    """Move what other hosts recorded onto the clock of the root, service by service on the way down.

    After Jaeger's clock-skew adjuster: an answer that lies outside the call it answers is put into its middle, as if
    both ways took the same time (Cristian, 1989). A server that outlasts its caller was given up on, and only its start
    must lie within the call. Nothing begins before what caused it.
    """
    stack = [(child, root, 0) for child in root.children]
    while stack:
        node, parent, parents_shift = stack.pop()
        shift = parents_shift if node.span.service == parent.span.service else _shift(node, parent)
        node.start_us += shift
        node.end_us += shift
        stack.extend((child, node, shift) for child in node.children)


def _shift(node: Node, parent: Node) -> int:
    early = node.start_us < parent.start_us
    if parent.span.kind != CLIENT:
        return parent.start_us - node.start_us if early else 0
    if node.duration_us > parent.duration_us:
        return parent.start_us - node.start_us if early or node.start_us > parent.end_us else 0
    if early or node.end_us > parent.end_us:
        return parent.start_us + (parent.duration_us - node.duration_us) // 2 - node.start_us
    return 0
