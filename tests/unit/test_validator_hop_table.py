"""Many calls as one table, and what breaches and advice make of the hop that spent the time."""

import random

import pytest

from services.validator.evidence import Evidence
from services.validator.hop_table import ScenarioHops, TracedCall, list_hops
from services.validator.hops import Breakdown, Hop, SlowestHop, break_down, find_slowest
from services.validator.recommendation import recommend
from shared.contracts.benchmarks import Benchmark
from shared.contracts.breach import BreachStatus
from tests.unit.test_validator_judging import around, judge_of_a_run, play
from tests.unit.traces import AUTMATRIX, CLIENT, GENERATOR, NEUROWEAVER, RELAYCORE, SERVER, polled_workflow, span
from tests.unit.validator_frames import at_us

RELAYCORE_SLOW = SlowestHop(Hop(RELAYCORE), 0.7, 8.0, 61.0)


def traced(queue_ms: float, number: int = 0, *, drawn: bool = True) -> TracedCall:
    breakdown = break_down(polled_workflow(queue_ms=queue_ms))
    assert breakdown
    return TracedCall(f"{number:032x}", breakdown, drawn)


def test_a_table_of_drawn_calls_adds_up_and_shows_the_slowest_beside_them() -> None:
    calls = [traced(queue_ms, number) for number, queue_ms in enumerate((10, 20, 30, 900))]
    slowest = traced(5_000, 9, drawn=False)
    (section,) = list_hops([ScenarioHops("story", (*calls, slowest), ("f" * 32,))], {RELAYCORE: "relaycore"})
    assert (section["traces"], section["missing"], section["slowest_hop"]) == (4, 1, RELAYCORE)
    rows = {row["hop"]: row for row in section["hops"]}
    assert abs(sum(row["share"] for row in section["hops"]) - 1) < 0.001
    relaycore = rows[RELAYCORE]
    assert (relaycore["system"], relaycore["kind"], relaycore["calls"]) == ("relaycore", "own", 4)
    assert (relaycore["own_ms"]["p50"], relaycore["own_ms"]["p95"]) == (45, 925), "nearest rank of 35, 45, 55 and 925"
    assert rows[f"{NEUROWEAVER} (network from {RELAYCORE})"]["via"] == RELAYCORE
    assert section["hops"] == sorted(section["hops"], key=lambda row: -row["share"])
    assert [one["trace_id"] for one in section["slowest"]] == [f"{n:032x}" for n in (9, 3, 2)]
    path = section["slowest"][0]["critical_path"]
    assert sum(piece["duration_ms"] for piece in path) == section["slowest"][0]["duration_ms"]
    assert max(path, key=lambda piece: piece["duration_ms"])["hop"] == RELAYCORE


def test_calls_within_one_system_have_no_table() -> None:
    alone = break_down([span("root", "", AUTMATRIX, SERVER, 0, 5)])
    assert alone
    assert list_hops([ScenarioHops("story", (TracedCall("1", alone),)), ScenarioHops("empty", ())], {}) == []


def breakdown_of(*spans: tuple[str, str, str, int, float, float, str]) -> list[Breakdown]:
    found = break_down([span(*one) for one in spans])
    assert found
    return [found]


def test_the_slowest_hop_is_never_the_generators_own_waiting_nor_a_system_nobody_knows() -> None:
    found = find_slowest([traced(20).breakdown])
    assert found
    assert found.hop == Hop(NEUROWEAVER)
    assert find_slowest(breakdown_of(("a", "", GENERATOR, 1, 0, 9, ""))) is None
    assert find_slowest([]) is None
    root = ("a", "", AUTMATRIX, SERVER, 0.0, 9.0, "")
    assert find_slowest(breakdown_of(root, ("b", "a", AUTMATRIX, CLIENT, 1, 9, ""))) is None
    called = find_slowest(breakdown_of(root, ("b", "a", AUTMATRIX, CLIENT, 1, 9, "neuroweaver")))
    assert called
    assert str(called.hop) == "neuroweaver (called by autmatrix-backend)"


@pytest.mark.parametrize(
    ("hop", "told"),
    [
        (Hop(RELAYCORE), "relaycore"),
        (Hop(RELAYCORE, "network", AUTMATRIX), "relaycore (network from autmatrix-backend)"),
        (Hop("", "call", AUTMATRIX), "unknown (called by autmatrix-backend)"),
    ],
)
def test_a_hop_begins_with_the_service_that_more_replicas_would_help(hop: Hop, told: str) -> None:
    assert str(hop) == told


def evidence(hop: SlowestHop | None, queue: float = 7.0) -> Evidence:
    workflow = {"metric": "workflow_execution_time", "target": 30000, "critical": 60000, "unit": "ms"}
    benchmark = Benchmark.model_validate({**workflow, "better": "lower", "source": "workflow_time"})
    return Evidence("AutoMatrix", AUTMATRIX, benchmark, 41_000, 30_000, {"queue_length": queue}, hop=hop)


def test_advice_names_the_system_that_spent_the_time_rather_than_the_one_that_waited_for_it() -> None:
    advice = recommend(evidence(RELAYCORE_SLOW))
    assert "traced calls spent 70% of their time in relaycore, 8 ms a call at p50 and 61 ms at p95" in advice
    assert "add relaycore replicas" in advice
    own = SlowestHop(Hop(AUTMATRIX), 0.7, 8.0, 61.0)
    assert "tasks wait in line" in recommend(evidence(own))
    assert "spent 70% of their time in autmatrix-backend" in recommend(evidence(own, queue=0.0))
    assert "tasks wait in line" in recommend(evidence(SlowestHop(Hop(RELAYCORE), 0.4, 8.0, 61.0)))


def test_a_hop_found_later_is_told_once_by_the_next_revision_and_stays_until_the_end() -> None:
    judge = judge_of_a_run()
    opened = play(judge, 14, around(random.Random(20), lambda _: 900))
    last = opened[-1][1]
    assert last.slowest_hop == ""
    told = judge.note_hop("run-of-tests", last.breach, RELAYCORE_SLOW)
    assert told
    assert (told.revision, told.status) == (last.revision + 1, BreachStatus.UPDATED)
    assert told.slowest_hop == RELAYCORE
    assert "add relaycore replicas" in told.recommendation
    assert (told.value, told.exemplars, told.window) == (last.value, last.exemplars, last.window)
    assert judge.note_hop("run-of-tests", last.breach, RELAYCORE_SLOW) is None, "no news"
    assert judge.note_hop("run-of-tests", "another", RELAYCORE_SLOW) is None
    assert judge.note_hop("another", last.breach, RELAYCORE_SLOW) is None

    restarted = judge_of_a_run()
    restarted.restore(told, at_us(14))
    again = [breach for _, breach in play(restarted, 40, around(random.Random(21), lambda _: 40))]
    assert again[-1].status is BreachStatus.RESOLVED
    assert {breach.slowest_hop for breach in again} == {RELAYCORE}
    assert again[0].revision == told.revision + 1
    assert restarted.note_hop("run-of-tests", told.breach, RELAYCORE_SLOW) is None, "it is over"
