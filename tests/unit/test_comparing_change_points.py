"""Where a history of figures changes: found where it does, hardly ever where it does not."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from services.console.comparing.change_points import LEAST_RUNS, find_change_points, scan
from services.console.comparing.history import Asked, History, draw_courses, find_changes, is_sound
from services.console.comparing.history_rows import list_changes, list_rows, to_document
from services.console.comparing.slots import LOG_BASE
from shared.store.comparisons import FigureRow, RanRow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def figures(count: int, seed: int, noise: float = 0.03) -> NDArray[np.float64]:
    values: NDArray[np.float64] = 20.0 * np.exp(noise * np.random.default_rng(seed).standard_normal(count))
    return values


def find(values: NDArray[np.float64], level: float = 0.01, threshold: float = 0.05) -> list[int]:
    return [change.index for change in find_change_points(values.tolist(), level=level, threshold=threshold)]


def test_the_scan_is_students_t_at_every_place() -> None:
    values = np.log(figures(30, 1)) * 1e6  # so that the grain of the figures is as nothing
    found = scan(values[None, :])[0]
    reference = [
        abs(stats.ttest_ind(values[:place], values[place:]).statistic) for place in range(LEAST_RUNS, 31 - LEAST_RUNS)
    ]
    assert found == pytest.approx(reference)
    assert scan(np.zeros((1, 12)))[0] == pytest.approx(np.zeros(3))


@pytest.mark.parametrize(("count", "place"), [(12, 6), (24, 14), (60, 54), (200, 30)])
def test_a_step_is_found_where_it_is_and_measured(count: int, place: int) -> None:
    values = figures(count, count, 0.01)
    values[place:] *= 1.2
    (change,) = find_change_points(values.tolist(), level=0.01, threshold=0.05)
    assert change.index == place
    assert change.change == pytest.approx(0.2, abs=0.02)
    assert change.before == pytest.approx(20, rel=0.02)
    assert change.p <= 0.01


def test_several_steps_are_found_and_small_ones_are_none() -> None:
    values = figures(90, 3, 0.01)
    values[30:] *= 1.3
    values[60:] /= 1.25
    assert find(values) == [30, 60]
    little = figures(90, 3, 0.01)
    little[45:] *= 1.03
    assert find(little) == []
    assert find(little, threshold=0.01) == [45]


def test_a_regression_that_was_mended_is_found_twice() -> None:
    values = figures(36, 5, 0.02)
    values[12:24] *= 1.2
    assert find(values) == [12, 24]


def test_neither_one_outlier_nor_too_few_runs_make_a_change() -> None:
    values = figures(40, 4)
    values[20] *= 5
    values[39] *= 5
    assert find(values) == []
    assert find(np.array([1.0] * 4 + [9.0] * 5)) == []
    assert find(np.ones(40)) == []


def test_figures_that_lie_in_two_neighbouring_buckets_are_no_change() -> None:
    values = np.exp(LOG_BASE * (np.arange(40) >= 20))
    assert find(values) == []


@pytest.mark.parametrize(("alike", "most"), [(0.0, 5), (0.6, 16)])
def test_histories_without_a_change_hardly_ever_show_one(alike: float, most: int) -> None:
    seen = 0
    for seed in range(200):
        noise = np.random.default_rng(seed).standard_normal(80)
        series = np.zeros(80)
        for index in range(1, 80):
            series[index] = alike * series[index - 1] + noise[index]
        seen += bool(find(20 * np.exp(0.1 * series[20:])))
    assert seen <= most


def ran(number: int, **changes: object) -> RanRow:
    at = NOON + timedelta(hours=number)
    fields = {"tags": {"commit": f"c{number}"}, "targets": {}, "loads": [], "verdict": "met", **changes}
    fields = {"phase": "finished", "at_fault": [], "missing": [], **fields}
    return RanRow(run=f"r{number}", requested_at=at, started_at=at, ended_at=at, **fields)  # type: ignore[arg-type]


def test_a_change_is_told_with_its_run_and_what_was_running() -> None:
    runs = [ran(number) for number in range(20)]
    p50 = np.where(np.arange(20) >= 12, 30.0, 20.0) * np.exp(0.005 * np.random.default_rng(1).standard_normal(20))
    rows = [FigureRow(f"r{n}", "shop", "story", "look", 0, 500, 0, p50[n], 50.0 + n % 2) for n in range(20)]
    rows += [FigureRow("r3", "shop", "story", "seldom", 0, 5, 0, 900.0, 900.0)]
    courses = find_changes(draw_courses(runs, reversed(rows)), Asked("r19"))
    history = History(tuple(runs), tuple(courses))
    assert [(course.key.action, course.figure, len(course.values)) for course in courses] == [
        ("look", "p50", 20),
        ("look", "p95", 20),
    ]
    (line,) = list_changes(history)
    assert line.startswith("shop story/look p50 +49.5%")
    assert "since r12 (commit c12), 2026-03-02 00:00" in line
    assert list_rows(history)[1][:3] == ("shop story/look", "p95", "20")
    document = to_document(history)
    assert document["courses"][0]["changes"][0]["run"] == "r12"
    assert list_changes(History(tuple(runs), ())) == ["no change over 20 runs"]


def test_runs_that_failed_or_measured_themselves_are_left_out() -> None:
    assert is_sound(ran(1))
    assert is_sound(ran(1, phase="stopped"))
    assert not is_sound(ran(1, phase="failed"))
    assert not is_sound(ran(1, at_fault=["shop"]))
