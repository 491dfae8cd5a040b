"""The simulated service against what queues are known to do, the policies on it, and the scores."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from services.scaler.simulation.course import Course, Policy, Setting, run
from services.scaler.simulation.hpa import Hpa
from services.scaler.simulation.knative import Knative
from services.scaler.simulation.oracle import Oracle
from services.scaler.simulation.own import Own
from services.scaler.simulation.policies import policy_named
from services.scaler.simulation.replicas import Load, Replicas, Second
from services.scaler.simulation.score import score
from services.scaler.simulation.step import Step
from services.scaler.simulation.traces import exponential, fixed, multiplied, of_rates
from shared.errors import ConfigError
from tests.unit.scaler_cases import relaycore

RULES = relaycore(up=(), down=None, max=40, sizing={"concurrency": 8, "start_up": 30})
SETTING = Setting()


class Fixed:
    def __init__(self, *orders: tuple[int, int]) -> None:
        self._orders = dict(orders)

    def wanted(self, second: Second) -> int:
        return self._orders.get(second.at_s, second.desired)


def poisson(rates: list[float], seed: int = 1) -> Load:
    return of_rates(np.array(rates), fixed(0.5), np.random.default_rng(seed))


def test_waiting_in_a_queue_of_exponential_servers_is_what_erlang_says() -> None:
    servers, mean_s, rate = 4, 0.5, 6.4
    load = of_rates(np.full(40_000, rate), exponential(mean_s), np.random.default_rng(3))
    course = run(load, Fixed(), Setting(concurrency=servers, least=1, start=1))
    offered = rate * mean_s
    waits = offered**servers / math.factorial(servers) * servers / (servers - offered)
    probability = waits / (sum(offered**k / math.factorial(k) for k in range(servers)) + waits)
    expected_s = probability * mean_s / (servers - offered)
    waited_s = course.responses - load.services
    assert waited_s.mean() == pytest.approx(expected_s, rel=0.1)
    assert (waited_s > 1e-9).mean() == pytest.approx(probability, rel=0.1)


def test_answers_are_served_in_order_as_servers_come_free() -> None:
    load = Load(np.array([0.0, 0.1, 0.2, 0.3]), np.full(4, 1.0), 5)
    course = run(load, Fixed(), Setting(concurrency=2, least=1, start=1))
    assert course.responses == pytest.approx([1.0, 1.0, 1.8, 1.8])


def test_a_replica_takes_requests_after_its_start_up_time() -> None:
    load = Load(np.zeros(3), np.full(3, 10.0), 30)
    course = run(load, Fixed((1, 3)), Setting(concurrency=1, start_up_s=2.5, least=1, start=1))
    assert course.responses == pytest.approx([10.0, 13.5, 13.5])
    assert [one.ready for one in course.seconds[:5]] == [1, 1, 1, 3, 3]


def test_a_replica_removed_ends_what_it_has_and_takes_nothing_more() -> None:
    load = Load(np.array([0.0, 0.0, 1.5]), np.full(3, 4.0), 20)
    course = run(load, Fixed((1, 1)), Setting(concurrency=1, least=1, start=2))
    assert course.responses[:2] == pytest.approx([4.0, 4.0])
    assert course.responses[2] == pytest.approx(6.5)


def test_replicas_still_starting_are_given_up_first() -> None:
    replicas = Replicas(Load(np.array([0.0]), np.array([1.0]), 9), 1, 5.0, 2)
    replicas.order(0, 4)
    replicas.order(1, 3)
    assert (replicas.desired, replicas.ready) == (3, 2)
    replicas.order(2, 1)
    assert (replicas.desired, replicas.ready) == (1, 1)


def test_a_scrape_tells_what_was_answered_at_work_and_in_line() -> None:
    load = Load(np.array([0.0, 0.0, 0.0]), np.full(3, 0.75), 3)
    first, second, _ = run(load, Fixed(), Setting(concurrency=1, least=1, start=1)).seconds
    assert (first.served, first.in_flight, first.waiting, round(first.busy, 9)) == (1, 1, 1, 1.0)
    assert (second.served, second.in_flight, second.waiting) == (1, 1, 0)


def test_work_is_conserved_whatever_the_policy() -> None:
    load = poisson([40.0] * 60 + [160.0] * 120 + [20.0] * 120)
    for policy in (Hpa(), Knative(8), Step(), Oracle(load, SETTING), Own("relaycore", RULES)):
        course = run(load, policy, SETTING)
        assert np.isfinite(course.responses).all()
        assert course.responses.min() >= 0.5 - 1e-9
        assert all(SETTING.least <= one.desired <= SETTING.most for one in course.seconds)


def second_of(at_s: int, utilization: float, desired: int, ready: int | None = None) -> Second:
    ready = desired if ready is None else ready
    return Second(at_s, desired, ready, 10, 4, 0, utilization * ready * 8, utilization, 0.5, 0.0)


def at_sync(utilization: float, desired: int, ready: int | None = None) -> int:
    hpa, wanted = Hpa(), desired
    for at_s in range(1, 16):
        wanted = hpa.wanted(second_of(at_s, utilization, desired, ready))
    return wanted


@pytest.mark.parametrize(
    ("utilization", "desired", "ready", "wanted"),
    [(1.0, 10, 10, 15), (0.75, 10, 10, 10), (0.35, 10, 10, 5), (1.0, 10, 7, 10), (1.0, 10, 9, 13), (1.0, 2, 2, 3)],
    ids=["over", "within the tolerance", "under", "starting turn it", "starting count 0", "rounded up"],
)
def test_the_hpa_answers_as_kubernetes_does(utilization: float, desired: int, ready: int, wanted: int) -> None:
    assert at_sync(utilization, desired, ready) == wanted


def test_the_hpa_goes_down_to_the_most_wanted_in_five_minutes() -> None:
    hpa = Hpa()
    wanted = [hpa.wanted(second_of(at_s, 0.7 if at_s <= 30 else 0.2, 10)) for at_s in range(1, 401)]
    assert wanted[100] == wanted[300] == 10
    assert wanted[374] < 10


def step_load() -> Load:
    return poisson([60.0] * 300 + [240.0] * 300)


def violations(load: Load, policy: Policy, start: int = 8) -> tuple[int, Course]:
    setting = Setting(start=start)
    course = run(load, policy, setting)
    return score(course, setting, np.ones(load.duration_s), 300.0).violation_s, course


def test_a_step_is_answered_within_seconds_by_what_it_needs() -> None:
    load = step_load()
    own = Own("relaycore", RULES)
    ours, course = violations(load, own)
    theirs, _ = violations(load, Hpa())
    assert ours <= theirs / 2
    ups = [(at_s, one.target) for at_s, one in own.decisions if one.action == "scale_up" and at_s > 300]
    assert ups[0][0] <= 303
    assert ups[0][1] >= 22, "a rate of 240/s needs 21.4 replicas at 70 %"
    assert len(ups) <= 2
    assert course.seconds[-1].waiting == 0


def test_no_policy_of_ours_turns_down_within_the_stabilization_window() -> None:
    rng = np.random.default_rng(5)
    rates = np.repeat(rng.uniform(20, 300, 24), 50)
    load = poisson(rates.tolist())
    course = run(load, Own("relaycore", RULES), SETTING)
    made = score(course, SETTING, np.ones(load.duration_s), 300.0)
    assert made.flips == 0
    assert made.moves > 3


def test_rules_without_sizing_are_replayed_as_they_are() -> None:
    rules = relaycore(up=[{"metric": "cpu_usage", "above": 0.75}], max=40)
    own = Own("relaycore", rules)
    run(poisson([20.0] * 60 + [100.0] * 120), own, SETTING)
    assert {one.cause for _, one in own.decisions} == {"cpu_usage"}


def test_the_oracle_meets_the_objective_at_the_least_cost() -> None:
    load = step_load()
    setting = Setting(start=8)
    oracle = Oracle(load, setting)
    made = score(run(load, oracle, setting), setting, oracle.needed.astype(float), 300.0)
    assert made.violation_s == 0
    assert made.replica_hours < 600 * 15 / 3600
    assert made.under_share < 1


def test_scores_are_what_their_formulas_say() -> None:
    load = Load(np.array([0.5, 1.5, 2.5, 3.5]), np.full(4, 0.1), 4)
    seconds = tuple(Second(at, ordered, ready, 1, 0, 0, 0.1, 0.1, 0.1, 0.0) for at, ordered, ready in
                    ((1, 2, 2), (2, 4, 2), (3, 4, 4), (4, 2, 2)))  # fmt: skip
    course = Course(load, np.array([0.1, 1.0, 2.0, np.inf]), seconds)
    made = score(course, Setting(start=2), np.array([2.0, 4.0, 2.0, 2.0]), 300.0)
    assert (made.violation_s, made.moves, made.reversals, made.flips, made.regrets) == (3, 2, 1, 1, 0)
    assert made.replica_hours == pytest.approx(12 / 3600)
    assert (made.under_accuracy, made.over_accuracy) == (12.5, 25.0)
    assert (made.under_share, made.over_share) == (25.0, 25.0)
    assert made.instability == pytest.approx(100.0)


def test_a_second_violates_when_more_than_one_in_twenty_is_late() -> None:
    load = Load(np.linspace(0, 0.99, 100), np.full(100, 0.1), 1)
    late = np.where(np.arange(100) < 5, 1.5, 0.1)
    course = Course(load, late, (Second(1, 2, 2, 100, 0, 0, 1.0, 0.1, 0.1, 0.0),))
    assert score(course, SETTING, np.ones(1), 300.0).violation_s == 0
    later = Course(load, np.where(np.arange(100) < 6, 1.5, 0.1), course.seconds)
    assert score(later, SETTING, np.ones(1), 300.0).violation_s == 1


@pytest.mark.parametrize("name", ["hpa=0", "hpa=1.5", "hpa=x", "keda", "knative=3"])
def test_a_policy_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        policy_named(name, "relaycore", RULES, step_load(), SETTING)


@pytest.mark.parametrize("draw", [fixed(0.5), exponential(0.5)])
def test_counted_often_arrives_at_the_same_moment(
    draw: Callable[[int], np.ndarray[tuple[int], np.dtype[np.float64]]],
) -> None:
    load = multiplied(np.array([0.0, 2.5]), 3, draw)
    assert load.arrivals.tolist() == [0, 0, 0, 2.5, 2.5, 2.5]
    assert len(load.services) == 6
    assert load.duration_s == 3
