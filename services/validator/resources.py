"""The sliding window of resource samples: per system and second, one value of each metric across ready instances."""

import math
from collections.abc import Callable, Iterable, Mapping

from shared.contracts.resource import ResourceSample
from shared.contracts.sources import KEPT_S

_ACROSS: dict[str, Callable[[Iterable[float]], float]] = {"sum": math.fsum, "max": max}


class ResourceWindows:
    """Samples of every system of one environment. A sample seen twice counts once: the instance's last one stays.

    Several sources may tell different metrics of an instance; within a second they are taken together. ``version``
    grows with every sample kept.
    """

    def __init__(self) -> None:
        self.version = 0
        self._samples: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
        self._taken: dict[tuple[str, str, str], dict[int, float | None]] = {}

    def add(self, sample: ResourceSample) -> None:
        """Keep a sample of an instance that takes traffic; others say nothing of what users feel."""
        if not sample.ready:
            return
        self.version += 1
        second = int(sample.at.timestamp())
        seconds = self._samples.setdefault(sample.system, {})
        seconds.setdefault(second, {}).setdefault(sample.instance, {}).update(sample.values)
        taken = [values for (system, _, _), values in self._taken.items() if system == sample.system]
        for values in taken:
            values.pop(second, None)
        if len(seconds) > KEPT_S + 30:
            newest = max(seconds)
            for old in [s for s in seconds if s < newest - KEPT_S]:
                del seconds[old]
                for values in taken:
                    values.pop(old, None)

    def last_second(self, system: str) -> int | None:
        """The last second that is over for certain: instances are read at different moments of a second."""
        seconds = self._samples.get(system)
        return max(seconds) - 1 if seconds else None

    def values(self, system: str, metric: str, across: str, first_s: int, last_s: int) -> tuple[float, ...]:
        """One value a second, oldest first; a second in which no instance told the metric is left out."""
        seconds = self._samples.get(system, {})
        taken = self._taken.setdefault((system, metric, across), {})
        values = []
        for second in range(first_s, last_s + 1):
            if second not in taken:
                if second not in seconds:
                    continue
                taken[second] = _take(seconds[second].values(), metric, across)
            if (value := taken[second]) is not None:
                values.append(value)
        return tuple(values)


def _take(instances: Iterable[Mapping[str, float]], metric: str, across: str) -> float | None:
    told = [one[metric] for one in instances if metric in one and math.isfinite(one[metric])]
    if not told:
        return None
    return _ACROSS[across](told) if across in _ACROSS else math.fsum(told) / len(told)
