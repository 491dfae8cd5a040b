"""A change of a run is the whole desired state again, one generation on."""

from datetime import UTC, datetime

import pytest

from services.console.changes import load_of, pause_of, resume_of, stop_of
from shared.contracts.run import Change, Load, Pause
from shared.errors import ConfigError
from tests.unit.scenarios import desired, scenario

NOW = datetime(2026, 11, 23, 15, 30, 12, tzinfo=UTC)
OPEN = Load(scenario=scenario(name="other"), users=5, rate=10.0, duration_s=60.0)


def test_a_run_is_stopped_by_its_next_generation_once() -> None:
    run = desired()
    stopped = stop_of(run, NOW, "asked to")
    assert (stopped.generation, stopped.status, stopped.reason) == (2, "stopped", "asked to")
    assert stopped.loads == run.loads
    assert stop_of(stopped, NOW, "again") is stopped


def test_a_pause_begins_at_once_and_ends_a_moment_after_it_is_asked_to() -> None:
    paused = pause_of(desired(), 12.0, NOW)
    assert (paused.status, paused.pauses) == ("paused", (Pause(from_s=12.0),))
    again = resume_of(paused, 20.0, NOW)
    assert (again.status, again.generation, again.pauses) == ("running", 3, (Pause(from_s=12.0, to_s=21.0),))
    with pytest.raises(ConfigError, match="already paused"):
        pause_of(paused, 13.0, NOW)
    with pytest.raises(ConfigError, match="not paused but running"):
        resume_of(again, 30.0, NOW)


def test_a_load_changes_a_second_ahead_and_nothing_before_is_forgotten() -> None:
    run = load_of(desired(loads=(OPEN,)), 10.0, NOW, 8, 20.0, None)
    run = load_of(run, 20.0, NOW, None, 30.0, None)
    assert run.loads[0].changes == (Change(at_s=11.0, users=8, rate=20.0), Change(at_s=21.0, rate=30.0))
    assert (run.generation, run.users) == (3, 8)


def test_one_of_several_loads_may_be_named() -> None:
    run = desired(loads=(Load(scenario=scenario(), users=10, duration_s=60.0), OPEN))
    changed = load_of(run, 0.0, NOW, 7, None, "other")
    assert [len(load.changes) for load in changed.loads] == [0, 1]
    with pytest.raises(ConfigError, match="has no 'else'; it has things, other"):
        load_of(run, 0.0, NOW, 7, None, "else")
    with pytest.raises(ConfigError, match="things was started without a rate"):
        load_of(run, 0.0, NOW, None, 7.0, None)
    with pytest.raises(ConfigError, match="already being stopped"):
        load_of(stop_of(run, NOW, ""), 0.0, NOW, 7, None, None)
