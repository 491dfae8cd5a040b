"""What an instance has used becomes the values of a sample: counters to rates, amounts to ratios. Pure.

Whatever cannot be told is None on the way in and absent on the way out, never zero: a counter seen for the first time,
or one that went back because what it counts was started again.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

MB = 1024 * 1024
LONGEST_S = 30.0
"""A rate over a longer span, as after a source was away, says too little about now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One reading of an instance.

    ``at_s``: monotonic seconds. ``cpu_s``, ``periods``, ``received`` to ``drops`` and ``read_bytes`` to ``writes`` are
    counters since some beginning (seconds; scheduler periods, and those throttled; bytes, errors, packets; bytes,
    operations). Everything else is an amount of this moment. ``gpu``: busy share of the GPUs held, their mean.
    """

    at_s: float
    cpu_s: float | None = None
    cpu_limit_cores: float | None = None
    periods: float | None = None
    throttled_periods: float | None = None
    memory_bytes: float | None = None
    memory_limit_bytes: float | None = None
    received: float | None = None
    sent: float | None = None
    errors: float | None = None
    drops: float | None = None
    read_bytes: float | None = None
    written_bytes: float | None = None
    reads: float | None = None
    writes: float | None = None
    storage_bytes: float | None = None
    storage_limit_bytes: float | None = None
    open_files: float | None = None
    threads: float | None = None
    gpu: float | None = None
    gpu_memory_bytes: float | None = None
    gpu_memory_limit_bytes: float | None = None


RATES = {
    "cpu_cores": "cpu_s",
    "network_received": "received",
    "network_sent": "sent",
    "network_errors": "errors",
    "network_drops": "drops",
    "storage_read": "read_bytes",
    "storage_written": "written_bytes",
    "storage_reads": "reads",
    "storage_writes": "writes",
}
AMOUNTS = {
    "memory_usage": ("memory_bytes", 1 / MB),
    "storage_used": ("storage_bytes", 1 / MB),
    "open_files": ("open_files", 1.0),
    "threads": ("threads", 1.0),
    "gpu_usage": ("gpu", 1.0),
    "gpu_memory": ("gpu_memory_bytes", 1 / MB),
}
RATIOS = {
    "memory_ratio": ("memory_bytes", "memory_limit_bytes"),
    "storage_ratio": ("storage_bytes", "storage_limit_bytes"),
    "gpu_memory_ratio": ("gpu_memory_bytes", "gpu_memory_limit_bytes"),
}


def values_of_usage(before: Usage | None, after: Usage) -> dict[str, float]:
    """Every metric of ``shared.contracts.resource.RESOURCE_UNITS`` that these two readings tell.

    ``before`` is the reading before of the same instance since the same start; None at the first.
    """
    told: dict[str, float | None] = {
        metric: None if (amount := getattr(after, name)) is None else amount * scale
        for metric, (name, scale) in AMOUNTS.items()
    }
    for metric, (part, whole) in RATIOS.items():
        told[metric] = _ratio(getattr(after, part), getattr(after, whole))
    if before is not None and 0 < (elapsed_s := after.at_s - before.at_s) <= LONGEST_S:
        for metric, name in RATES.items():
            growth = _growth(name, before, after)
            told[metric] = None if growth is None else growth / elapsed_s
        told["cpu_usage"] = _ratio(told["cpu_cores"], after.cpu_limit_cores)
        told["cpu_throttled"] = _ratio(
            _growth("throttled_periods", before, after), _growth("periods", before, after) or None
        )
    return {metric: value for metric, value in told.items() if value is not None and math.isfinite(value)}


def total(usages: Iterable[Usage], at_s: float) -> Usage:
    """The sum of several. A field that one of them does not tell is not told; limits are left out."""
    several = list(usages)
    sums: dict[str, float] = {}
    for field in fields(Usage):
        told = [value for usage in several if (value := getattr(usage, field.name)) is not None]
        if told and len(told) == len(several) and field.name != "at_s" and "limit" not in field.name:
            sums[field.name] = math.fsum(told)
    return Usage(at_s=at_s, **sums)


class Past:
    """The last reading of each instance of one source. An instance that is not seen in a round is forgotten."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[str, Usage]] = {}
        self._now: dict[str, tuple[str, Usage]] = {}

    def step(self, instance: str, life: str, usage: Usage) -> dict[str, float]:
        """The values since the last round. ``life``: another one means that it was started again."""
        its_life, before = self._before.get(instance, ("", None))
        self._now[instance] = (life, usage)
        return values_of_usage(before if its_life == life else None, usage)

    def end_round(self) -> None:
        """From here on what was seen since the last call is the past."""
        self._before, self._now = self._now, {}

    def forget(self) -> None:
        self._before, self._now = {}, {}


def kept(values: Mapping[str, float], keep: Iterable[str] | None) -> dict[str, float]:
    """Those of the values that are asked for; None asks for all."""
    return dict(values) if keep is None else {name: values[name] for name in keep if name in values}


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None or whole <= 0 else part / whole


def _growth(name: str, before: Usage, after: Usage) -> float | None:
    """How much a counter grew; None when it is unknown or went back, which a new start does."""
    first, last = getattr(before, name), getattr(after, name)
    return None if first is None or last is None or last < first else last - first
