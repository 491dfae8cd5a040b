"""The runs like one, in the order they were asked for, and where their figures begin to be others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.console.comparing.change_points import LEAST_RUNS, ChangePoint, find_change_points
from services.console.comparing.likeness import BRANCH, same_load
from services.console.comparing.verdict import ActionKey
from shared.contracts.run import Phase
from shared.contracts.timing import Kind
from shared.errors import ConfigError, closest
from shared.store.asking import Connection, find_run
from shared.store.comparisons import FigureRow, RanRow, list_ran, read_figures, read_ran

FIGURES = ("p50", "p95")
LEAST_REQUESTS = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """``branch`` None: that of ``run``, also where it has none. ``false_alarms``: how often a history without any
    change may show one, in whichever action."""

    run: str
    branch: str | None = None
    limit: int = 200
    actions: tuple[str, ...] = ()
    threshold: float = 0.05
    false_alarms: float = 0.02


@dataclass(frozen=True, slots=True)
class Course:
    """One figure (ms) of one action over the runs that have it, oldest first."""

    key: ActionKey
    figure: str
    runs: tuple[RanRow, ...]
    values: tuple[float, ...]
    changes: tuple[ChangePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    runs: tuple[RanRow, ...]
    courses: tuple[Course, ...]


async def read_history(connection: Connection, environment: str, asked: Asked) -> History:
    """``ConfigError`` where the run or an action is not there."""
    chosen = await read_ran(connection, await find_run(connection, environment, asked.run))
    if chosen is None:
        raise ConfigError(f"no run {asked.run!r}")
    branch = chosen.tags.get(BRANCH) if asked.branch is None else asked.branch
    found = await list_ran(connection, environment, asked.limit, chosen.run)
    runs = [
        row for row in reversed(found) if is_sound(row) and same_load(row, chosen) and row.tags.get(BRANCH) == branch
    ]
    figures = await read_figures(connection, [row.run for row in runs])
    if asked.actions:
        figures = _only(figures, asked.actions)
    return History(tuple(runs), tuple(find_changes(draw_courses(runs, figures), asked)))


def is_sound(row: RanRow) -> bool:
    """Whether a run's figures are those of the systems."""
    return row.phase in (Phase.FINISHED, Phase.STOPPED) and not row.at_fault


def draw_courses(runs: Sequence[RanRow], figures: Iterable[FigureRow]) -> list[Course]:
    """Of every action and figure, from the runs in which it was asked for often enough to have one."""
    place = {row.run: index for index, row in enumerate(runs)}
    points: dict[tuple[ActionKey, str], list[tuple[int, float]]] = {}
    for row in figures:
        if row.n < LEAST_REQUESTS:
            continue
        key = ActionKey(Kind(row.kind), row.system, row.scenario, row.action)
        for figure, value in zip(FIGURES, (row.p50_ms, row.p95_ms), strict=True):
            points.setdefault((key, figure), []).append((place[row.run], value))
    courses = []
    for (key, figure), told in sorted(points.items(), key=lambda item: item[0]):
        told.sort()
        courses.append(Course(key, figure, tuple(runs[index] for index, _ in told), tuple(value for _, value in told)))
    return courses


def find_changes(courses: Sequence[Course], asked: Asked) -> list[Course]:
    """Each with its changes; the false alarms asked for are divided among those long enough to have one."""
    tested = sum(len(course.values) >= 2 * LEAST_RUNS for course in courses)
    level = asked.false_alarms / max(1, tested)
    return [
        Course(
            course.key,
            course.figure,
            course.runs,
            course.values,
            tuple(find_change_points(course.values, level=level, threshold=asked.threshold)),
        )
        for course in courses
    ]


def _only(figures: list[FigureRow], actions: tuple[str, ...]) -> list[FigureRow]:
    known = sorted({row.action for row in figures})
    for action in actions:
        if action not in known:
            told = f"there are {', '.join(known)}" if known else "no run like it has any"
            raise ConfigError(f"--action: no {action!r}{closest(action, known)}; {told}")
    return [row for row in figures if row.action in actions]
