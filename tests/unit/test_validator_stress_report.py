"""What follows from a search: the verdict and exit code, the section of the report, the next desired states."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from services.validator.facts import Facts
from services.validator.judging import Judge
from services.validator.stress_lead import begun_s, lead, led
from services.validator.stress_leader import StressLeader
from services.validator.stress_limits import limits_of
from services.validator.stress_report import answer_of, judge_search, stress_section
from services.validator.stress_step import Sight, look
from services.validator.stress_track import Track
from services.validator.verdict import Verdict
from shared.bus import Bus
from shared.config import load_document
from shared.contracts.benchmarks import Benchmarks, Source
from shared.contracts.run import Load, Pause, Phase, RunDesired
from shared.contracts.scenario import Gate
from shared.contracts.stress import StressAnswer, StressMargin
from shared.histogram import Histogram
from shared.settings import PROJECT_ROOT
from shared.subjects import Subjects
from tests.unit.test_validator_stress_search import made, step
from tests.unit.validator_frames import desired, scenario, state

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FOUND = StressAnswer(found=True, reason="", level=100, low=95, high=105, highest_met=92, lowest_broken=104)
OPEN = StressAnswer(found=False, reason="nothing is broken at 50/s", highest_met=50)


def asked(**changes: Any) -> RunDesired:
    search = made(**changes.pop("search", {}))
    load = Load(scenario=scenario(), users=10, rate=10.0, profile="stress", duration_s=600.0)
    return desired().model_copy(update={"loads": (load,), "search": search, **changes})


def sight(rate: int, slow: int, seconds: int = 20, **changes: Any) -> Sight:
    """Every second ``rate`` answers of 50 ms, ``slow`` of them of 400 ms."""
    (limit,) = [one for one in limits_of(BENCHMARKS, asked()) if one.source is Source.RESPONSE_TIME]
    response = Histogram.of([50e3] * (rate - slow) + [400e3] * slow).counts
    responses, sums = [response] * seconds, np.full(seconds, 50.0 * (rate - slow) + 400 * slow)
    whole: dict[str, Any] = {
        "number": 1, "level": 10.0, "begun_s": 0.0, "searched": "target", "responses": responses, "times_ms": sums,
        "failed": np.zeros(seconds), "offered": np.full(seconds, float(rate)), "faulty": np.zeros(seconds, dtype=bool),
        "tracks": (Track.of_times(limit, responses, sums),),
    }  # fmt: skip
    return Sight(**{**whole, **changes})


BENCHMARKS = load_document(Benchmarks, PROJECT_ROOT / "config" / "benchmarks.yaml")


@pytest.mark.parametrize(
    ("answer", "require", "verdict"),
    [
        (FOUND, None, Verdict.MET),
        (FOUND, 90, Verdict.MET),
        (FOUND, 95, Verdict.MET),
        (FOUND, 100, Verdict.INSUFFICIENT),
        (FOUND, 120, Verdict.MISSED),
        (OPEN, None, Verdict.INSUFFICIENT),
        (OPEN, 50, Verdict.MET),
        (OPEN, 60, Verdict.INSUFFICIENT),
    ],
    ids=str,
)
def test_the_verdict_follows_from_what_was_found_and_required(
    answer: StressAnswer, require: float | None, verdict: Verdict
) -> None:
    assert judge_search(made(step(10, "met"), require=require), answer, Phase.FINISHED, 0) is verdict


def test_generators_at_fault_and_missing_requests_are_no_verdict() -> None:
    spoiled = made(step(10, "met"), step(20, "invalid"), step(20, "invalid"))
    assert judge_search(spoiled, OPEN, Phase.FINISHED, 0) is Verdict.INVALID
    assert judge_search(made(step(10, "met")), FOUND, Phase.FINISHED, 3) is Verdict.INVALID


def test_a_run_that_was_stopped_tells_what_is_known() -> None:
    stopped = asked().model_copy(update={"search": made(step(10, "met"), step(80, "critical"))})
    answer = answer_of(stopped, state(60, Phase.STOPPED, reason="stopped by the operator"))
    assert answer is not None
    assert not answer.found
    assert "stopped by the operator" in answer.reason
    section = stress_section(BENCHMARKS, Facts(stopped, state(60, Phase.STOPPED)))
    assert section is not None
    assert [one["level"] for one in section["steps"]] == [10, 80]
    assert stress_section(BENCHMARKS, Facts(desired(), state(60, Phase.FINISHED))) is None


@pytest.mark.parametrize("resource", ["", "routing_latency"], ids=["spans alone", "readings too"])
def test_a_benchmark_on_spans_is_judged_by_readings_or_said_to_be_left_out(resource: str) -> None:
    spans = {"metric": "ranking", "target": 50, "critical": 100, "unit": "ms", "better": "lower"}
    spans |= {"source": "span", "span": "relaycore.ranking", "resource": resource}
    owner = {"name": "AutoMatrix", "service": "autmatrix-backend", "benchmarks": [spans]}
    document = Benchmarks.model_validate({"systems": {"autmatrix": owner}})
    section = stress_section(document, Facts(asked(), state(60, Phase.FINISHED)))
    assert section is not None
    left_out = [(one["system"], one["metric"]) for one in section["left_out"]]
    assert left_out == ([] if resource else [("autmatrix", "ranking")])
    assert [limit.metric for limit in limits_of(document, asked())] == (["ranking"] if resource else [])


def test_a_step_ends_when_it_is_sure_and_the_next_level_is_asked_for() -> None:
    kept = asked()
    assert lead(kept, 10.0, NOW, sight(100, 0, seconds=8), 5) is None, "it has not been watched for long enough"
    wanted = lead(kept, 20.0, NOW, sight(100, 0), 5)
    assert wanted is not None
    assert wanted.search is not None
    assert wanted.generation == kept.generation + 1
    assert [one.verdict for one in wanted.search.steps] == ["met"]
    (load,) = wanted.loads
    assert (load.changes[-1].rate, load.changes[-1].users, load.changes[-1].at_s) == (20.0, 20, 21.0)
    assert begun_s(wanted) == 21.0


def test_what_is_broken_is_told_with_its_value_and_limit() -> None:
    told = look(sight(100, 30), None)
    assert told is not None
    assert told.verdict == "missed"
    assert told.margins[0].limit == 200
    assert told.margins[0].value == pytest.approx(400, rel=0.01)
    assert told.achieved == 100


def test_a_step_with_the_generators_at_fault_is_invalid() -> None:
    faulty = np.zeros(20, dtype=bool)
    faulty[8:16] = True
    told = look(sight(100, 100, faulty=faulty), None)
    assert told is not None
    assert told.verdict == "invalid"


def test_an_overload_is_cut_short_and_worked_off_before_the_next_level() -> None:
    slower = [Histogram.of([1e6 * (1 + second)] * 50).counts for second in range(8)]
    sums = np.array([50 * 1e3 * (1 + second) for second in range(8)])
    (limit,) = [one for one in limits_of(BENCHMARKS, asked()) if one.source is Source.RESPONSE_TIME]
    piling = sight(50, 0, 8, responses=slower, times_ms=sums, tracks=(Track.of_times(limit, slower, sums),))
    started = asked(search={"steps": (step(5, "met"),)})
    resting = lead(started, 9.0, NOW, Sight(**{**_fields(piling), "in_flight": 800}), 800)
    assert resting is not None
    assert resting.search is not None
    assert resting.search.resting
    assert not resting.search.steps[-1].steady
    assert resting.search.level == pytest.approx(0.5)
    assert lead(resting, 15.0, NOW, None, 500) is None, "much is still to be worked off"
    going_on = lead(resting, 16.0, NOW, None, 3)
    assert going_on is not None
    assert going_on.search is not None
    assert not going_on.search.resting


def _fields(sight: Sight) -> dict[str, Any]:
    return {name: getattr(sight, name) for name in Sight.__slots__}


def test_nothing_is_led_that_is_paused_or_stopped_and_a_pause_begins_the_step_anew() -> None:
    for status in ("paused", "stopped"):
        assert not led(asked(status=status))
        assert lead(asked(status=status), 20.0, NOW, sight(100, 0), 5) is None
    resumed = asked(pauses=(Pause(from_s=5, to_s=30),))
    assert begun_s(resumed) == 30
    assert lead(resumed, 20.0, NOW, sight(100, 0), 5) is None


def test_a_search_ends_with_its_run_when_time_is_up() -> None:
    late = lead(asked(), 597.0, NOW, sight(100, 0), 5)
    assert late is not None
    assert late.search is not None
    assert late.search.answer is not None
    assert "600 s were not enough" in late.search.answer.reason
    assert late.duration_s == pytest.approx(598)


def test_a_hang_is_broken_and_not_a_silence() -> None:
    (limit,) = [one for one in limits_of(BENCHMARKS, asked()) if one.source is Source.RESPONSE_TIME]
    nothing: list[dict[int, int]] = [{}] * 20
    stuck = Track.of_times(limit, nothing, np.zeros(20), Histogram.of([3e6] * 40))
    told = look(sight(1, 0, responses=nothing, times_ms=np.zeros(20), tracks=(stuck,)), None)
    assert told is not None
    assert told.verdict == "critical"
    assert told.note == "nothing is answered any more"


def test_a_scenario_s_own_target_that_hangs_is_told_by_a_limit_that_can_be_read_again() -> None:
    own = Gate(metric="response_time", statistic="p95", limit=100, unit="ms")
    (limit,) = [one for one in limits_of(BENCHMARKS, gated(own)) if one.metric.endswith(" response_time")]
    stuck = Track.of_times(limit, [{}] * 20, np.zeros(20), Histogram.of([60e6] * 40))
    told = stuck.hung("critical")
    assert told is not None
    assert told.limit == 100, "it has no critical limit"
    assert StressMargin.model_validate_json(told.model_dump_json()) == told


@pytest.mark.parametrize("limit", [0, 1])
def test_an_error_rate_that_no_sample_can_show_kept_is_no_limit_of_a_search(limit: float) -> None:
    never = Gate(metric="error_rate", statistic="rate", limit=limit, unit="ratio")
    assert limits_of(BENCHMARKS, gated(never)) == limits_of(BENCHMARKS, gated())


def test_a_limit_of_no_time_at_all_is_broken_by_every_answer() -> None:
    (limit,) = [one for one in limits_of(BENCHMARKS, asked()) if one.source is Source.RESPONSE_TIME]
    track = Track.of_times(replace(limit, target=0), [{100: 10}] * 20, np.full(20, 70.0))
    margin = track.margin("target", np.ones(20, dtype=bool))
    assert margin is not None
    assert margin.margin > 0


def gated(*gates: Gate) -> RunDesired:
    (load,) = asked().loads
    own = load.scenario.model_copy(update={"targets": list(gates)})
    return asked(loads=(load.model_copy(update={"scenario": own}),))


class Kept:
    """A stream whose last word on a run nobody can read."""

    async def get_last_msg(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(data=b"{}", seq=7)


async def test_a_desired_state_that_cannot_be_read_does_not_end_the_leader(caplog: pytest.LogCaptureFixture) -> None:
    bus = cast(Bus, SimpleNamespace(js=Kept(), subjects=Subjects("test")))
    judge = Judge("test", BENCHMARKS)
    board = judge.board("run-of-tests")
    await StressLeader(bus, judge, lambda: True)._publish(board, asked())
    assert "run run-of-tests: what is asked of it last is ignored" in caplog.text
