"""Which runs may be held against each other, and in what they differ. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from shared.store.comparisons import RanRow

BRANCH = "branch"
"""The tag that holds a run's branch."""
_LOAD = ("scenario", "users", "rate", "profile", "spacing", "stages")
_SAID = ("users", "rate", "profile", "spacing", "stages", "duration_s", "ramp_up_s")


def same_load(one: RanRow, other: RanRow) -> bool:
    """Whether both were asked for the same scenarios with the same load; for how long does not matter."""
    return [_asked(load) for load in one.loads] == [_asked(load) for load in other.loads]


def _asked(load: dict[str, Any]) -> tuple[Any, ...]:
    return (*(load[name] for name in _LOAD), load["changed"])


def find_last_good(runs: Iterable[RanRow], candidate: RanRow, branch: str | None) -> RanRow | None:
    """The newest run before the candidate that was like it and met every benchmark.

    ``branch``: of that run; None means the candidate's own, also where that has none.
    """
    wanted = candidate.tags.get(BRANCH) if branch is None else branch
    before = (row for row in runs if row.requested_at < candidate.requested_at and row.run != candidate.run)
    good = (row for row in before if row.verdict == "met" and row.tags.get(BRANCH) == wanted)
    return max((row for row in good if same_load(row, candidate)), key=lambda row: row.requested_at, default=None)


def list_differences(base: RanRow, candidate: RanRow) -> list[str]:
    """What was not the same in two runs, a line each, so that nobody takes it for the work of the systems."""
    loads = [{load["scenario"]: load for load in row.loads} for row in (base, candidate)]
    found = []
    for name in sorted(loads[0].keys() | loads[1].keys()):
        one, other = loads[0].get(name), loads[1].get(name)
        if one is None or other is None:
            found.append(f"scenario {name} is only in the {'candidate' if one is None else 'base'}")
            continue
        found += [
            f"{name}: {key.removesuffix('_s')} {_plain(one[key])} in base, {_plain(other[key])} in candidate"
            for key in _SAID
            if one[key] != other[key]
        ]
        if one["written"] != other["written"]:
            found.append(f"{name}: the scenario is written otherwise in the two runs")
        changed = [which for which, load in (("base", one), ("candidate", other)) if load["changed"]]
        found += [f"{name}: the load of the {which} was changed while it ran" for which in changed]
    for system in sorted(base.targets.keys() | candidate.targets.keys()):
        urls = [row.targets.get(system, "none") for row in (base, candidate)]
        if urls[0] != urls[1]:
            found.append(f"{system} was at {urls[0]} in base, at {urls[1]} in candidate")
    return found


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float | int):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{len(value)} by hand" if value else "none"
    return str(value)


def find_doubt(base: RanRow, candidate: RanRow, system: str) -> str:
    """Why what these runs measured of a system says nothing of it; empty where nothing speaks against it."""
    for which, row in (("base", base), ("candidate", candidate)):
        if row.phase == "failed":
            return f"the {which} could not be carried through"
        if system in row.at_fault:
            return f"the generator was at fault in the {which}"
    return ""


def find_unconfirmed(base: RanRow, candidate: RanRow, action: Sequence[str]) -> str:
    """Why they can show a difference of an action (system, scenario, action) and not that there is none."""
    for which, row in (("base", base), ("candidate", candidate)):
        if list(action) in row.missing:
            return f"no difference found; not all that was sent is stored of the {which}"
        if row.verdict is None:
            return f"no difference found; the {which} has no report that tells whether its generator kept up"
    return "" if same_load(base, candidate) else "no difference found; the load was not the same"
