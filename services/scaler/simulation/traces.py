"""Loads from a CSV of arrivals or rates, and the times that servers work on a request."""

import csv
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from services.scaler.simulation.replicas import Floats, Load
from shared.errors import ConfigError

TIMES = ("timestamp", "time", "arrival", "arrived_at", "seconds")
RATES = ("rate", "requests_per_s", "requests/s")
SHOWN = 5
LONGEST_S = 31 * 86_400
MOST_REQUESTS = 20_000_000

Services = Callable[[int], Floats]
"""Service times in seconds of so many requests."""


def fixed(seconds: float) -> Services:
    """Every request takes the same."""
    return lambda count: np.full(count, seconds)


def exponential(mean_s: float, seed: int = 1) -> Services:
    """Independent, exponentially distributed."""
    return lambda count: np.random.default_rng(seed).exponential(mean_s, count)


def lognormal(mean_s: float, sigma: float = 0.5, seed: int = 1) -> Services:
    """Independent, log-normally distributed with that mean; ``sigma`` of the logarithm."""
    mu = math.log(mean_s) - sigma**2 / 2
    return lambda count: np.random.default_rng(seed).lognormal(mu, sigma, count)


def multiplied(arrivals: Floats, times: int, services: Services) -> Load:
    """Every arrival counted so often, at its own moment."""
    if len(arrivals) * times > MOST_REQUESTS:
        raise ConfigError(
            f"{len(arrivals)} arrivals × {times} are more than the {MOST_REQUESTS:,} that can be replayed"
        )
    every = np.repeat(arrivals, times)
    return Load(every, services(len(every)), int(every[-1]) + 1)


def of_rates(rates: Floats, services: Services, rng: np.random.Generator) -> Load:
    """Independent arrivals at these rates, one a second in requests/s."""
    counts = rng.poisson(rates)
    arrivals = np.sort(np.repeat(np.arange(len(rates)), counts) + rng.random(int(counts.sum())))
    return Load(arrivals, services(len(arrivals)), len(rates))


def read_trace(path: Path, seed: int = 1) -> Floats:
    """Arrivals in seconds from the first one, ascending, of a CSV with a header.

    A column of times (``TIMESTAMP`` in ISO 8601, or seconds), one line a request; with a column ``rate`` besides or
    instead, lines are seconds (or begin at their time) with so many requests/s. Lines that begin with # are skipped.
    Raises ``ConfigError`` naming the lines that cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _arrivals(path, _lines(file), seed)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no CSV in UTF-8"
        raise ConfigError(f"{path}: {reason}") from error


def _lines(file: Iterator[str]) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(file, start=1) if line.strip() and not line.startswith("#"))


def _arrivals(path: Path, lines: Iterator[tuple[int, str]], seed: int) -> Floats:
    number, header = next(lines, (0, ""))
    names = [name.strip().lower() for name in next(csv.reader([header]), [])]
    time = next((names.index(name) for name in TIMES if name in names), None)
    rate = next((names.index(name) for name in RATES if name in names), None)
    if time is None and rate is None:
        raise ConfigError(
            f"{path}:{number}: no column of times ({', '.join(TIMES)}) or rates ({', '.join(RATES)}) in its header"
        )
    times: list[float] = []
    rates: list[float] = []
    faults: list[str] = []
    for number, line in lines:
        cells = next(csv.reader([line]), [])
        try:
            times.append(float(len(times)) if time is None else _seconds(cells[time]))
            rates.append(1.0 if rate is None else _rate(cells[rate]))
        except (ValueError, IndexError) as error:
            faults.append(f"{path}:{number}: {error if isinstance(error, ValueError) else 'too few columns'}")
            times, rates = times[: len(rates)], rates[: len(times)]
    if faults:
        more = f"; and {len(faults) - SHOWN} more lines" if len(faults) > SHOWN else ""
        raise ConfigError("; ".join(faults[:SHOWN]) + more)
    return _from_zero(path, np.array(times), None if rate is None else np.array(rates), seed)


def _from_zero(path: Path, times: Floats, rates: Floats | None, seed: int) -> Floats:
    if not len(times):
        raise ConfigError(f"{path}: no arrival in it")
    order = np.argsort(times, kind="stable")
    times = times[order] - times[order][0]
    if times[-1] > LONGEST_S:
        raise ConfigError(f"{path}: spans {times[-1] / 86_400:.0f} days; {LONGEST_S // 86_400} can be replayed at most")
    if rates is None:
        return times
    second = np.arange(int(times[-1]) + 1)
    held = rates[order][np.searchsorted(times, second, side="right") - 1]
    if held.sum() > MOST_REQUESTS:
        raise ConfigError(f"{path}: {held.sum():,.0f} requests; {MOST_REQUESTS:,} can be replayed at most")
    arrivals = of_rates(held, fixed(1.0), np.random.default_rng(seed)).arrivals
    if not len(arrivals):
        raise ConfigError(f"{path}: no arrival in it")
    return arrivals


def _seconds(cell: str) -> float:
    """Of a number of seconds or an ISO 8601 time; digits past microseconds are cut."""
    try:
        seconds = float(cell)
    except ValueError:
        head, dot, tail = cell.strip().partition(".")
        try:
            moment = datetime.fromisoformat(
                head + dot + tail[:6].rstrip("Z") + ("+00:00" if tail.endswith("Z") else "")
            )
        except ValueError:
            raise ValueError(f"{cell!r} is neither seconds nor a time like 2023-11-16 18:15:46.68") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ValueError(f"{cell!r} is no time")
    return seconds


def _rate(cell: str) -> float:
    try:
        rate = float(cell)
    except ValueError:
        raise ValueError(f"{cell!r} is no rate in requests/s") from None
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"rate {cell!r} must be 0 or more")
    return rate
