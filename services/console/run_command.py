"""What ``tidegate run`` does with its options: plan, check, find or start a stack, carry the runs, report them."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from deploy.embedded import StackOptions
from services.console.backing import Backing, find_backing, own_backing
from services.console.catalogue import Catalogue
from services.console.connecting import connected
from services.console.documents import check_documents
from services.console.hosts import check_proxy
from services.console.json_paths import check_json_paths
from services.console.live_view import open_view
from services.console.outputs import ReportFiles
from services.console.plan import (
    LoadOptions,
    PlannedRun,
    Request,
    check_targets,
    desire,
    name_run,
    plan_run,
    read_tags,
    read_targets,
)
from services.console.reading import read_dossier
from services.console.report_rows import Dossier
from services.console.report_text import open_console, print_dossier, print_suite
from services.console.session import REPORT_S, Outcome, Session, Stopper, publish_desired
from services.console.settings import ConsoleSettings
from services.console.stress_plan import SearchOptions, with_search
from services.console.suite_plan import forgive, plan_suite, worst_exit_code
from shared.contracts.run import Limits, Phase, Profile, RunDesired
from shared.contracts.scenario import Scenario
from shared.contracts.suite import Suite
from shared.errors import ConfigError, TransientError
from shared.settings import read_settings
from shared.store.asking import ask_store

NOT_CARRIED = 4
STAND_IN = dict.fromkeys(("autmatrix", "relaycore", "neuroweaver"), "http://127.0.0.1")
PASSWORD_VARIABLE = "TIDEGATE_SECRET_PLATFORM_PASSWORD"  # noqa: S105 - a variable's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line, one field per option."""

    names: tuple[str, ...]
    data: Path
    users: int | None = None
    rate: float | None = None
    duration: float | None = None
    ramp_up: float | None = None
    profile: Profile = "steady"
    scale: float | None = None
    stages: tuple[tuple[float, float], ...] | None = None
    spacing: Literal["even", "poisson"] | None = None
    max_waiting: int | None = None
    max_users: int | None = None
    max_steps: int | None = None
    break_at: Literal["target", "critical"] | None = None
    require_users: int | None = None
    require_rate: float | None = None
    max_rate: float | None = None
    max_requests: int | None = None
    max_per_day: int | None = None
    no_spool: bool = False
    tags: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    workers: int | None = None
    seed: int = 0
    json_path: str | None = None
    html_path: Path | None = None
    junit_path: Path | None = None
    markdown_path: Path | None = None
    detach: bool = False
    requested_by: str = ""

    @property
    def search(self) -> SearchOptions:
        return SearchOptions(
            self.max_users, self.max_rate, self.max_steps, self.break_at, self.require_users, self.require_rate
        )

    @property
    def limits(self) -> Limits:
        """A search over arrivals keeps to ``--max-rate`` by what it asks for: a cap that holds sends back would look
        like slow answers.
        """
        searched = self.profile == "stress" and self.rate is not None
        return Limits(
            rate=None if searched else self.max_rate,
            requests=self.max_requests,
            requests_per_day=self.max_per_day,
            spool=not self.no_spool,
        )

    @property
    def load(self) -> LoadOptions:
        return LoadOptions(
            self.users,
            self.rate,
            self.duration,
            self.ramp_up,
            self.profile,
            self.scale,
            self.stages or (),
            self.spacing,
            self.max_waiting,
        )


def carry_out(asked: Asked) -> int:
    """The exit code of the command. ``ConfigError`` before anything has started."""
    settings = read_settings(ConsoleSettings)
    planned = plan(asked, Catalogue(settings.config_dir))
    tags = read_tags(asked.tags)
    files = ReportFiles(asked.json_path, asked.html_path, asked.junit_path, asked.markdown_path)
    systems = {system for run in planned for system in run.systems}
    given = read_targets(asked.targets, systems)
    allowed = tuple(dict.fromkeys([*settings.allowed_hosts, *asked.allow_hosts]))
    backing = find_backing(settings, asked.data)
    if backing is None:
        check_documents(settings, settings.environment)
    stand_in = STAND_IN if backing is None else backing.targets
    check_targets(systems, {**stand_in, **given}, allowed)
    for scenario in (load.scenario for run in planned for load in run.loads):
        if scenario.client.proxy is not None:
            check_proxy(scenario.name, scenario.client.proxy, allowed)
    if backing is None and asked.detach:
        raise ConfigError("--detach needs a stack that stays up; start it with tidegate up")
    if backing is not None and asked.workers is not None:
        raise ConfigError(
            f"--workers: {asked.workers} is for a stack that run starts, and one is up; use tidegate up --workers"
        )
    console = open_console(stderr=files.uses_stdout)
    try:
        with _backing(backing, asked, settings, allowed, systems <= set(given), console) as stack:
            targets = check_targets(systems, {**stack.targets, **given}, allowed)
            request = Request(stack.environment, targets, allowed, asked.seed, asked.requested_by, asked.limits, tags)
            if asked.detach:
                return asyncio.run(_detach(stack, planned, request))
            return asyncio.run(_carry_all(stack, planned, request, console, files))
    except TransientError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_CARRIED


