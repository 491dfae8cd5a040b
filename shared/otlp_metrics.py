"""The metrics of ``shared.metrics`` through OTLP/HTTP, from a thread of its own: nothing on the way to them changes.

The data points are built in the SDK's data model from what the registry holds, and not by observable instruments: those
cannot carry a histogram with its buckets. Sums and histograms are cumulative since the start of the process.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from shared import metrics

TIMEOUT_S = 5.0
LAST_S = 2.0
"""How long a process that ends waits for its last word to be taken."""
SCOPE = "tidegate"
CUMULATIVE = AggregationTemporality.CUMULATIVE
_SUFFIXES = {"_seconds": "s", "_bytes": "By"}

logger = logging.getLogger(__name__)


@contextmanager
def exporting_metrics(service: str, environment: str, endpoint: str, every_s: float) -> Iterator[None]:
    """Export to ``<endpoint>/v1/metrics`` every ``every_s`` seconds and once at the end.

    A receiver that is away is logged once and tried again at the next turn; what it missed it learns then, as all
    values are cumulative.
    """
    resource = Resource.create(
        {
            "service.name": service,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            "deployment.environment.name": environment,
        }
    )
    stop = threading.Event()
    thread = threading.Thread(
        target=_export_until, args=(stop, endpoint, resource, every_s), name="otlp-metrics", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LAST_S)


def _export_until(stop: threading.Event, endpoint: str, resource: Resource, every_s: float) -> None:
    url = f"{endpoint.rstrip('/')}/v1/metrics"
    exporter = OTLPMetricExporter(endpoint=url, timeout=TIMEOUT_S)
    began_ns, is_away = time.time_ns(), False
    while True:
        is_last = stop.wait(every_s)
        data = metrics_data(metrics.REGISTRY, resource, began_ns, time.time_ns())
        is_taken = exporter.export(data, timeout_millis=TIMEOUT_S * 1e3) is MetricExportResult.SUCCESS
        if is_taken == is_away:
            is_away = not is_taken
            logger.log(
                logging.WARNING if is_away else logging.INFO, "%s %s", url, "takes no metrics" if is_away else "is back"
            )
        if is_last:
            break
    exporter.shutdown()


def metrics_data(registry: CollectorRegistry, resource: Resource, began_ns: int, now_ns: int) -> MetricsData:
    """Everything a registry holds at this moment. Times in ns since the Unix epoch."""
    found = [metric for family in registry.collect() if (metric := _metric_of(family, began_ns, now_ns)) is not None]
    scope = ScopeMetrics(InstrumentationScope(SCOPE), found, schema_url="")
    return MetricsData([ResourceMetrics(resource, [scope], schema_url="")])


def _metric_of(family: Family, began_ns: int, now_ns: int) -> Metric | None:
    """None for kinds that no metric here has, and for a family without any series yet."""
    unit = next((unit for suffix, unit in _SUFFIXES.items() if family.name.endswith(suffix)), "1")
    data: Sum | Gauge | Histogram
    if family.type == "counter":
        points = list(_numbers(family, f"{family.name}_total", began_ns, now_ns))
        data = Sum(points, CUMULATIVE, is_monotonic=True)
    elif family.type == "gauge":
        data = Gauge(list(_numbers(family, family.name, began_ns, now_ns)))
    elif family.type == "histogram":
        data = Histogram(list(_histograms(family, began_ns, now_ns)), CUMULATIVE)
    else:
        return None
    return Metric(family.name, family.documentation, unit, data) if data.data_points else None


def _numbers(family: Family, name: str, began_ns: int, now_ns: int) -> Iterator[NumberDataPoint]:
    for sample in family.samples:
        if sample.name == name:
            yield NumberDataPoint(dict(sample.labels), began_ns, now_ns, sample.value)


def _histograms(family: Family, began_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    """Prometheus counts what is at or below each bound, OTLP what is between two."""
    series: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in family.samples:
        labels = tuple((key, value) for key, value in sample.labels.items() if key != "le")
        series.setdefault(labels, []).append(sample)
    for labels, samples in series.items():
        buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
        cumulative = [int(bucket.value) for bucket in buckets]
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=cumulative[-1],
            sum=_value_of(samples, f"{family.name}_sum"),
            bucket_counts=[count - below for count, below in zip(cumulative, [0, *cumulative], strict=False)],
            explicit_bounds=[float(bucket.labels["le"]) for bucket in buckets[:-1]],
            # Prometheus does not keep them, and OTLP may do without; the SDK's own points always have them.
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )


def _value_of(samples: Iterable[Sample], name: str) -> float:
    return next(sample.value for sample in samples if sample.name == name)
