"""Instances found by DNS: each address of a name is read, and a name that is not known has none."""

import logging

import pytest
from aiohttp import web

from services.collector.samples import ResourceMap
from services.collector.scrape import Platform
from services.collector.source_config import PlatformSpec
from shared.config import parse

pytestmark = pytest.mark.integration

METRICS = {"metrics": [{"name": "queue_length", "unit": "requests", "form": "gauge", "of": "queue"}]}


async def test_each_address_of_a_name_is_an_instance_and_a_name_that_is_gone_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="# TYPE queue gauge\nqueue 7\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    rule = {"port": port, "service": "relaycore", "system": "relaycore"}
    names = ({**rule, "name": "127.0.0.1"}, {**rule, "name": "relaycore-replicas.invalid"})
    spec = PlatformSpec.model_validate({"kind": "platform", "dns": names})
    source = Platform(spec, None, parse(ResourceMap, METRICS, "resources.yaml"))
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                (seen,) = await source.read()
                assert (seen.service, seen.instance, seen.values) == (
                    "relaycore",
                    f"127.0.0.1:{port}",
                    {"queue_length": 7.0},
                )
        assert sum("relaycore-replicas.invalid" in record.message for record in caplog.records) == 1
    finally:
        await source.close()
        await runner.cleanup()
