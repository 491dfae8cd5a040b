"""Two scrapes of an instance become the values of a resource sample, by the mapping of ``config/resources.yaml``.

A value that cannot be told is absent, never zero: a counter seen for the first time or reset by a restart, a mean
without a new observation, a limit that is not exposed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field, model_validator

from shared.contracts.base import Document
from shared.errors import BadMessageError


class MetricRule(Document):
    """One line of the mapping; the file itself explains the fields."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    unit: Literal["ratio", "cores", "MB", "ms", "requests", "requests/s"]
    form: Literal["gauge", "rate", "mean"]
    of: str = Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    divide_by: str | None = Field(default=None, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    scale: float = Field(default=1.0, gt=0)


class ResourceMap(Document):
    metrics: list[MetricRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _once(self) -> "ResourceMap":
        names = [source.name for source in self.metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"metrics listed twice: {', '.join(twice)}")
        return self


@dataclass(frozen=True, slots=True)
class Scrape:
    """Totals over all series of each metric of one instance. ``at_s``: monotonic seconds."""

    at_s: float
    totals: Mapping[str, float]


def read_scrape(text: str, at_s: float) -> Scrape:
    """Sum the series of every metric of a page in Prometheus text format; ``BadMessageError`` when it is none."""
    totals: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            if family.type == "counter" and not family.samples:
                # Declared, but none of its labels was counted yet: that is a known zero.
                totals[f"{family.name}_total"] = 0.0
            for sample in family.samples:
                if not sample.name.endswith("_bucket"):
                    totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    except (ValueError, KeyError, IndexError) as error:
        raise BadMessageError(f"no Prometheus text: {error}") from error
    return Scrape(at_s, totals)


def values_of(resource_map: ResourceMap, before: Scrape | None, after: Scrape) -> dict[str, float]:
    """Every metric of the mapping that these two scrapes tell; ``before`` is None at the first."""
    values: dict[str, float] = {}
    for source in resource_map.metrics:
        value = _value(source, before, after)
        if value is not None and source.divide_by is not None:
            divisor = after.totals.get(source.divide_by, 0.0)
            value = value / divisor if divisor > 0 else None
        if value is not None and abs(value) < float("inf"):
            values[source.name] = value * source.scale
    return values


def _value(source: MetricRule, before: Scrape | None, after: Scrape) -> float | None:
    if source.form == "gauge":
        return after.totals.get(source.of)
    if before is None:
        return None
    if source.form == "rate":
        elapsed_s = after.at_s - before.at_s
        growth = _growth(source.of, before, after)
        return None if growth is None or elapsed_s <= 0 else growth / elapsed_s
    total, count = _growth(f"{source.of}_sum", before, after), _growth(f"{source.of}_count", before, after)
    return None if total is None or not count else total / count


def _growth(name: str, before: Scrape, after: Scrape) -> float | None:
    """How much a counter grew; None when it is unknown or fell, which a restart does."""
    if name not in before.totals or name not in after.totals:
        return None
    growth = after.totals[name] - before.totals[name]
    return growth if growth >= 0 else None
