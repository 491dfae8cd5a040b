"""The capacity guard: room on the nodes, the budget over all services, and the rules that bound them."""

# ruff: noqa: E501 - one case per line, so that a table can be read down its columns

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scaler.guard import grant, placeable, wanted_of
from services.scaler.headroom import Headroom
from services.scaler.ledger import Ledger
from services.scaler.policy import decide
from services.scaler.situation import Holding, Memory, Observation, Reading, Shares, Sizes
from shared.config import load_document
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ScalingRules
from shared.errors import ConfigError, TransientError
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, idle_for, running

HOT: dict[str, float | Reading] = {"cpu_usage": 3.0, "request_rate": 100.0, "queue_length": 9.0}
IDLE: dict[str, float | Reading] = {"cpu_usage": 0.05, "request_rate": 2.0}


def holding(service: str, replicas: int, wanted: int = 0, least: int = 1, **size: float | None) -> Holding:
    return Holding(service=service, min=least, replicas=replicas, wanted=max(wanted, replicas), **size)


ROOM: list[tuple[str, Observation, int | None, tuple[str, int, str], list[tuple[str, int, int]]]] = [
    ("nobody knows: nothing is bound", running(2), None, ("scale_up", 6, "rule_exceeded"), [("rate", 8, 6)]),
    ("room for all of it", running(2), 4, ("scale_up", 6, "rule_exceeded"), [("rate", 8, 6)]),
    ("room for some", running(2), 1, ("scale_up", 3, "rule_exceeded"), [("rate", 8, 6), ("capacity", 6, 3)]),
    ("room for none", running(2), 0, ("no_action", 2, "capacity"), [("rate", 8, 6), ("capacity", 6, 2)]),
    ("less than none is none", running(2), -3, ("no_action", 2, "capacity"), [("rate", 8, 6), ("capacity", 6, 2)]),
    ("below the minimum it bounds too", running(1), 0, ("no_action", 1, "capacity"), [("limits", 1, 2), ("capacity", 2, 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "room", "expected", "clamps"), [pytest.param(*row[1:], id=row[0]) for row in ROOM])
def test_the_room_on_the_nodes_bounds_whatever_adds_replicas(
    seen: Observation, room: int | None, expected: tuple[str, int, str], clamps: list[tuple[str, int, int]]
) -> None:
    decision = decide(RELAYCORE, facts(seen, HOT).model_copy(update={"room": room}), Memory())
    assert (decision.action.value, decision.target, decision.reason_code) == expected
    assert [(one.name, one.before, one.after) for one in decision.clamps] == clamps
    if room is not None and expected[0] == "no_action":
        assert "has no room for another" in decision.reason
        assert decision.recommendation
        assert wanted_of(decision) == clamps[-1][1]


def test_without_room_a_service_still_shrinks() -> None:
    idle = facts(running(8), IDLE).model_copy(update={"room": 0})
    assert decide(RELAYCORE, idle, idle_for(900)).target == 2


@pytest.mark.parametrize(
    ("seen", "room", "most"),
    [(running(4), 3, 7), (running(4, 2), 3, 5), (running(4, 2, starting=2), 3, 7), (running(4, 1), 2, 4)],
    ids=["all placed", "two wait for a place", "starting ones have theirs", "more wait than there is room for"],
)
def test_replicas_that_wait_for_a_place_take_the_room_first(seen: Observation, room: int, most: int) -> None:
    assert placeable(seen, room) == most


GRANTS: list[tuple[str, dict[str, float], list[Holding], int, int]] = [
    ("alone it may take all", {"replicas": 10}, [holding("a", 2), holding("b", 3)], 20, 7),
    ("what others hold is theirs", {"replicas": 10}, [holding("a", 2), holding("b", 8)], 5, 2),
    ("a minimum not reached yet is kept free", {"replicas": 10}, [holding("a", 2), holding("b", 0, least=4)], 10, 6),
    ("two that ask grow alike", {"replicas": 10}, [holding("a", 2), holding("b", 2, wanted=20)], 20, 5),
    ("the poorer first", {"replicas": 10}, [holding("a", 1), holding("b", 6, wanted=20)], 20, 4),
    ("who asks for little leaves the rest", {"replicas": 10}, [holding("a", 1), holding("b", 1, wanted=2)], 20, 8),
    ("over the budget already: nothing more", {"replicas": 4}, [holding("a", 3), holding("b", 3)], 6, 3),
    ("cores count by size", {"cpu_cores": 8.0}, [holding("a", 2, cpu_cores=1.5), holding("b", 1, cpu_cores=2.0)], 9, 4),
    ("shares of bounds, not heads", {"cpu_cores": 12.0}, [holding("a", 1, cpu_cores=1.0), holding("b", 1, wanted=9, cpu_cores=3.0)], 20, 6),
    ("what is too little for the other", {"cpu_cores": 12.0}, [holding("a", 1, cpu_cores=1.0), holding("b", 1, wanted=9, cpu_cores=4.0)], 20, 8),
    ("the scarcer of two bounds", {"replicas": 100, "memory": 8192.0}, [holding("a", 1, memory=2048.0), holding("b", 1, memory=1024.0)], 9, 3),
    ("exactly full", {"cpu_cores": 1.0}, [holding("a", 1, cpu_cores=0.1)], 99, 10),
    ("not known of itself: nothing more", {"cpu_cores": 8.0}, [holding("a", 2), holding("b", 1, cpu_cores=1.0)], 4, 2),
    ("not known of another: nothing more", {"cpu_cores": 8.0}, [holding("a", 2, cpu_cores=1.0), holding("b", 1)], 4, 2),
    ("fewer than it holds are its own business", {"replicas": 4}, [holding("a", 3)], 2, 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "holdings", "wanted", "granted"), [pytest.param(*row[1:], id=row[0]) for row in GRANTS]
)
def test_the_budget_is_shared_fairly(
    bounds: dict[str, float], holdings: list[Holding], wanted: int, granted: int
) -> None:
    assert grant(Shares(bounds=bounds, holdings=tuple(holdings)), "a", wanted)[0] == granted


HOLDINGS = st.lists(
    st.builds(
        lambda least, more, wish, cores: (least, least + more, least + more + wish, cores),
        st.integers(1, 4), st.integers(0, 6), st.integers(0, 30), st.sampled_from([0.25, 0.5, 1.0, 1.5, 4.0]),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


@given(found=HOLDINGS, replicas=st.integers(1, 60), cores=st.floats(1, 60))
@settings(max_examples=300, deadline=None)
def test_whoever_decides_first_the_budget_is_kept_and_nobody_loses_what_he_has(
    found: list[tuple[int, int, int, float]], replicas: int, cores: float
) -> None:
    held = {
        f"s{number}": holding(f"s{number}", one[1], one[2], one[0], cpu_cores=one[3])
        for number, one in enumerate(found)
    }
    bounds = {"replicas": float(replicas), "cpu_cores": cores}
    fits = sum(one.replicas for one in held.values()) <= replicas
    fits = fits and sum(one.replicas * (one.cpu_cores or 0) for one in held.values()) <= cores
    start = dict(held)
    for name in held:
        got, words = grant(Shares(bounds=bounds, holdings=tuple(held.values())), name, held[name].wanted)
        assert start[name].replicas <= got <= held[name].wanted
        assert got == held[name].wanted or words
        held[name] = held[name].model_copy(update={"replicas": got})
    if fits:
        assert sum(one.replicas for one in held.values()) <= replicas
        assert sum(one.replicas * (one.cpu_cores or 0) for one in held.values()) <= cores * (1 + 1e-6)


def test_a_scale_up_is_trimmed_or_refused_by_the_budget_and_says_who_holds_it() -> None:
    def situation(others: int) -> Any:
        shares = Shares(bounds={"replicas": 10.0}, holdings=(holding("relaycore", 2), holding("autmatrix", others)))
        return facts(running(2), HOT).model_copy(update={"shares": shares})

    trimmed = decide(RELAYCORE, situation(6), Memory())
    assert (trimmed.action, trimmed.target, trimmed.reason_code) == (Action.SCALE_UP, 4, "rule_exceeded")
    assert [(one.name, one.before, one.after) for one in trimmed.clamps] == [("rate", 8, 6), ("budget", 6, 4)]
    refused = decide(RELAYCORE, situation(8), Memory())
    assert (refused.action, refused.target, refused.reason_code) == (Action.NO_ACTION, 2, "budget")
    assert "the budget of replicas is shared out (relaycore 2, autmatrix 8)" in refused.reason
    assert wanted_of(refused) == 6


RULES: dict[str, Any] = {
    "budget": {"replicas": 10, "cpu_cores": 16},
    "services": {
        "a": {"system": "a", "min": 2, "max": 9, "size": {"cpu_cores": 1, "memory": "2 GB"}},
        "b": {"system": "b", "min": 1, "max": 9, "size": {"cpu_cores": 2}, "target": {"kind": "swarm"}},
    },
}


def test_the_ledger_counts_what_is_decided_at_once_and_a_service_never_seen_with_its_minimum() -> None:
    ledger = Ledger(ScalingRules.model_validate(RULES))
    ledger.note("b", 4, 6)
    ledger.note_sizes("b", Sizes(cpu_limit=3.0, cpu_reserved=1.0, memory_reserved=512.0))
    shares = ledger.shares()
    assert shares is not None
    assert shares.bounds == {"replicas": 10.0, "cpu_cores": 16.0}
    assert shares.holdings == (
        Holding(service="a", min=2, replicas=2, wanted=2, cpu_cores=1.0, memory=2048.0),
        Holding(service="b", min=1, replicas=4, wanted=6, cpu_cores=3.0, memory=512.0),
    )
    assert ledger.counts_sizes
    assert Ledger(ScalingRules.model_validate({"services": RULES["services"]})).shares() is None


@pytest.mark.parametrize(
    ("change_to", "words"),
    [
        ({"budget": {}}, "budget: bounds nothing; give replicas, cpu_cores or memory"),
        ({"budget": {"replicas": 2}}, "budget.replicas 2 is below the 3 that the minimums of all services take"),
        ({"budget": {"cpu_cores": 3}}, "budget.cpu_cores 3 is below the 4"),
        ({"budget": {"memory": "lots"}}, "budget.memory: 'lots' is no quantity"),
        ({"budget": {"memory": "64 PB"}}, "unknown unit 'PB'"),
        ({"budget": {"gpus": 3}}, "budget.gpus"),
        ({"services": {"a": {"system": "a", "min": 1, "max": 2}}}, "services.a.size.cpu_cores is missing"),
    ],
    ids=["no bound", "too few for the minimums", "too few cores", "no quantity", "no unit", "no such bound", "no size"],
)
def test_a_budget_that_cannot_be_kept_is_refused_by_name(tmp_path: Path, change_to: dict[str, Any], words: str) -> None:
    path = tmp_path / "scaling.yaml"
    path.write_text(json.dumps(RULES | change_to))
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        load_document(ScalingRules, path)


class Shy:
    """A target that tells room, and no sizes at first."""

    dry_run = False

    def __init__(self) -> None:
        self.asked = 0

    async def room(self, service: str) -> int | None:
        return 1

    async def sizes(self, service: str) -> Sizes:
        self.asked += 1
        if self.asked < 2:
            raise TransientError("away")
        return Sizes(cpu_limit=2.0)


async def test_room_is_asked_though_sizes_are_not_told_and_sizes_are_asked_again_soon() -> None:
    service = {"system": "relaycore", "min": 1, "max": 9, "size": {"cpu_cores": 1}}
    rules = ScalingRules.model_validate({"budget": {"cpu_cores": 8}, "services": {"relaycore": service}})
    target: Any = Shy()
    headroom = Headroom("relaycore", rules.services["relaycore"], target, Ledger(rules))
    sizes = []
    for after_s in (0, 1, 3):
        assert await headroom.look(facts(running(2), now_s=NOW_S + after_s), None, more=True) == 1
        shares = headroom.shares()
        assert shares is not None
        sizes.append(shares.holdings[0].cpu_cores)
    assert sizes == [1.0, 1.0, 2.0]


def test_what_was_only_said_holds_nothing_of_the_budget() -> None:
    rules = ScalingRules.model_validate(
        {"budget": {"replicas": 20}, "services": {"relaycore": {"system": "relaycore", "min": 2, "max": 9}}}
    )
    target: Any = Shy()
    headroom = Headroom("relaycore", rules.services["relaycore"], target, Ledger(rules))
    headroom.remember((change(60, target=4), change(20, target=9, dry_run=True)))
    shares = headroom.shares()
    assert shares is not None
    assert shares.holdings[0].replicas == 4


def test_a_refused_scale_up_is_weighed_again_when_room_appears() -> None:
    rooms = [0, 0, 2, None]
    targets = [
        decide(RELAYCORE, facts(running(2), HOT).model_copy(update={"room": room}), Memory()).target for room in rooms
    ]
    assert targets == [2, 2, 4, 6]
    assert all(one <= other for one, other in pairwise(targets))


def test_a_service_on_its_way_is_held_by_the_change_not_by_the_budget() -> None:
    shares = Shares(bounds={"replicas": 4.0}, holdings=(holding("relaycore", 4),))
    pending = Memory(changes=(change(3, current=2, target=4, ok=None, done_s=None, verdict=None),))
    decision = decide(RELAYCORE, facts(running(4, 2), HOT).model_copy(update={"shares": shares}), pending)
    assert decision.reason_code == "awaiting_ready"
