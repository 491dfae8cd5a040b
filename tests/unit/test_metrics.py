"""Every metric is set somewhere, and what the registry holds becomes OTLP data points with the same values."""

import ast
import functools
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint, Sum
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from shared import metrics
from shared.otlp_metrics import metrics_data

ROOT = Path(__file__).parents[2]
SETTERS = {"inc", "dec", "set", "observe", "labels", "time"}
NAMES = sorted(name for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase))


@functools.cache
def set_somewhere() -> set[str]:
    """Names of ``metrics.NAME.set(…)`` and the like in the code."""
    found = set()
    for folder in ("services", "shared"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Attribute(attr=setter, value=ast.Attribute(attr=name, value=ast.Name(id="metrics"))):
                        if setter in SETTERS:
                            found.add(name)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_set_somewhere(name: str) -> None:
    assert name in set_somewhere()


def test_what_a_registry_holds_becomes_data_points() -> None:
    registry = CollectorRegistry()
    sent = Counter("sent", "Requests", ["system"], registry=registry)
    Counter("never", "With a label that has no value yet", ["system"], registry=registry)
    Gauge("lag_seconds", "Lateness", registry=registry).set(0.5)
    batch = Histogram("batch", "Sizes", ["kind"], buckets=(1, 10), registry=registry)
    sent.labels("relaycore").inc(3)
    for size in (1, 5, 7, 100):
        batch.labels("a").observe(size)
    batch.labels("b").observe(2)

    (resource,) = metrics_data(registry, Resource({"service.name": "x"}), 100, 200).resource_metrics
    found = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    assert found.keys() == {"sent", "lag_seconds", "batch"}
    assert (found["sent"].description, found["sent"].unit, found["lag_seconds"].unit) == ("Requests", "1", "s")
    counted, measured = found["sent"].data, found["batch"].data
    assert isinstance(counted, Sum)
    assert counted.is_monotonic
    assert list(counted.data_points) == [NumberDataPoint({"system": "relaycore"}, 100, 200, 3.0)]
    assert [point.value for point in found["lag_seconds"].data.data_points if isinstance(point, NumberDataPoint)] == [
        0.5
    ]
    assert isinstance(measured, HistogramData)
    first, second = measured.data_points
    assert isinstance(first, HistogramDataPoint)
    assert (first.attributes, first.count, first.sum) == ({"kind": "a"}, 4, 113.0)
    assert (first.bucket_counts, first.explicit_bounds) == ([1, 2, 1], [1.0, 10.0])
    assert (second.attributes, second.bucket_counts) == ({"kind": "b"}, [0, 1, 0])
