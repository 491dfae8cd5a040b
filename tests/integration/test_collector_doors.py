"""The OTLP door, the scraper, and how the process begins and ends."""

import asyncio
import gzip
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from deploy.embedded.nats import NatsServer
from services.collector.app import serve
from services.collector.settings import CollectorSettings
from services.collector.timescale import Timescale
from shared import metrics
from shared.contracts.resource import ResourceSample
from shared.errors import ConfigError
from shared.settings import read_settings
from shared.store.spans import read_trace
from tests.contracts.schemas import hold
from tests.integration.collector_rig import Rig, eventually, open_rig
from tests.unit.collector_frames import make_events, make_frame

pytestmark = pytest.mark.integration
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PROTOBUF = "application/x-protobuf"


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        yield opened


def export(count: int = 1, first: int = 1) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "relaycore"
    spans = resource_spans.scope_spans.add().spans
    for number in range(first, first + count):
        spans.add(
            trace_id=bytes.fromhex(TRACE_ID),
            span_id=number.to_bytes(8, "big"),
            name=f"span {number}",
            start_time_unix_nano=time.time_ns() + number,
            end_time_unix_nano=time.time_ns() + 5_000_000,
        )
    return bytes(request.SerializeToString())


async def post(rig: Rig, body: bytes, content_type: str = PROTOBUF, **headers: str) -> tuple[int, bytes, str | None]:
    url = f"{rig.url}/v1/traces"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers={"Content-Type": content_type, **headers}) as response,
    ):
        return response.status, await response.read(), response.headers.get("Retry-After")


async def names_in_store(dsn: str) -> list[str]:
    store = Timescale(dsn, "test")
    try:
        async with store.transaction() as connection:
            return [span.name for span in await read_trace(connection, TRACE_ID)]
    finally:
        await store.close()


async def test_spans_arrive_by_protobuf_by_gzip_and_by_json(rig: Rig, postgres_dsn: str) -> None:
    now = time.time_ns()
    span = {"traceId": TRACE_ID, "spanId": f"{9:016x}", "name": "span 9", "kind": 2, "startTimeUnixNano": str(now)}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [{**span, "endTimeUnixNano": str(now)}]}]}]}
    async with rig.collector():
        status, body, _ = await post(rig, export())
        assert (status, ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans) == (200, 0)
        gzipped = gzip.compress(export(first=2))
        assert (await post(rig, gzipped, **{"Content-Encoding": "gzip"}))[0] == 200
        assert (await post(rig, json.dumps(document).encode(), "application/json"))[:2] == (200, b"{}")
        await eventually(
            lambda: names_in_store(postgres_dsn), lambda names: sorted(names) == ["span 1", "span 2", "span 9"]
        )


async def test_garbage_is_refused_with_a_line_and_the_door_stays_open(rig: Rig) -> None:
    async with rig.collector():
        for body, content_type, encoding, status in (
            (b"\xff\xff\xff", PROTOBUF, "identity", 400),
            (b"{", "application/json", "identity", 400),
            (b"not gzip", PROTOBUF, "gzip", 400),
            (b"spans=1", "text/plain", "identity", 415),
        ):
            answered, text, _ = await post(rig, body, content_type, **{"Content-Encoding": encoding})
            assert answered == status, (body, text)
            assert b"Traceback" not in text
        assert (await post(rig, export()))[0] == 200


async def test_a_full_queue_tells_exporters_to_wait_and_a_stop_still_writes_it(rig: Rig, postgres_dsn: str) -> None:
    blocker = Timescale(postgres_dsn, "blocker")
    async with rig.collector(span_queue=10), blocker.transaction() as connection:
        await connection.execute("LOCK TABLE spans IN ACCESS EXCLUSIVE MODE")
        assert (await post(rig, export(8)))[0] == 200
        status, text, retry_after = await post(rig, export(8, first=9))
        assert (status, retry_after) == (429, "1")
        assert b"8 spans wait for the store already" in text
    await blocker.close()
    assert len(await names_in_store(postgres_dsn)) == 8


