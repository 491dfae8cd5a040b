"""Names of the things a breach is about: the last token of its subject, and the id of one episode."""

import hashlib

from shared.contracts.benchmarks import Benchmark
from shared.subjects import token

MAX_TOKEN = 120


def series_token(run: str, scenario: str = "", action: str = "") -> str:
    """One subject token: the run, and the scenario and action where a benchmark is restricted to one.

    A token too long is cut and ends with a hash, so that two long ones stay two.
    """
    text = token("--".join(part for part in (run, scenario, action) if part))
    if len(text) <= MAX_TOKEN:
        return text
    return f"{text[: MAX_TOKEN - 13]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def series_of(run: str, benchmark: Benchmark) -> str:
    """The token of a benchmark's breaches in a run."""
    return series_token(run, only(benchmark.scenarios), only(benchmark.actions))


def only(names: tuple[str, ...]) -> str:
    """The one name of a restriction to one, else nothing."""
    return names[0] if len(names) == 1 else ""


def episode_id(environment: str, system: str, metric: str, series: str, opened_us: int) -> str:
    """Id of one episode, the same whenever it is derived from the same opening (µs of event time)."""
    text = "\n".join((environment, system, metric, series, str(opened_us)))
    return f"b{hashlib.sha256(text.encode()).hexdigest()[:20]}"
