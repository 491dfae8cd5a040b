"""Every service as a process: what `/metrics` shows, and the same by OTLP at a small real receiver."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from deploy.embedded.ports import choose_port
from shared.settings import PROJECT_ROOT
from tests.integration.collector_rig import Rig, eventually, open_rig
from tests.integration.otlp_receiver import OtlpReceiver
from tests.unit.collector_frames import make_events, make_frame

pytestmark = pytest.mark.integration


class MetricReceiver:
    """The last word of each service, by service and metric name."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, Any]] = {}
        self.resources: dict[str, dict[str, str]] = {}
        self.paths: set[str] = set()
        server = OtlpReceiver(self.take)
        self.url, self.close = server.url, server.close

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            attributes = {one.key: one.value.string_value for one in told.resource.attributes}
            service = attributes["service.name"]
            self.resources[service] = attributes
            self.metrics[service] = {metric.name: metric for scope in told.scope_metrics for metric in scope.metrics}


@pytest.fixture
def receiver() -> Iterator[MetricReceiver]:
    opened = MetricReceiver()
    yield opened
    opened.close()


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        yield opened


@contextlib.contextmanager
def running(service: str, rig: Rig, folder: Path, **env: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A service as a process of its own, and its base URL; it has to end by itself, in order, when asked to."""
    port = choose_port(service)
    told = {
        **os.environ,
        "TIDEGATE_ENVIRONMENT": rig.bus.subjects.environment,
        "TIDEGATE_NATS_URL": rig.nats_url,
        "TIDEGATE_STORE_DSN": rig.dsn,
        "TIDEGATE_HTTP_PORT": str(port),
        "TIDEGATE_SPOOL_DIR": str(folder / "spool"),
        **env,
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"], env=told, cwd=PROJECT_ROOT, stdout=log, stderr=log
        )
        try:
            yield process, f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (folder / "log").read_text()
        finally:
            process.kill()
            process.wait()


async def read(url: str) -> tuple[int, str]:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


OWN = {
    "generator": {"tidegate_requests_sent", "tidegate_loop_lag_seconds", "tidegate_shards_held"},
    "collector": {
        "tidegate_events_stored",
        "tidegate_batch_events",
        "tidegate_commit_seconds",
        "tidegate_frames_waiting",
    },
    "validator": {"tidegate_frames_merged", "tidegate_verdicts", "tidegate_breaches_open"},
    "scaler": {"tidegate_scaling_decisions", "tidegate_replicas"},
}


@pytest.mark.parametrize("service", OWN)
async def test_every_service_shows_its_metrics_and_exports_the_same(
    service: str, rig: Rig, receiver: MetricReceiver, tmp_path: Path
) -> None:
    env = {"TIDEGATE_OTLP_METRICS_ENDPOINT": receiver.url, "TIDEGATE_OTLP_METRICS_INTERVAL_S": "0.2"}
    with running(service, rig, tmp_path, **env) as (_, url):
        await eventually(lambda: read(f"{url}/health"), lambda answer: answer[0] == 200, 60.0)
        status, text = await read(f"{url}/metrics")
        assert status == 200
        shown = {family.name: family for family in text_string_to_metric_families(text)}
        assert shown.keys() >= OWN[service] | {"process_cpu_seconds", "process_resident_memory_bytes"}
        # What has labels appears with its first value; everything that has one is exported, less when it was made.
        told = {name for name, family in shown.items() if family.samples and not name.endswith("_created")}
        found = await eventually(
            lambda: asyncio.sleep(0, receiver.metrics.get(service, {})), lambda metrics: metrics.keys() >= told, 15.0
        )
    assert receiver.paths == {"/v1/metrics"}
    assert receiver.resources[service]["deployment.environment.name"] == rig.bus.subjects.environment
    assert found["process_cpu_seconds"].sum.is_monotonic
    assert found["process_resident_memory_bytes"].unit == "By"


async def test_the_last_values_of_a_collector_are_exported_when_it_ends(
    rig: Rig, receiver: MetricReceiver, tmp_path: Path
) -> None:
    env = {"TIDEGATE_OTLP_METRICS_ENDPOINT": receiver.url, "TIDEGATE_OTLP_METRICS_INTERVAL_S": "600"}
    with running("collector", rig, tmp_path, **env) as (_, url):
        await eventually(lambda: read(f"{url}/health"), lambda answer: answer[0] == 200, 60.0)
        await rig.publish(make_frame(1, events=make_events(40)), make_frame(2, events=make_events(2)))
        await rig.settled()
        _, text = await read(f"{url}/metrics")
        assert not receiver.metrics
    shown = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    exported = receiver.metrics["collector"]
    (stored,) = exported["tidegate_events_stored"].sum.data_points
    assert stored.as_double == shown["tidegate_events_stored_total", None] == 42
    (events,) = exported["tidegate_batch_events"].histogram.data_points
    assert events.sum == shown["tidegate_batch_events_sum", None] == 42
    assert sum(events.bucket_counts) == events.count == shown["tidegate_batch_events_count", None]
    assert list(events.explicit_bounds)[:3] == [1.0, 10.0, 100.0]
    assert not events.HasField("min")
    (lag,) = exported["tidegate_stored_lag_seconds"].histogram.data_points
    assert lag.count == events.count
    assert exported["tidegate_commit_seconds"].histogram.data_points[0].count >= events.count


async def test_a_receiver_that_is_away_is_said_once_and_a_stop_does_not_wait_for_it(rig: Rig, tmp_path: Path) -> None:
    port = choose_port("receiver")
    env = {"TIDEGATE_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{port}", "TIDEGATE_OTLP_METRICS_INTERVAL_S": "0.1"}
    log = tmp_path / "log"
    with running("collector", rig, tmp_path, **env) as (process, _):
        await eventually(lambda: asyncio.to_thread(log.read_text), lambda text: "takes no metrics" in text, 30.0)
        began = asyncio.get_running_loop().time()
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: asyncio.sleep(0, process.poll()), lambda code: code is not None, 15.0)
        assert asyncio.get_running_loop().time() - began < 5
    assert (await asyncio.to_thread(log.read_text)).count("takes no metrics") == 1


async def test_an_endpoint_that_is_none_is_one_line(rig: Rig, tmp_path: Path) -> None:
    env = {**os.environ, "TIDEGATE_OTLP_METRICS_ENDPOINT": "otel:4318"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.scaler"), env=env, cwd=PROJECT_ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, text = await process.communicate()
    assert process.returncode == 2
    assert text.decode().startswith("error: TIDEGATE_OTLP_METRICS_ENDPOINT='otel:4318': String should match pattern")
