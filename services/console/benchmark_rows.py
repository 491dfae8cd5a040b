"""The benchmarks of an environment as rows: for the table of ``tidegate benchmarks`` and for its JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.contracts.benchmarks import Benchmark
from shared.contracts.benchmarks_file import EffectiveBenchmarks
from shared.contracts.burn import STANDARD
from shared.errors import ConfigError, closest


@dataclass(frozen=True, slots=True)
class Row:
    """One benchmark: ``cells`` for people, ``document`` whole, with the ``lines`` of what is written."""

    cells: tuple[str, ...]
    document: dict[str, Any]


def list_rows(effective: EffectiveBenchmarks) -> list[Row]:
    """In the order of the file."""
    return [
        _row(system, one, effective.lines.get((system, one.metric), {}))
        for system, owner in effective.benchmarks.systems.items()
        for one in owner.benchmarks
    ]


def refuse_unknown(asked: str, own: str, known: Iterable[str]) -> None:
    """An environment asked for by name is one for which the file changes something, or the one we are in."""
    names = sorted({own, *known})
    if asked not in names:
        raise ConfigError(
            f"--environment: the file changes nothing for {asked!r}{closest(asked, names)}; it knows {', '.join(names)}"
        )


def _row(system: str, one: Benchmark, lines: dict[str, int] | Any) -> Row:
    def at(field: str, text: str) -> str:
        return f"{text} :{lines[field]}" if field in lines else text

    by = one.span or one.resource or one.source.value
    restricted = "/".join(",".join(names) for names in (one.scenarios, one.actions) if names)
    cells = (
        system,
        at("metric", one.metric),
        at("source", f"{one.statistic} of {by}" + (f" ({restricted})" if restricted else "")),
        at("target", f"{one.target:g} {one.unit}"),
        at("critical", f"{one.critical:g} {one.unit}"),
        at("window", f"{one.window:g} s"),
        at("severity", f"{one.severity.target}, {one.severity.critical}"),
        at("schedule", _applies(one)) + at("objective", _budget(one)),
    )
    body = one.model_dump(mode="json", by_alias=True)
    return Row(cells, {"system": system, **body, "lines": dict(lines)})


def _applies(one: Benchmark) -> str:
    schedule = one.schedule
    hours = [f"{hours.days} {hours.hours}" for hours in schedule.applies or ()]
    told = f"{', '.join(hours)} {schedule.time_zone}" if hours else "always"
    return f"{told} but for maintenance" if schedule.maintenance else told


def _budget(one: Benchmark) -> str:
    if one.objective is None:
        return ""
    pairs = "standard" if one.burn_rates == STANDARD else f"{len(one.burn_rates)}"
    return f"; objective {100 * one.objective:g} %, {pairs} burn rates"
