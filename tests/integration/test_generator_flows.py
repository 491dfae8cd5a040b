"""Steps of the user's own code, on a real worker: what they send is timed like any other, and only if it is allowed."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.run import Phase
from shared.contracts.timing import ErrorKind, Kind
from tests.integration.fleet import SCENARIO, desired, fleet
from tests.integration.target import Target

pytestmark = pytest.mark.integration


def calling(call: str) -> dict[str, Any]:
    """Sign in, then a step of code, then one that uses what it gives."""
    sign_in, _, watch = SCENARIO["steps"]
    look = {key: value for key, value in watch.items() if key not in ("poll", "expect")} | {"action": "after"}
    code = {"action": "code", "system": "shop", "call": call, "gives": ["thing"]}
    return {**SCENARIO, "steps": [sign_in, code, look]}


async def carried(nats_url: str, environment: str, folder: Path, call: str, allowed: str) -> tuple[Any, Any, Any, str]:
    async with Target() as target, fleet(nats_url, environment, folder) as workers:
        await workers.start("w1", TIDEGATE_FLOW_MODULES=allowed)
        run = desired(target.url, environment, scenario=calling(call), users=3, duration_s=1.0)
        await workers.ask(run)
        state = await workers.until(run.run, lambda state: state.phase.final, 40)
        return state, await workers.frames(run.run), target.counts, workers.log("w1")


async def test_what_code_sends_is_timed_and_counted_and_what_it_sets_is_used(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    call = "tests.integration.flows:buy"
    state, frames, counts, _ = await carried(nats_url, environment, tmp_path, call, "tests.integration.flows")
    assert state.phase is Phase.FINISHED
    rows: Counter[str] = Counter()
    for frame in frames:
        for number, action in enumerate(frame.actions):
            if action.kind is Kind.REQUEST:
                rows[f"things/{action.action}"] += int((frame.events["action"] == number).sum())
        assert not (frame.events["error"] == ErrorKind.STEP).any()
    assert {name: count for name, count in rows.items() if count} == counts
    assert counts["things/make"] == counts["things/look"] == counts["things/after"] > 10


async def test_a_fault_of_the_code_fails_its_iteration_and_is_told_once(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    call = "tests.integration.flows:stumble"
    state, frames, counts, log = await carried(nats_url, environment, tmp_path, call, "tests")
    assert state.phase is Phase.FINISHED
    assert counts["things/after"] == 0
    assert counts["things/code"] > 3
    assert any((frame.events["error"] == ErrorKind.STEP).any() for frame in frames)
    assert log.count("KeyError: 'what is not there'") == 1


@pytest.mark.parametrize(
    ("call", "allowed", "said"),
    [
        ("tests.integration.flows:buy", "", "not in TIDEGATE_FLOW_MODULES"),
        ("os:system", "tests", "not in TIDEGATE_FLOW_MODULES"),
        ("tests.integration.flows:NOT_A_COROUTINE", "tests", "no coroutine function"),
        ("tests.integration.nowhere:buy", "tests", "importing tests.integration.nowhere failed"),
    ],
)
async def test_code_that_is_not_allowed_or_not_there_refuses_the_run(
    nats_url: str, environment: str, tmp_path: Path, call: str, allowed: str, said: str
) -> None:
    state, _, counts, _ = await carried(nats_url, environment, tmp_path, call, allowed)
    assert state.phase is Phase.FAILED
    assert said in state.reason
    assert not counts
