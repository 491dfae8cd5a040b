"""``tidegate run``: what is asked becomes planned runs; everything is checked before anything starts."""

from typing import Any

import click

from services.console.options import HOST, RATE, STAGES, data_option
from shared.option_types import DURATION, OUTPUT, OUTPUT_OR_TERMINAL


@click.command()
@click.argument("names", nargs=-1, metavar="SCENARIO...")
@click.option("--users", type=click.IntRange(1, 100_000), help="Concurrent users of each scenario.")
@click.option("--rate", type=RATE, help="Arrivals per second of each scenario (open load); --users bounds them.")
@click.option("--duration", type=DURATION, help="How long, e.g. 90s, 5m.")
@click.option("--ramp-up", type=DURATION, help="Time until all users are there; not judged.")
@click.option(
    "--profile",
    type=click.Choice(["steady", "ramp", "spike", "soak", "stress", "canary"]),
    default="steady",
    show_default=True,
    help="Shape of the load; stress searches the breaking point, canary is without end unless --duration says so.",
)
@click.option("--stages", type=STAGES, help="The shape drawn by hand, e.g. 30s:0.5,2m:1,30s:0 (how long:level to).")
@click.option("--spacing", type=click.Choice(["even", "poisson"]), help="Of the arrivals of --rate; even by default.")
@click.option("--max-waiting", type=click.IntRange(0), help="Refuse (and count) arrivals past so many in line.")
@click.option("--max-users", type=click.IntRange(1, 100_000), help="stress: the most users to try.")
@click.option("--max-steps", type=click.IntRange(2, 100), help="stress: the most levels to try; 11 by default.")
@click.option(
    "--break-at",
    type=click.Choice(["target", "critical"]),
    help="stress: which limit of a benchmark counts as broken; target by default.",
)
@click.option("--require-users", type=click.IntRange(1, 100_000), help="stress: miss unless so many users are held.")
@click.option("--require-rate", type=RATE, help="stress: miss unless so many arrivals are held.")
@click.option("--max-rate", type=RATE, help="Never send more requests per second than this.")
@click.option("--max-per-day", type=click.IntRange(1), help="Stop the run when it has sent so many in a day (UTC).")
@click.option("--max-requests", type=click.IntRange(1), help="Never send more requests than this in all.")
@click.option("--no-spool", is_flag=True, help="Stop the run rather than keep measurements on a worker's disk.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Kept with the run; may be repeated.")
@click.option("--scale", type=click.FloatRange(0, 1000, min_open=True), help="Scale users and durations, e.g. 0.1.")
@click.option("--target", "targets", multiple=True, metavar="SYSTEM=URL", help="Where a system is; may be repeated.")
@click.option("--allow-host", "allow_hosts", multiple=True, type=HOST, help="Allow load on this host too.")
@click.option("--workers", type=click.IntRange(1, 64), help="Generator workers of the stack that run starts.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of all randomness.")
@click.option("--json", "json_path", type=OUTPUT_OR_TERMINAL, metavar="FILE|-", help="Write the report as JSON.")
@click.option("--html", "html_path", type=OUTPUT, help="Write it as a page.")
@click.option("--junit", "junit_path", type=OUTPUT, help="Write it as JUnit XML.")
@click.option("--markdown", "markdown_path", type=OUTPUT, help="Write Markdown.")
@click.option("--detach", is_flag=True, help="Ask for the run, print its id, do not wait (needs a stack that is up).")
@click.option("--list", "list_only", is_flag=True, help="List the scenarios and suites that can be named.")
@data_option
def run(names: tuple[str, ...], list_only: bool, **options: Any) -> int:
    """Run one or more scenarios together, or one suite; by name or by the path of a YAML file.

    With no stack up, one is started for the run, with the stand-in platform where a system has no --target, and
    stopped after. Ctrl-C stops the load and reports what was measured.

    \b
    Exit code: 0 all benchmarks met, 1 one missed, 2 wrong input, 3 a required measurement is invalid or
    insufficient, 4 the run could not be carried through.

    \b
    Examples:
      tidegate run --list
      tidegate run smoke
      tidegate run cross_system_integration --users 40 --duration 2m --html report.html
      tidegate run autmatrix_workflow_execution relaycore_request_routing --duration 60s
      tidegate run platform --scale 0.1
      tidegate run smoke --rate 50/s --spacing poisson --stages 30s:0.5,2m:1,30s:0
      tidegate run smoke --profile canary --rate 1/s --detach
      tidegate run relaycore_request_routing --profile stress --rate 20/s --require-rate 100/s
      tidegate run relaycore_request_routing --rate 100/s --target relaycore=https://staging.example.com \\
          --allow-host staging.example.com
    """
    from services.console.person import who
    from services.console.run_command import Asked, carry_out, print_catalogue

    if list_only:
        print_catalogue()
        return 0
    if not names:
        raise click.UsageError("name a scenario or suite; tidegate run --list shows them")
    return carry_out(Asked(names=names, requested_by=who(), **options))