def traces(first: int, count: int, ms: float, *, failed: bool = False) -> bytes:
    """An export of so many traces of two spans each."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    now = time.time_ns()
    for number in range(first, first + count):
        for index in (1, 2):
            one = spans.add(
                trace_id=number.to_bytes(16, "big"),
                span_id=index.to_bytes(8, "big"),
                name="POST /x",
                start_time_unix_nano=now,
                end_time_unix_nano=now + round(ms * 1e6),
            )
            one.status.code = 2 if failed else 0
    return bytes(request.SerializeToString())


async def traces_in_store(rig: Rig) -> dict[int, int]:
    """Number of spans by trace."""
    found = await rig.query("SELECT trace_id, count(*) FROM spans GROUP BY trace_id")
    return {trace_id.int: count for trace_id, count in found}


def dropped(reason: str) -> float:
    return metrics.REGISTRY.get_sample_value("tidegate_spans_dropped_total", {"reason": reason}) or 0.0


async def test_more_spans_than_the_store_takes_are_sampled_by_trace_slow_and_failed_ones_first(
    rig: Rig, postgres_dsn: str
) -> None:
    before = dropped("sampled")
    blocker = Timescale(postgres_dsn, "blocker")
    async with rig.collector(span_queue=100), blocker.transaction() as connection:
        await connection.execute("LOCK TABLE spans IN ACCESS EXCLUSIVE MODE")
        assert (await post(rig, traces(1, 1, 10)))[0] == 200
        assert (await post(rig, traces(100, 5, 10, failed=True)))[0] == 200
        assert (await post(rig, traces(200, 5, 900)))[0] == 200
        for first, ms in ((10, 10.0), (20, 2.0), (30, 0.1)):
            status, body, _ = await post(rig, traces(first, 10, ms))
            assert status == 200
        partial = ExportTraceServiceResponse.FromString(body).partial_success
        assert partial.rejected_spans > 0
        assert partial.error_message == f"{partial.rejected_spans} spans of quick traces were sampled out"
    await blocker.close()
    stored = await traces_in_store(rig)
    assert {1, *range(100, 105), *range(200, 205)} <= stored.keys()
    assert set(stored.values()) == {2}, "whole traces"
    assert sum(stored.values()) + dropped("sampled") - before == 82


async def test_a_budget_of_spans_is_spent_on_what_failed_and_the_rest_waits_its_turn(rig: Rig) -> None:
    async with rig.collector(spans_per_second=40):
        assert (await post(rig, traces(1, 60, 10)))[0] == 200
        assert (await post(rig, traces(100, 5, 10, failed=True)))[0] == 200
        began = time.monotonic()
        first = await eventually(lambda: traces_in_store(rig), lambda found: len(found) >= 25)
        assert {*range(100, 105)} <= first.keys()
        assert len(first) <= 20 + 20 * (time.monotonic() - began + 1)
    assert len(await traces_in_store(rig)) == 65, "a stop stores what waits"


async def test_a_body_that_unpacks_beyond_the_bound_is_refused(rig: Rig) -> None:
    async with rig.collector():
        bomb = gzip.compress(bytes(17 * 1024 * 1024))
        assert (await post(rig, bomb, **{"Content-Encoding": "gzip"}))[0] == 413
        assert (await post(rig, export(2_000)))[0] == 200, "a large one is parsed beside the loop"


METRICS = """\
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {seconds}
# TYPE platform_cpu_limit_cores gauge
platform_cpu_limit_cores 2.0
# TYPE platform_queue_length gauge
platform_queue_length 7
"""


@pytest.fixture
async def platform() -> AsyncIterator[str]:
    """Service discovery with two instances: one answers with metrics, the other is gone."""
    began = time.monotonic()

    async def discover(request: web.Request) -> web.Response:
        labels = {"service": "relaycore", "system": "relaycore", "instance": "relaycore-1"}
        return web.json_response(
            [
                {"targets": [request.host], "labels": labels},
                {"targets": ["127.0.0.1:1"], "labels": {**labels, "instance": "relaycore-2"}},
            ]
        )

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=METRICS.format(seconds=time.monotonic() - began))

    app = web.Application()
    app.add_routes([web.get("/sd", discover), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def samples(rig: Rig) -> list[ResourceSample]:
    subject = rig.bus.subjects.resource("relaycore")
    return [ResourceSample.model_validate_json(msg.data) for msg in rig.heard if msg.subject == subject]


async def test_instances_are_scraped_published_and_stored_and_one_that_is_gone_is_skipped(
    rig: Rig, platform: str
) -> None:
    async with rig.collector(platform_url=platform, scrape_interval_s=0.1):
        heard = await eventually(lambda: asyncio.sleep(0, samples(rig)), lambda found: len(found) >= 3)
        await eventually(lambda: rig.count("resource_sample"), lambda count: count >= 3)
    assert {sample.instance for sample in heard} == {"relaycore-1"}
    assert heard[0].values == {"queue_length": 7.0}
    # The instance "burns" one second a second of its two cores.
    assert heard[2].values["cpu_usage"] == pytest.approx(0.5, abs=0.1)
    stored = await rig.query('SELECT service, system, instance, "values" FROM resource_sample ORDER BY at LIMIT 3')
    assert stored == [("relaycore", "relaycore", "relaycore-1", sample.values) for sample in heard[:3]]
    hold("ResourceSample", rig.bodies("resource"))


async def test_of_two_collectors_one_scrapes(rig: Rig, platform: str, nats_url: str, postgres_dsn: str) -> None:
    other = Rig(rig.bus, nats_url, postgres_dsn)
    async with (
        rig.collector(platform_url=platform, scrape_interval_s=0.1),
        other.collector(platform_url=platform, scrape_interval_s=0.1),
    ):
        await eventually(lambda: asyncio.sleep(0, samples(rig)), lambda found: len(found) >= 12)
    told = [sample.at for sample in samples(rig)]
    each_s = (told[-1] - told[0]).total_seconds() / (len(told) - 1)
    assert each_s > 0.08, "two would tell it every 0.05 s"


async def test_nats_that_goes_away_is_waited_for_and_a_stop_meanwhile_is_clean(
    postgres_dsn: str, tmp_path: Path
) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    try:
        async with open_rig(server.url, "local", postgres_dsn) as rig, rig.collector():
            await rig.publish(make_frame(1, events=make_events(10)))
            await rig.settled()
            server.kill()
            await eventually(rig.health, lambda answer: answer[0] == 503 and "NATS is not connected" in answer[1])
            server.start()
            await eventually(rig.health, lambda answer: answer == (200, []))
            await eventually(lambda: asyncio.sleep(0, rig.bus.connected), bool)
            await rig.publish(make_frame(2, events=make_events(10)))
            await rig.settled()
            assert await rig.count("request_timing") == 20
        async with open_rig(server.url, "local", postgres_dsn) as rig, rig.collector():
            server.kill()
            await eventually(rig.health, lambda answer: answer[0] == 503)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("batch_events", "none", "TIDEGATE_BATCH_EVENTS='none'"),
        ("platform_url", "ftp://x", "TIDEGATE_PLATFORM_URL='ftp://x'"),
        ("store_dsn", "what?", "TIDEGATE_STORE_DSN is no PostgreSQL connection string"),
        ("config_dir", "/no/such/folder", "/no/such/folder/resources.yaml: No such file or directory"),
    ],
)
async def test_wrong_settings_are_one_line_that_names_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(f"TIDEGATE_{name.upper()}", value)
    with pytest.raises(ConfigError, match=re.escape(line)):
        await serve(read_settings(CollectorSettings), asyncio.Event())


async def test_a_port_in_use_is_one_line_that_names_it(rig: Rig) -> None:
    async with rig.collector():
        with pytest.raises(ConfigError, match=rf"TIDEGATE_HTTP_PORT={rig.port}: .*Address already in use"):
            await serve(rig.settings(), asyncio.Event())


async def test_a_stop_before_the_store_and_nats_are_there_is_a_clean_one() -> None:
    stop = asyncio.Event()
    settings = CollectorSettings(store_dsn="postgresql://x@127.0.0.1:1/x", nats_url="nats://127.0.0.1:1")
    serving = asyncio.create_task(serve(settings, stop))
    await asyncio.sleep(0.1)
    assert not serving.done()
    stop.set()
    await asyncio.wait_for(serving, 5)
