"""``tidegate scaling replay``: rules and other policies over a load that was recorded, simulated and scored."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from services.scaler.settings import ScalerSettings
from services.scaler.simulation.course import Course, Setting, run
from services.scaler.simulation.oracle import Oracle
from services.scaler.simulation.policies import POLICIES, policy_named
from services.scaler.simulation.replicas import Load
from services.scaler.simulation.score import Score, score
from services.scaler.simulation.traces import Services, exponential, fixed, lognormal, multiplied, read_trace
from shared.config import load_document, parse
from shared.contracts.scaling_rules import ScalingRules, ServiceRules, Sizing
from shared.errors import ConfigError, closest
from shared.option_types import DURATION, OUTPUT
from shared.settings import read_settings

SERVICE_TIMES = ("fixed", "exponential", "lognormal")


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--rules", "rules_file", type=click.Path(path_type=Path), help="Rules to try; the configured ones otherwise."
)
@click.option("--service", help="The service of the rules, e.g. relaycore.")
@click.option(
    "--policy", "policies", multiple=True, help=f"Any of {', '.join(POLICIES)}, or hpa=TARGET; may be given often."
)
@click.option(
    "--service-time", type=DURATION, default="500ms", show_default=True, help="Mean time a server works on a request."
)
@click.option(
    "--distribution", type=click.Choice(SERVICE_TIMES), default="fixed", show_default=True, help="Of service times."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    help="Requests a replica works on at once; else as in `sizing`, or 8.",
)
@click.option("--start-up", type=DURATION, help="Time a new replica takes to be ready; else as in `sizing`, or 30s.")
@click.option("--min", "least", type=click.IntRange(1), help="Fewest replicas; else as in the rules.")
@click.option("--max", "most", type=click.IntRange(1, 1000), help="Most replicas; else as in the rules.")
@click.option("--slo", type=DURATION, default="1s", show_default=True, help="A response that takes as long violates.")
@click.option(
    "--multiply", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Count every arrival so often."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of random service times, and of arrivals made from rates.",
)
@click.option("--html", "--plot", "page_file", type=OUTPUT, help="Write the course as a page with plots.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.option(
    "--data", type=click.Path(file_okay=False), help="Folder of the embedded stack, where a decision is made again."
)
@click.pass_context
def replay(
    context: click.Context,
    trace: Path,
    rules_file: Path | None,
    service: str | None,
    policies: tuple[str, ...],
    service_time: float,
    distribution: str,
    concurrency: int | None,
    start_up: float | None,
    least: int | None,
    most: int | None,
    slo: float,
    multiply: int,
    seed: int,
    page_file: Path | None,
    as_json: bool,
    data: str | None,
) -> Any:
    """Simulate a service under a recorded load, with these rules and with other policies, and score each.

    TRACE is a CSV with a column of times (TIMESTAMP, or seconds), one line a request, or with a column `rate` in
    requests/s. The rules decide by the same code as in life; nothing is moved. docs/scaling-replay.md has the model.
    The name of a recorded decision alone is made again from its record, as by `tidegate scaling rederive`.

    \b
    Examples:
      tidegate scaling replay trace.csv --service relaycore --policy tidegate --policy hpa --policy oracle
      tidegate scaling replay trace.csv --service relaycore --rules try.yaml --multiply 20 --html replay.html
    """
    if service is None:
        return _rederive(context, trace, data, as_json=as_json)
    if service_time <= 0:
        raise ConfigError(f"--service-time {service_time:g} s must be above 0")
    rules = _rules(rules_file, service)
    rules, setting = _setting(rules, concurrency, start_up, least, most, slo)
    drawn: dict[str, Services] = {
        "fixed": fixed(service_time),
        "exponential": exponential(service_time, seed),
        "lognormal": lognormal(service_time, seed=seed),
    }
    load = multiplied(read_trace(trace, seed), multiply, drawn[distribution])
    asked = tuple(dict.fromkeys(policies or ("tidegate", "hpa", "oracle")))
    courses = {name: run(load, policy_named(name, service, rules, load, setting), setting) for name in asked}
    scores = _scores(courses, load, setting, rules)
    if page_file is not None:
        from services.scaler.simulation.plot import page

        page_file.write_text(page(f"{service}: {trace.name}", setting, courses, scores), encoding="utf-8")
    _show(scores, as_json=as_json)
    return None


def _rederive(context: click.Context, decision: Path, data: str | None, *, as_json: bool) -> Any:
    from services.scaler.commands.rederive import rederive

    if decision.suffix or decision.exists():
        raise click.MissingParameter(ctx=context, param_type="option", param_hint="'--service'")
    words = [str(decision), *(["--json"] if as_json else []), *(["--data", data] if data else [])]
    with rederive.make_context("rederive", words, parent=context) as made:
        return rederive.invoke(made)


def _rules(path: Path | None, service: str) -> ServiceRules:
    path = path or read_settings(ScalerSettings).config_dir / "scaling.yaml"
    document = load_document(ScalingRules, path)
    if service not in document.services:
        raise ConfigError(
            f"--service {service!r}: {path} has no such service{closest(service, document.services)}; "
            f"known are {', '.join(document.services)}"
        )
    return document.services[service]


def _setting(
    rules: ServiceRules,
    concurrency: int | None,
    start_up: float | None,
    least: int | None,
    most: int | None,
    slo: float,
) -> tuple[ServiceRules, Setting]:
    """Options over rules over defaults; what options say of a replica holds for the rules too."""
    changed: dict[str, Any] = {"min": least or rules.min, "max": most or rules.max}
    own = rules.sizing or Sizing(concurrency=8)
    told = {"concurrency": concurrency or own.concurrency, "start_up": own.start_up if start_up is None else start_up}
    known = parse(Sizing, {**own.model_dump(), **told}, "with these options")
    if rules.sizing is not None:
        changed["sizing"] = known
    rules = parse(ServiceRules, {**rules.model_dump(by_alias=True), **changed}, "with these options")
    return rules, Setting(known.concurrency, known.start_up, rules.min, rules.max, rules.min, slo)


def _scores(courses: dict[str, Course], load: Load, setting: Setting, rules: ServiceRules) -> dict[str, Score]:
    needed = Oracle(load, replace(setting, most=10**9)).needed.clip(setting.least, setting.most)
    down_s = rules.tuning.stabilization.down
    return {name: score(course, setting, needed.astype(float), down_s) for name, course in courses.items()}


def _show(scores: dict[str, Score], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({name: asdict(one) for name, one in scores.items()}, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    oracle = scores.get("oracle")
    for name in (
        "policy",
        "violated",
        "late",
        "replica-hours",
        "moves",
        "reversals/h",
        "flips",
        "θU",
        "θO",
        "τU",
        "τO",
        "υ",
    ):
        table.add_column(name, justify="left" if name == "policy" else "right")
    if oracle is not None:
        table.add_column("to the oracle", justify="right")
    for name, one in scores.items():
        row = [
            name, f"{one.violation_s} s", f"{one.late_share:.2%}", f"{one.replica_hours:.2f}", str(one.moves),
            f"{one.reversals_per_hour:.1f}", str(one.flips), f"{one.under_accuracy:.1f} %",
            f"{one.over_accuracy:.1f} %", f"{one.under_share:.1f} %", f"{one.over_share:.1f} %",
            f"{one.instability:.1f} %",
        ]  # fmt: skip
        if oracle is not None:
            more_s, more = one.violation_s - oracle.violation_s, one.replica_hours / oracle.replica_hours - 1
            row.append(f"{more_s:+d} s, {more:+.0%} hours")
        table.add_row(*row)
    Console(width=140, highlight=False).print(table)
