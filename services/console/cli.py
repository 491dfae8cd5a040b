"""The ``tidegate`` command: its list of commands. Each one lives in ``services/console/commands``."""

import click

from services.console.commands.scaling import find_stack
from services.console.lazy_group import LazyCommand, LazyGroup

VERSION_PACKAGE = "tidegate"
COMMANDS = "services.console.commands"
SCALER = "services.scaler.commands"

SECTIONS = {
    "The stack": {
        "up": LazyCommand(f"{COMMANDS}.stack:up", "Start NATS, the store, the services and the stand-in platform."),
        "down": LazyCommand(f"{COMMANDS}.stack:down", "Stop what `up` started; the data stays."),
        "doctor": LazyCommand(f"{COMMANDS}.stack:doctor", "Check that this machine can run Tidegate."),
    },
    "Runs": {
        "run": LazyCommand(f"{COMMANDS}.run:run", "Put load on the systems, watch it, judge it."),
        "load": LazyCommand(f"{COMMANDS}.steer:load", "Change the users or the rate of a run while it runs."),
        "pause": LazyCommand(f"{COMMANDS}.steer:pause", "Pause the load of a run."),
        "resume": LazyCommand(f"{COMMANDS}.steer:resume", "Let a paused run go on."),
        "stop": LazyCommand(f"{COMMANDS}.steer:stop", "Stop a run, or all; what was measured is kept and reported."),
        "runs": LazyCommand(f"{COMMANDS}.runs:runs", "List runs, newest first."),
        "report": LazyCommand(f"{COMMANDS}.report:report", "Show or write the report of a run."),
        "compare": LazyCommand(f"{COMMANDS}.compare:compare", "Find what regressed from one run to another."),
        "baseline": LazyCommand(f"{COMMANDS}.baseline:baseline", "Name runs that others are compared with."),
        "history": LazyCommand(f"{COMMANDS}.history:history", "Find where figures changed over the runs so far."),
        "summary": LazyCommand(f"{COMMANDS}.summary:summary", "Show what canary runs did, day by day."),
        "scalability": LazyCommand(
            f"{COMMANDS}.scalability:scalability", "How throughput grows with replicas, from stress runs."
        ),
        "export": LazyCommand(f"{COMMANDS}.export:export", "Write a run's tables as Parquet or CSV, for notebooks."),
    },
    "Scenarios and benchmarks": {
        "benchmarks": LazyCommand(
            f"{COMMANDS}.benchmarks:benchmarks", "Check the benchmarks; show what holds, and where it is written."
        ),
        "import": LazyCommand(f"{COMMANDS}.import_:import_", "Make a scenario of an OpenAPI document or a HAR log."),
    },
    "What happened": {
        "breaches": LazyCommand(f"{COMMANDS}.breaches:breaches", "List breaches, silence them, acknowledge them."),
        "scaling": LazyCommand(f"{COMMANDS}.scaling:scaling", "List scaling decisions, their results and effects."),
        "resources": LazyCommand(f"{SCALER}.resources:resources", "Show what services use, leaks and efficiency."),
        "optimize": LazyCommand(f"{SCALER}.optimize:optimize", "Plan right sizes and more; carry them out, watched."),
    },
    "Single processes": {
        "service": LazyCommand(f"{COMMANDS}.processes:service", "Run one service in the foreground."),
        "platform": LazyCommand(f"{COMMANDS}.processes:platform", "Run the stand-in platform in the foreground."),
    },
}


@click.command(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "obj": find_stack},
    invoke_without_command=False,
)
@click.version_option(package_name=VERSION_PACKAGE, message="%(prog)s %(version)s")
def main() -> None:
    """Put load on a fleet of services, measure every request, hold it against benchmarks, move replicas.

    \b
    A first run, with everything it needs started and stopped for you:
      tidegate run smoke
    A stack that stays up, and runs against it:
      tidegate up
      tidegate run cross_system_integration --users 40 --duration 60s --html report.html
      tidegate report last
      tidegate down
    """
