"""The sliding window of resource samples: per system and second, one value of each metric across ready instances."""

import math
from collections.abc import Callable, Iterable

from shared.contracts.resource import ResourceSample

KEPT_S = 150
_ACROSS: dict[str, Callable[[Iterable[float]], float]] = {"sum": math.fsum, "max": max}


class ResourceWindows:
    """Samples of every system of one environment. A sample seen twice counts once: the instance's last one stays.

    Several sources may tell different metrics of an instance; within a second they are taken together.
    """

    def __init__(self) -> None:
        self._samples: dict[str, dict[int, dict[str, dict[str, float]]]] = {}

    def add(self, sample: ResourceSample) -> None:
        """Keep a sample of an instance that takes traffic; others say nothing of what users feel."""
        if not sample.ready:
            return
        second = int(sample.at.timestamp())
        seconds = self._samples.setdefault(sample.system, {})
        seconds.setdefault(second, {}).setdefault(sample.instance, {}).update(sample.values)
        if len(seconds) > KEPT_S + 30:
            newest = max(seconds)
            for old in [s for s in seconds if s < newest - KEPT_S]:
                del seconds[old]

    def last_second(self, system: str) -> int | None:
        """The last second that is over for certain: instances are read at different moments of a second."""
        seconds = self._samples.get(system)
        return max(seconds) - 1 if seconds else None

    def values(self, system: str, metric: str, across: str, first_s: int, last_s: int) -> tuple[float, ...]:
        """One value a second, oldest first; a second in which no instance told the metric is left out."""
        seconds = self._samples.get(system, {})
        values = []
        for second in range(first_s, last_s + 1):
            told = [
                one[metric] for one in seconds.get(second, {}).values() if metric in one and math.isfinite(one[metric])
            ]
            if told:
                values.append(_ACROSS[across](told) if across in _ACROSS else math.fsum(told) / len(told))
        return tuple(values)
