"""Where the time of a call went: tables of small traces, and what holds for every trace, however broken."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.validator.hops import Breakdown, Hop, break_down, break_down_request
from shared.store.figures import TraceSpan
from tests.unit.traces import (
    AUTMATRIX,
    CLIENT,
    GENERATOR,
    INTERNAL,
    NEUROWEAVER,
    RELAYCORE,
    SERVER,
    polled_workflow,
    span,
)

A, B, C = "a", "b", "c"
CALL = [span("root", "", A, SERVER, 0, 100), span("ask", "root", A, CLIENT, 10, 90)]
ANSWER = span("answer", "ask", B, SERVER, 15, 85)


def ms(breakdown: Breakdown | None) -> tuple[dict[str, float], dict[str, float]]:
    """Own time and part of the critical path by hop."""
    assert breakdown is not None
    assert sum(time.path_us for time in breakdown.hops.values()) == breakdown.duration_us
    own = {str(hop): time.own_us / 1e3 for hop, time in breakdown.hops.items()}
    return own, {str(hop): time.path_us / 1e3 for hop, time in breakdown.hops.items() if time.path_us}


NET, NET_C = "b (network from a)", "c (network from a)"
USUAL: dict[str, float] = {"a": 20, "b": 70, NET: 10}
LATE = span("answer", "ask", B, SERVER, 515, 585)
CIRCLES = [
    span("x", "y", C, SERVER, 20, 60),
    span("y", "x", C, INTERNAL, 25, 50),
    span("z", "z", C, SERVER, 70, 80),
]
PARALLEL = [
    span("root", "", A, SERVER, 0, 100),
    span("one", "root", A, CLIENT, 10, 60),
    span("two", "root", A, CLIENT, 20, 80),
    span("b", "one", B, SERVER, 10, 60),
    span("c", "two", C, SERVER, 20, 80),
]
TABLE: list[tuple[str, list[TraceSpan], dict[str, float], dict[str, float]]] = [
    ("a single span is its system's own time", CALL[:1], {"a": 100}, {"a": 100}),
    ("a call has network on both sides of the answer", [*CALL, ANSWER], USUAL, USUAL),
    (
        "a callee that records nothing is named by its caller",
        CALL,
        {"a": 20, "unknown (called by a)": 80},
        {"a": 20, "unknown (called by a)": 80},
    ),
    (
        "parallel calls cover their union once, and the last to finish is waited for",
        PARALLEL,
        {"a": 30, "b": 50, "c": 60, NET: 0, NET_C: 0},
        {"a": 30, "b": 10, "c": 60},
    ),
    ("an answer by a clock ahead is put into the middle of its call", [*CALL, LATE], USUAL, USUAL),
    (
        "what a callee does moves with it",
        [*CALL, LATE, span("inner", "answer", B, INTERNAL, 520, 580)],
        USUAL,
        USUAL,
    ),
    (
        "a server that was given up on counts while it was waited for",
        [*CALL, span("answer", "ask", B, SERVER, 15, 300)],
        {"a": 20, "b": 285, NET: 5},
        {"a": 20, "b": 75, NET: 5},
    ),
    (
        "work nobody waits for is not on the path",
        [CALL[0], span("later", "root", A, INTERNAL, 95, 400)],
        {"a": 95 + 305},
        {"a": 100},
    ),
    ("a lost client span leaves its server where it was", [CALL[0], ANSWER], {"a": 30, "b": 70}, {"a": 30, "b": 70}),
    (
        "an orphan outside of everything is left out",
        [*CALL, ANSWER, span("x", "gone", C, SERVER, 500, 900)],
        USUAL,
        USUAL,
    ),
    (
        "a circle of parents ends",
        [*CALL, ANSWER, *CIRCLES],
        {"a": 20, "b": 20, NET: 10, "c": 50},
        {"a": 20, "b": 20, NET: 10, "c": 50},
    ),
    (
        "a span without duration takes none",
        [*CALL, ANSWER, span("event", "answer", B, INTERNAL, 50, 50)],
        USUAL,
        USUAL,
    ),
]


@pytest.mark.parametrize(("spans", "own", "path"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_where_the_time_went(spans: list[TraceSpan], own: dict[str, float], path: dict[str, float]) -> None:
    assert ms(break_down(spans)) == (own, path)


def test_a_polled_workflow_is_spent_where_its_execution_waited() -> None:
    own, path = ms(break_down(polled_workflow(queue_ms=300)))
    assert path == {
        AUTMATRIX: 12 - 12 + 15 + 60 + 10 + 3,
        f"{AUTMATRIX} (network from {GENERATOR})": 2 + 2,
        f"{RELAYCORE} (network from {AUTMATRIX})": 4,
        RELAYCORE: 300 + 20 + 5,
        f"{NEUROWEAVER} (network from {RELAYCORE})": 10,
        NEUROWEAVER: 640 - 55 - 414,
        # Before it asks, between the end of the execution and the poll that sees it, and after that.
        GENERATOR: 10 + 33 + 55,
    }
    assert own[RELAYCORE] == 325


@pytest.mark.parametrize("skew_ms", [-5_000.0, -3.0, 3.0, 5_000.0])
def test_clocks_that_disagree_change_nothing_that_is_spent_within_a_system(skew_ms: float) -> None:
    # The network of a call that is within RelayCore's own clock is not moved by it.
    assert ms(break_down(polled_workflow(skew_ms=skew_ms))) == ms(break_down(polled_workflow()))


def test_calls_are_told_one_by_one() -> None:
    spans = [span("root", "", A, SERVER, 0, 100)]
    for number, length in enumerate((5, 9, 7)):
        at = 10 + 20 * number
        spans += [
            span(f"ask {number}", "root", A, CLIENT, at, at + 15),
            span(f"answer {number}", f"ask {number}", B, SERVER, at, at + length),
            span(f"inner {number}", f"answer {number}", B, INTERNAL, at + 1, at + 2),
        ]
    breakdown = break_down(spans)
    assert breakdown
    assert breakdown.hops[Hop(B)].calls_us == (5_000, 7_000, 9_000)
    assert len(breakdown.hops[Hop(A)].calls_us) == 1
    assert breakdown.services == {A, B}


def test_a_trace_whose_root_is_not_there_waits_but_its_requests_can_be_told() -> None:
    spans = polled_workflow()[1:]
    assert break_down(spans) is None
    assert break_down_request([], 1) is None
    request = break_down_request(spans, 22_000)
    assert request
    assert request.duration_us == 20_000
    assert {str(hop): time.path_us for hop, time in request.hops.items() if time.path_us} == {
        AUTMATRIX: 16_000,
        f"{AUTMATRIX} (network from {GENERATOR})": 4_000,
    }
    whole = break_down_request(polled_workflow(), 22_000)
    assert whole == request


def test_the_path_is_told_in_the_order_of_time_without_gaps() -> None:
    breakdown = break_down(polled_workflow())
    assert breakdown
    at = 0
    for piece in breakdown.path:
        assert piece.start_us == at
        at += piece.duration_us
    assert at == breakdown.duration_us


@st.composite
def sequential_traces(draw: st.DrawFn) -> list[TraceSpan]:
    """Calls within calls, one at a time, each within its parent: server below client, anything below server."""
    spans: list[TraceSpan] = []

    def add(parent: bytes, service: str, kind: int, start_us: int, end_us: int, depth: int) -> None:
        own = len(spans).to_bytes(8, "big")
        spans.append(TraceSpan(own, end_us - start_us, start_us, service, "x", kind, parent))
        most = 0 if depth > 3 else 1 if kind == CLIENT else 2
        most = draw(st.integers(0, most))
        cuts = sorted(draw(st.integers(start_us, end_us)) for _ in range(2 * most))
        for begin, end in zip(cuts[::2], cuts[1::2], strict=True):
            if kind == CLIENT:
                add(own, draw(st.sampled_from("abc")) + service, SERVER, begin, end, depth + 1)
            else:
                add(own, service, draw(st.sampled_from((INTERNAL, CLIENT))), begin, end, depth + 1)

    add(b"", "a", SERVER, 0, draw(st.integers(0, 100_000)), 0)
    return spans


@given(sequential_traces(), st.randoms())
def test_own_times_and_network_of_a_sequential_trace_add_up_to_its_duration(
    spans: list[TraceSpan], order: random.Random
) -> None:
    breakdown = break_down(spans)
    assert breakdown
    assert sum(time.own_us for time in breakdown.hops.values()) == spans[0].duration_us
    assert {hop: time.own_us for hop, time in breakdown.hops.items()} == {
        hop: time.path_us for hop, time in breakdown.hops.items()
    }
    shuffled = [*spans, *spans[:2]]
    order.shuffle(shuffled)
    assert break_down(shuffled) == breakdown


IDS = st.integers(0, 9).map(lambda number: number.to_bytes(8, "big"))
ANY_SPAN = st.builds(
    TraceSpan,
    span_id=IDS,
    parent_span_id=st.one_of(st.just(b""), IDS),
    service=st.sampled_from("abc"),
    name=st.just("x"),
    kind=st.integers(0, 5),
    start_us=st.integers(0, 10_000),
    duration_us=st.integers(-5, 10_000),
)


@given(st.lists(ANY_SPAN, max_size=14), st.randoms())
def test_whatever_the_spans_nothing_is_negative_and_the_path_is_the_duration(
    spans: list[TraceSpan], order: random.Random
) -> None:
    shuffled = list(spans)
    order.shuffle(shuffled)
    for breakdown, again in (
        (break_down(spans), break_down(shuffled)),
        (break_down_request(spans, 5_000), break_down_request(shuffled, 5_000)),
    ):
        assert breakdown == again
        if breakdown is None:
            continue
        assert sum(piece.duration_us for piece in breakdown.path) == breakdown.duration_us
        assert all(piece.duration_us > 0 for piece in breakdown.path)
        assert all(call >= 0 for time in breakdown.hops.values() for call in time.calls_us)
        assert breakdown.spans + breakdown.lost <= len({span.span_id for span in spans})