def plan(asked: Asked, catalogue: Catalogue) -> list[PlannedRun]:
    """The runs in turn: one for scenarios, which run together, or those of a suite."""
    documents = [catalogue.load(name) for name in asked.names]
    suites = [document for document in documents if isinstance(document, Suite)]
    scenarios = [document for document in documents if isinstance(document, Scenario)]
    if not suites:
        planned = [plan_run(scenarios, asked.load)]
    elif len(documents) > 1:
        raise ConfigError(f"suite {suites[0].name!r} is run by itself, not beside {len(documents) - 1} other")
    else:
        for option, value in (("--users", asked.users), ("--duration", asked.duration), ("--ramp-up", asked.ramp_up)):
            if value is not None:
                raise ConfigError(f"{option}: a suite has its own loads; scale them with --scale")
        planned = plan_suite(suites[0], catalogue.load_scenario, asked.load)
    if asked.profile != "stress":
        asked.search.refuse()
    elif suites:
        raise ConfigError("--profile stress searches the breaking point of scenarios; name them instead of a suite")
    else:
        planned = [with_search(planned[0], asked.search)]
    for load in (load for run in planned for load in run.loads):
        check_json_paths(load.scenario)
    if asked.detach and len(planned) > 1:
        raise ConfigError("--detach: a suite in turn needs someone to wait; leave --detach out")
    return planned


def print_catalogue() -> None:
    """Scenarios and suites with what they do."""
    catalogue = Catalogue(read_settings(ConsoleSettings).config_dir)
    for name in catalogue.scenario_names():
        scenario = catalogue.load_scenario(name)
        print(f"{name:<32} {scenario.users:>4} users  {scenario.duration:>4g} s  {scenario.title}")
    for name in catalogue.suite_names():
        suite = catalogue.load(name)
        if isinstance(suite, Suite):
            parts = ", ".join(run.scenario for run in suite.runs)
            print(f"{name:<32} suite, {suite.order.replace('_', ' ')}: {parts}")


@contextmanager
def _backing(
    found: Backing | None,
    asked: Asked,
    settings: ConsoleSettings,
    allowed: tuple[str, ...],
    all_given: bool,
    console: Console,
) -> Iterator[Backing]:
    if found is not None:
        yield found
        return
    told = {"TIDEGATE_ALLOWED_HOSTS": ",".join(allowed)}
    if all_given and PASSWORD_VARIABLE in os.environ:
        told[PASSWORD_VARIABLE] = os.environ[PASSWORD_VARIABLE]
    options = StackOptions(
        data=asked.data,
        workers=asked.workers or 2,
        platform=not all_given,
        environment=settings.environment,
        config_dir=settings.config_dir,
        env=told,
    )
    console.print("no stack is up: starting one for this run", style="dim")
    with own_backing(options, lambda part: console.print(f"  {part}", style="dim")) as backing:
        yield backing
        console.print("stopping the stack", style="dim")


async def _detach(stack: Backing, planned: list[PlannedRun], request: Request) -> int:
    async with connected(stack) as bus:
        for run in planned:
            desired = _desire(run, request)
            await publish_desired(bus, desired)
            print(desired.run)
    return 0


async def _carry_all(
    stack: Backing, planned: list[PlannedRun], request: Request, console: Console, files: ReportFiles
) -> int:
    """Runs in turn, until one is stopped or fails; the exit code of them all."""
    stopper, outcomes, dossiers = Stopper(), list[Outcome](), list[Dossier]()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopper.ask)
    async with connected(stack) as bus:
        for index, run in enumerate(planned, 1):
            desired = _desire(run, request)
            place = f" ({index} of {len(planned)})" if len(planned) > 1 else ""
            console.print(f"run {desired.run}{place}", style="bold")
            with open_view(console) as view:
                outcome = await Session(bus, stack.store_dsn, desired, view, stopper).carry()
            outcomes.append(outcome)
            dossiers += await _tell(console, outcome, stack)
            if stopper.asked.is_set() or outcome.phase is Phase.FAILED:
                break
    if len(planned) > 1:
        print_suite(console, planned, outcomes)
    for path in files.write(dossiers):
        console.print(f"wrote {path}", style="dim")
    return worst_exit_code([forgive(run, outcome.exit_code) for run, outcome in zip(planned, outcomes, strict=False)])


async def _tell(console: Console, outcome: Outcome, stack: Backing) -> list[Dossier]:
    """Print how a run ended; its dossier where there is one."""
    dossier = None
    if outcome.report is not None:
        dossier = await ask_store(stack.store_dsn, read_dossier, stack.environment, outcome.run)
    if dossier is not None and outcome.phase is not Phase.FAILED:
        print_dossier(console, dossier)
    if outcome.was_left:
        console.print(f"left {outcome.run}; its report may still come: tidegate report {outcome.run}", style="yellow")
    elif outcome.phase is Phase.FAILED:
        console.print(Text(f"run failed: {outcome.reason or 'no reason was given'}", style="bold red"), soft_wrap=True)
    elif outcome.report is None:
        console.print(f"no report came within {REPORT_S:g} s; see the validator's log", style="bold red")
    elif dossier is None:
        console.print(f"the store has a report of {outcome.run} and not the run: was it replaced?", style="bold red")
    elif outcome.phase is Phase.STOPPED:
        console.print(f"run stopped: {outcome.reason or 'as asked'}", style="yellow")
    return [] if dossier is None else [dossier]


def _desire(run: PlannedRun, request: Request) -> RunDesired:
    now = datetime.now(UTC)
    return desire(run, name_run(run.title, now, secrets.token_hex(2)), request, now)
