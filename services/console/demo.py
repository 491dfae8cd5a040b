"""``make demo``: one minute of load on a platform whose RelayCore is too small, told as it happens, then checked.

Ends 0 when the story of ``story.py`` happened, breach included; 1 when a part of it did not; 2 when the stack could not
start. Leaves ``report.json`` and ``report.html``; stops everything it started.
"""

import asyncio
import secrets
import shutil
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import yaml
from rich.console import Console
from rich.text import Text

from deploy.embedded import StackOptions, stop_stack
from services.console.backing import Backing, own_backing
from services.console.catalogue import Catalogue
from services.console.connecting import connected
from services.console.hosts import LOOPBACK
from services.console.live_view import open_view
from services.console.outputs import ReportFiles
from services.console.plan import LoadOptions, Request, desire, name_run, plan_run
from services.console.reading import read_dossier
from services.console.report_rows import Dossier
from services.console.report_text import open_console, print_dossier
from services.console.session import Outcome, Session, Stopper
from services.console.story import Evidence, ScaleUp, Speed, check_story, list_scale_ups
from shared.contracts.breach import Breach
from shared.contracts.scaling import ScalingRecord
from shared.errors import ConfigError, TidegateError
from shared.settings import PROJECT_ROOT
from shared.store.asking import ask_store
from shared.store.listings import find_crossing_trace, read_workflow_p95_ms

FOLDER = Path(".tidegate/demo")
SCENARIO = "cross_system_integration"
SERVICES = ["autmatrix-backend", "relaycore", "neuroweaver-backend"]
# Three AI tasks a workflow, 2.4 s from one to the next: this many users ask for about 103 routings/s. Two replicas of a
# RelayCore that takes 26 ms for each can do 77, four 154. A new one needs 10 s to be ready, as real ones do: long
# enough to be sure of the breach.
USERS, DURATION_S, RAMP_UP_S = 84, 60.0, 3.0
ROUTING_MS, START_UP_S, REPLICAS = 26, 10.0, 2
SETTLING, AROUND = timedelta(seconds=5), timedelta(seconds=10)
TRACE_S = 10.0


def main() -> int:
    """Run the demo; the exit code of the process."""
    console = open_console()
    try:
        return _demonstrate(console)
    except TidegateError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2


def _demonstrate(console: Console) -> int:
    stack_folder = FOLDER / "stack"
    stop_stack(stack_folder)  # of a demo that was killed
    shutil.rmtree(stack_folder, ignore_errors=True)
    files = ReportFiles(str(FOLDER / "report.json"), FOLDER / "report.html")
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        platform = _shrink_relaycore(FOLDER / "platform.yaml")
    except OSError as error:
        raise ConfigError(f"{FOLDER}: {error.strerror or error}") from error
    _say(console, "Tidegate demo: load, measure, judge, answer with replicas", "bold")
    _say(console, f"RelayCore has {REPLICAS} replicas, too small for {USERS} users. Watch it breach, grow and recover.")
    options = StackOptions(
        data=stack_folder,
        environment="demo",
        platform_replicas={"relaycore": REPLICAS},
        env={"TIDEGATE_PLATFORM_CONFIG": str(platform.resolve())},
        durable=False,
    )
    with own_backing(options, lambda part: _say(console, f"  starting {part}", "dim")) as stack:
        happened = asyncio.run(_tell(console, stack, files))
        _say(console, "stopping everything", "dim")
    return 0 if happened else 1


def _shrink_relaycore(path: Path) -> Path:
    """The platform's own sizes, but for the time that RelayCore needs to route a request and to start."""
    sizes = yaml.safe_load((PROJECT_ROOT / "examples" / "platform" / "platform.yaml").read_text(encoding="utf-8"))
    sizes["relaycore"]["service_time"]["routing"]["mean_ms"] = ROUTING_MS
    sizes["relaycore"]["start_up_s"] = START_UP_S
    path.write_text(yaml.safe_dump(sizes), encoding="utf-8")
    return path


async def _tell(console: Console, stack: Backing, files: ReportFiles) -> bool:
    stopper = Stopper()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopper.ask)
    scenario = Catalogue(PROJECT_ROOT / "config").load_scenario(SCENARIO)
    planned = plan_run([scenario], LoadOptions(users=USERS, duration_s=DURATION_S, ramp_up_s=RAMP_UP_S))
    now = datetime.now(UTC)
    run = name_run(planned.title, now, secrets.token_hex(2))
    desired = desire(planned, run, Request(stack.environment, stack.targets, LOOPBACK, requested_by="demo"), now)
    _say(console, f"run {run}: {USERS} users for {DURATION_S:.0f} s", "bold")
    async with connected(stack) as bus:
        with open_view(console) as view:
            outcome = await Session(bus, stack.store_dsn, desired, view, stopper).carry()
    dossier = None
    if outcome.report is not None:
        dossier = await ask_store(stack.store_dsn, read_dossier, stack.environment, run)
    if dossier is None:
        _say(console, f"the run ended {outcome.phase} without a report: {outcome.reason}", "bold red")
        return False
    print_dossier(console, dossier)
    for path in files.write([dossier]):
        _say(console, f"wrote {path}", "dim")
    return _judge(console, await _gather(stack, outcome, dossier))


async def _gather(stack: Backing, outcome: Outcome, dossier: Dossier) -> Evidence:
    """Everything the story is checked on, from the report, the store and the systems themselves."""
    records = [ScalingRecord.model_validate(record) for record in dossier.scaling]
    return Evidence(
        report=dossier.report,
        breaches=[Breach.model_validate(breach) for breach in dossier.breaches],
        scaling=records,
        counted=await _count(stack, outcome.run),
        speeds=[await _measure(stack, outcome.run, move) for move in list_scale_ups(records)],
        trace_id=await _find_trace(stack, outcome.run),
    )


async def _measure(stack: Backing, run: str, move: ScaleUp) -> Speed:
    """Workflows that ended in the last seconds before the replicas were there, and in some after they settled."""
    at, settled = move.result.at, move.result.at + SETTLING
    before_ms = await ask_store(stack.store_dsn, read_workflow_p95_ms, run, at - AROUND, at)
    after_ms = await ask_store(stack.store_dsn, read_workflow_p95_ms, run, settled, settled + AROUND)
    return Speed(move, before_ms, after_ms)


async def _count(stack: Backing, run: str) -> dict[tuple[str, str], int]:
    """What each system counted of this run by itself."""
    async with aiohttp.ClientSession() as client, client.get(f"{stack.supervisor_url}/counts?run={run}") as answer:
        counts = await answer.json()
    return {(system, action): count for system, actions in counts.items() for action, count in actions.items()}


async def _find_trace(stack: Backing, run: str) -> str | None:
    """Spans are exported in the background, so the last ones may still be on their way."""
    deadline = asyncio.get_running_loop().time() + TRACE_S
    while True:
        trace_id = await ask_store(stack.store_dsn, find_crossing_trace, run, SERVICES)
        if trace_id is not None or asyncio.get_running_loop().time() >= deadline:
            return trace_id
        await asyncio.sleep(0.5)


def _judge(console: Console, evidence: Evidence) -> bool:
    parts = check_story(evidence)
    _say(console, "\nThe story", "bold")
    for part in parts:
        console.print(
            Text(f"  {'✓' if part.happened else '✗'} ", style="green" if part.happened else "bold red"), end=""
        )
        _say(console, f"{part.title}: {part.seen}")
    return all(part.happened for part in parts)


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
