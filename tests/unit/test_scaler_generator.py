"""The generator as a service to scale: its workers' frames are its samples, and without a run it is idle."""

from pathlib import Path
from typing import Any

import pytest

from services.scaler.generator import SILENT_RUN_S, Workers
from services.scaler.inputs import Inputs
from services.scaler.policy import decide
from services.scaler.situation import Memory, Observation, Reading
from shared.config import load_document
from shared.contracts.base import utc_of_us
from shared.contracts.run import Phase, RunState
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ScalingRules
from shared.contracts.window import FrameWindows
from shared.settings import PROJECT_ROOT
from tests.unit.scaler_cases import NOW_S, facts, reading, running

RULES = load_document(ScalingRules, Path(PROJECT_ROOT) / "config" / "scaling.yaml")
GENERATOR = RULES.services["generator"]


def frame(worker: str, ago_s: float, at_fault: bool, system: str = "relaycore", cpu: int = 500) -> FrameWindows:
    return FrameWindows(
        run="run-1", environment="local", worker=worker, epoch=1, system=system, seq=int(100 - ago_s),
        at_fault=at_fault, watermark_us=0, emitted_us=int((NOW_S - ago_s) * 1e6), cpu_permille=cpu,
    )  # fmt: skip


def state(phase: Phase, ago_s: float = 1.0, run: str = "run-1") -> RunState:
    at = utc_of_us(int((NOW_S - ago_s) * 1e6))
    return RunState(run=run, environment="local", phase=phase, generation=1, at=at, coordinator="w1")


def heard(frames: list[FrameWindows], states: list[RunState], seen: Observation) -> dict[str, Reading]:
    inputs = Inputs(RULES, lambda: None)
    for one in states:
        inputs.workers.hear(one)
    for each in frames:
        inputs.take_windows(each)
    return inputs.facts("generator", NOW_S, seen, "").readings


def test_workers_late_by_their_own_doing_ask_for_more_of_them() -> None:
    frames = [frame(worker, second, worker == "w1") for worker in ("w1", "w2") for second in range(1, 11)]
    readings = heard(frames, [state(Phase.RUNNING)], running(2))
    assert (readings["generator_at_fault"].value, readings["generator_at_fault"].reported) == (0.5, 2)
    assert readings["cpu_usage"].value == 0.5
    decision = decide(GENERATOR, facts(running(2), dict(readings), service="generator"), Memory())
    assert (decision.action, decision.target, decision.cause) == (Action.SCALE_UP, 4, "generator_at_fault")


@pytest.mark.parametrize(
    ("readings", "room", "expected"),
    [
        ({"generator_at_fault": 0.05, "cpu_usage": 0.5}, None, ("no_action", 2, "steady")),
        ({"generator_at_fault": 0.5, "cpu_usage": 0.5}, None, ("scale_up", 4, "rule_exceeded")),
        ({"generator_at_fault": 0.5, "cpu_usage": 0.5}, 1, ("scale_up", 3, "rule_exceeded")),
        ({"generator_at_fault": 0.5, "cpu_usage": 0.5}, 0, ("no_action", 2, "capacity")),
        ({"generator_at_fault": 0.0, "cpu_usage": 0.98}, None, ("scale_up", 3, "rule_exceeded")),
        ({"generator_at_fault": reading(0.15, missing=1, reported=1)}, None, ("no_action", 2, "steady")),
    ],
    ids=["now and then", "half of the time", "one core is free", "no core is free", "at its CPU", "one is silent"],
)
def test_workers_are_added_while_there_are_cores_for_them(
    readings: dict[str, Any], room: int | None, expected: tuple[str, int, str]
) -> None:
    situation = facts(running(2), readings, service="generator").model_copy(update={"room": room})
    decision = decide(GENERATOR, situation, Memory())
    assert (decision.action.value, decision.target, decision.reason_code) == expected


def test_a_worker_is_at_fault_when_the_frame_of_any_system_says_so_and_no_other_service_hears_of_it() -> None:
    frames = [frame("w1", 1, True, "relaycore"), frame("w1", 1, False, "autmatrix"), frame("w1", 0.5, False)]
    readings = heard(frames, [state(Phase.RUNNING)], running(1))
    assert readings["generator_at_fault"].value == 0.5
    inputs = Inputs(RULES, lambda: None)
    inputs.take_windows(frames[0])
    assert inputs.facts("relaycore", NOW_S, running(2), "").readings["cpu_usage"] == Reading(missing=2)


@pytest.mark.parametrize(
    ("states", "busy"),
    [
        ([], False),
        ([state(Phase.RUNNING)], True),
        ([state(Phase.STARTING), state(Phase.STOPPED)], False),
        ([state(Phase.RUNNING), state(Phase.FINISHED, run="run-2")], True),
        ([state(Phase.RUNNING, SILENT_RUN_S - 1)], True),
        ([state(Phase.RUNNING, SILENT_RUN_S + 1)], False),
    ],
    ids=["none", "one runs", "it was stopped", "another has ended", "silent for a while", "silent for long"],
)
def test_without_a_run_the_workers_are_idle_and_with_one_silence_is_no_rest(states: list[RunState], busy: bool) -> None:
    workers = Workers()
    for one in states:
        workers.hear(one)
    assert workers.busy(NOW_S) is busy
    readings = heard([], states, running(2))
    assert all(one.idle is not busy for one in readings.values())
    assert all(one.complete is not busy for one in readings.values())
