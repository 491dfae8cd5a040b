"""``tidegate compare``: one run against another, action by action."""

import asyncio
import json
import sys
from pathlib import Path

import click

from services.console.options import SHARE, data_option, output_option
from shared.option_types import OUTPUT

NOT_CARRIED = 4


@click.command()
@click.argument("runs", nargs=-1, metavar="[BASE] [CANDIDATE]")
@click.option("--baseline", metavar="NAME", help="Base by name (tidegate baseline), or last-good.")
@click.option("--branch", help="The branch tag of last-good, by default the candidate's own.")
@click.option("--action", "actions", multiple=True, help="Only this action; may be repeated.")
@click.option(
    "--threshold",
    type=SHARE,
    default="5%",
    show_default=True,
    envvar="TIDEGATE_COMPARE_THRESHOLD",
    help="Smaller differences are none: of centre, p95, throughput; twice that of p99.",
)
@click.option(
    "--error-threshold",
    type=SHARE,
    default="0.25%",
    show_default=True,
    envvar="TIDEGATE_COMPARE_ERROR_THRESHOLD",
    help="The same of the error rate, in points.",
)
@click.option(
    "--false-alarms",
    type=SHARE,
    default="2%",
    show_default=True,
    envvar="TIDEGATE_COMPARE_FALSE_ALARMS",
    help="How often two like runs may be told apart, all actions and measures together.",
)
@click.option(
    "--held",
    type=click.Choice(["family", "share"]),
    default="family",
    show_default=True,
    help="share: --false-alarms is the part of what is found that may be false.",
)
@click.option("--strict", is_flag=True, help="Exit 3 also where no difference was found and sameness was not shown.")
@output_option("JSON")
@output_option("Markdown")
@click.option("--junit", "junit_path", type=OUTPUT, help="Write JUnit XML.")
@data_option
def compare(
    runs: tuple[str, ...],
    baseline: str | None,
    branch: str | None,
    actions: tuple[str, ...],
    threshold: float,
    error_threshold: float,
    false_alarms: float,
    held: str,
    strict: bool,
    json_path: str | None,
    markdown_path: str | None,
    junit_path: Path | None,
    data: Path,
) -> int:
    """Compare run CANDIDATE (an id of `tidegate runs`, or `last`, the default) with run BASE, or with a --baseline.

    Of every action: the shift of the response times, their p95 and p99, the error rate and the throughput, each with an
    interval. Regressed or improved is what is both certain and large enough; same is what is shown to be within the
    thresholds; anything else is insufficient.

    \b
    Exit code: 0 nothing regressed, 1 a regression, 2 wrong input, 3 an action of the base could not be tested
    (with --strict: or not be shown the same), 4 the store did not answer.

    \b
    Examples:
      tidegate compare 20261123-153012-smoke-ab12 last
      tidegate compare --baseline main --junit compare.xml
      tidegate compare --baseline last-good --branch main last --markdown comment.md
      tidegate compare RUN1 RUN2 --action send_ai_request --threshold 3% --json
    """
    from services.console.backing import need_backing
    from services.console.comparing.compare import Asked, compare_runs
    from services.console.comparing.document import to_document
    from services.console.comparing.renderings import print_comparison, render_junit, render_markdown
    from services.console.comparing.verdict import Rules
    from services.console.report_text import open_console
    from services.console.settings import ConsoleSettings
    from shared.errors import TransientError
    from shared.settings import read_settings
    from shared.store.asking import ask_store

    base, candidate = read_runs(runs, baseline, branch)
    if json_path == markdown_path == "-":
        raise click.UsageError("--json and --markdown cannot both go to standard output; name a file for one")
    rules = Rules(threshold, error_threshold, false_alarms, "share" if held == "share" else "family")
    asked = Asked(candidate, base, baseline, branch, actions, strict, rules)
    backing = need_backing(read_settings(ConsoleSettings), data)
    try:
        comparison = asyncio.run(ask_store(backing.store_dsn, compare_runs, backing.environment, asked))
    except TransientError as error:
        click.echo(f"error: {error}", err=True)
        return NOT_CARRIED
    texts = {
        json_path: json.dumps(to_document(comparison), indent=2, ensure_ascii=False) + "\n" if json_path else "",
        markdown_path: render_markdown(comparison) if markdown_path else "",
    }
    for path, text in texts.items():
        if path == "-":
            sys.stdout.write(text)
        elif path:
            Path(path).write_text(text, encoding="utf-8")
    if junit_path:
        junit_path.write_bytes(render_junit(comparison))
    print_comparison(open_console(stderr="-" in texts), comparison)
    for written in (json_path, markdown_path, junit_path):
        if written and written != "-":
            click.echo(f"wrote {written}", err=True)
    return comparison.exit_code


def read_runs(runs: tuple[str, ...], baseline: str | None, branch: str | None) -> tuple[str | None, str]:
    """Base (None where a baseline is named) and candidate; ``UsageError`` for too many or too few."""
    if baseline is None:
        if branch is not None:
            raise click.UsageError(f"--branch: {branch} is where --baseline last-good looks; give that too")
        if len(runs) not in (1, 2):
            raise click.UsageError("name a BASE and a CANDIDATE, or a --baseline; tidegate runs shows what there is")
        return runs[0], runs[1] if len(runs) == 2 else "last"
    if branch is not None and baseline != "last-good":
        raise click.UsageError(f"--branch: {branch} says where last-good looks; baseline {baseline!r} is one run")
    if len(runs) > 1:
        raise click.UsageError(f"--baseline is the base, so name the candidate alone, not {len(runs)} runs")
    return None, runs[0] if runs else "last"
