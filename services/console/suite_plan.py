"""A suite as the runs it is made of, and the verdict of the whole. Pure but for looking scenarios up."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.console.plan import LoadOptions, PlannedRun, plan_load
from shared.contracts.scenario import Scenario
from shared.contracts.suite import Suite, SuiteRun

INSUFFICIENT = 3
SEVERITY = (0, INSUFFICIENT, 1, 4, 2)
"""Exit codes from the mildest; a missed benchmark beats an insufficient one, a run that broke beats both."""


def plan_suite(suite: Suite, find: Callable[[str], Scenario], options: LoadOptions) -> list[PlannedRun]:
    """The runs of a suite in turn, or one with all its loads together; of ``options`` scale, rate and profile count."""
    loads = [plan_load(*_entry(run, find(run.scenario), options)) for run in suite.runs]
    if suite.order == "together":
        return [PlannedRun(suite.name, tuple(loads), suite.name)]
    return [
        PlannedRun(load.scenario.name, (load,), suite.name, run.insufficient_ok)
        for run, load in zip(suite.runs, loads, strict=True)
    ]


def worst_exit_code(codes: Sequence[int]) -> int:
    """The exit code of several runs."""
    return max(codes, key=SEVERITY.index, default=0)


def forgive(run: PlannedRun, code: int) -> int:
    """The exit code of one run as its suite counts it."""
    return 0 if run.insufficient_ok and code == INSUFFICIENT else code


def _entry(run: SuiteRun, scenario: Scenario, options: LoadOptions) -> tuple[Scenario, LoadOptions]:
    """A suite's own load stands in for the scenario's, so that scaling and ramp-up treat it as such."""
    duration_s = scenario.duration if run.duration is None else run.duration
    ramp_up_s = min(scenario.ramp_up, duration_s) if run.ramp_up is None else run.ramp_up
    users = scenario.users if run.users is None else run.users
    own = scenario.model_copy(update={"users": users, "duration": duration_s, "ramp_up": ramp_up_s})
    return own, replace(options, users=None, duration_s=None, ramp_up_s=None)
