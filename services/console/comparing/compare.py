"""Two runs from the store to verdicts: which runs, their steps, every action measured and judged."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from services.console.comparing.likeness import (
    BRANCH,
    find_doubt,
    find_last_good,
    find_unconfirmed,
    list_differences,
    same_load,
)
from services.console.comparing.measures import Measure, Name, measure_all
from services.console.comparing.slots import Slots
from services.console.comparing.verdict import ActionKey, Compared, Judged, Rules, Verdict, judge
from shared.contracts.run import Phase
from shared.contracts.timing import Kind
from shared.errors import ConfigError, among, closest
from shared.store.asking import KNOWN_RUNS, Connection, find_run
from shared.store.baselines import find_baseline, list_baselines
from shared.store.comparisons import RanRow, Steps, list_ran, read_compared_steps, read_ran
from shared.store.series import Series, list_series

LAST_GOOD = "last-good"
EXIT_SAME, EXIT_REGRESSED, EXIT_INSUFFICIENT = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Asked:
    """``base``: a run; else ``baseline``: a name, or ``last-good``, on ``branch`` (None: the candidate's own).

    ``actions``: only these; ``strict``: that no difference was found is not enough.
    """

    candidate: str
    base: str | None = None
    baseline: str | None = None
    branch: str | None = None
    actions: tuple[str, ...] = ()
    strict: bool = False
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``baseline``: how the base was named, where it was not by its run. ``warnings``: in what the runs differ."""

    base: RanRow
    candidate: RanRow
    baseline: str | None
    rules: Rules
    warnings: list[str]
    actions: list[Judged]
    strict: bool

    @property
    def verdict(self) -> Verdict:
        """Of all actions together: the worst there is; the same only where all of them are."""
        found = {action.verdict for action in self.actions}
        order = (Verdict.REGRESSED, Verdict.INSUFFICIENT, Verdict.IMPROVED)
        return next((verdict for verdict in order if verdict in found), Verdict.SAME if found else Verdict.INSUFFICIENT)

    @property
    def exit_code(self) -> int:
        """1 where anything regressed; 3 where an action of the base could not be tested, or strictly where sameness was
        not shown; else 0."""
        if self.verdict is Verdict.REGRESSED:
            return EXIT_REGRESSED
        needed = [action for action in self.actions if action.compared.base_requests]
        untested = not needed or any(not action.tested for action in needed)
        unshown = self.strict and any(action.verdict is Verdict.INSUFFICIENT for action in self.actions)
        return EXIT_INSUFFICIENT if untested or unshown else EXIT_SAME


async def compare_runs(connection: Connection, environment: str, asked: Asked) -> Comparison:
    """``ConfigError`` for runs that are not there, are not over, or are one and the same."""
    candidate = await _ended(connection, environment, asked.candidate)
    base = await _find_base(connection, environment, asked, candidate)
    if base.run == candidate.run:
        raise ConfigError(f"base and candidate are both {base.run}; name two runs")
    measured = [await _read(connection, row) for row in (base, candidate)]
    compared = _compare_all(base, candidate, measured[0], measured[1])
    if asked.actions:
        compared = _only(compared, asked.actions)
    warnings = list_differences(base, candidate)
    named = asked.baseline if asked.base is None else None
    return Comparison(base, candidate, named, asked.rules, warnings, judge(compared, asked.rules), asked.strict)


async def _ended(connection: Connection, environment: str, name: str) -> RanRow:
    found = await read_ran(connection, await find_run(connection, environment, name))
    if found is None:
        raise ConfigError(f"no run {name!r}")
    if not Phase(found.phase).final:
        raise ConfigError(f"run {found.run} is {found.phase}; it can be compared when it has ended")
    return found


async def _find_base(connection: Connection, environment: str, asked: Asked, candidate: RanRow) -> RanRow:
    if asked.base is not None:
        return await _ended(connection, environment, asked.base)
    name = asked.baseline or ""
    if name == LAST_GOOD:
        runs = await list_ran(connection, environment, KNOWN_RUNS, candidate.run)
        good = find_last_good(runs, candidate, asked.branch)
        if good is None:
            branch = candidate.tags.get(BRANCH) if asked.branch is None else asked.branch
            where = f"with {BRANCH}={branch}" if branch else f"without a tag {BRANCH}"
            raise ConfigError(
                f"--baseline: no run before {candidate.run} of the same scenarios and load met its benchmarks {where}; "
                "name a run, or another --branch"
            )
        return good
    row = await find_baseline(connection, environment, name)
    if row is None:
        known = [item.name for item in await list_baselines(connection, environment)]
        told = f"there are {', '.join(known)}" if known else "there is none yet; see tidegate baseline set"
        raise ConfigError(f"--baseline: no baseline {name!r}{closest(name, known)}; {told}, or {LAST_GOOD}")
    return await _ended(connection, environment, row.run)


async def _read(connection: Connection, row: RanRow) -> dict[ActionKey, Slots]:
    series = await list_series(connection, row.run)
    return cut(series, await read_compared_steps(connection, [item.series_id for item in series]), row)


def cut(series: Iterable[Series], steps: Steps, row: RanRow) -> dict[ActionKey, Slots]:
    """Slots of every series that has a request after ramp-up; all begin and end with the first and last of them."""
    if not len(steps.step):
        return {}
    first, last = int(steps.step.min()), int(steps.step.max())
    loaded = _loaded(row, steps.step_s, first, last)
    found = {}
    for item in series:
        mine = steps.series_id == item.series_id
        if mine.any():
            key = ActionKey(Kind(item.kind), item.system, item.scenario, item.action)
            columns = (steps.step[mine] - first, steps.bucket[mine], steps.n[mine], steps.failed[mine])
            found[key] = Slots.of(*columns, slots=last - first + 1, step_s=float(steps.step_s), loaded=loaded)
    return found


def _loaded(row: RanRow, step_s: int, first: int, last: int) -> tuple[int, int]:
    """The steps within the load: after ramp-up, and before what was still in flight at the end came back."""
    began = (row.started_at or row.requested_at).timestamp()
    ramp_up_s = max((load["ramp_up_s"] for load in row.loads), default=0.0)
    lasts_s = min((load["duration_s"] for load in row.loads), default=math.inf)
    ended = math.inf if row.ended_at is None else row.ended_at.timestamp()
    begin = max(math.ceil((began + ramp_up_s) / step_s), first)
    end = min(math.floor(min(began + lasts_s, ended) / step_s), last + 1) if math.isfinite(ended) else last + 1
    return begin - first, max(end, begin) - first


def _compare_all(
    base: RanRow, candidate: RanRow, of_base: dict[ActionKey, Slots], of_candidate: dict[ActionKey, Slots]
) -> list[Compared]:
    alike = same_load(base, candidate)
    compared = []
    for key in sorted(of_base.keys() | of_candidate.keys()):
        one, other = of_base.get(key), of_candidate.get(key)
        counts = (0 if one is None else one.total, 0 if other is None else other.total)
        if one is None or other is None:
            doubt = f"only in the {'candidate' if one is None else 'base'}"
            compared.append(Compared(key, *counts, doubt=doubt))
            continue
        measures = [item if alike else _without_load(item) for item in measure_all(one, other)]
        where = (key.system, key.scenario, key.action)
        doubt, unconfirmed = find_doubt(base, candidate, key.system), find_unconfirmed(base, candidate, where)
        compared.append(Compared(key, *counts, measures, doubt, unconfirmed))
    return compared


def _without_load(measure: Measure) -> Measure:
    """Throughput follows the load, so it tells nothing where that was another."""
    if measure.name is not Name.THROUGHPUT:
        return measure
    return replace(measure, p=None, low=None, high=None, note="the load was not the same")


def _only(compared: list[Compared], actions: tuple[str, ...]) -> list[Compared]:
    known = sorted({item.key.action for item in compared})
    for action in actions:
        if action not in known:
            raise ConfigError(f"--action: neither run has {action!r}{among(action, known)}")
    return [item for item in compared if item.key.action in actions]
