"""Wires the forwarder: opens in order, runs until asked to stop, closes in reverse. Decides nothing."""

import asyncio
import logging
import uuid
from contextlib import AsyncExitStack

import aiohttp

from services.forwarder.forwarding import Forwarding
from services.forwarder.http_endpoint import HttpEndpoint
from services.forwarder.settings import SECRET_PREFIX, ForwarderSettings, check_hosts, keys_of
from services.forwarder.told_bucket import ToldBucket
from shared.bus import open_bus
from shared.config import load_document
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.webhooks import Webhooks, find_unknown
from shared.errors import ConfigError
from shared.http import HttpDoor
from shared.leadership import keep
from shared.lease import Lease
from shared.secrets import read_secrets
from shared.service import run_until

logger = logging.getLogger(__name__)


def warn_of_unknown(document: Webhooks, settings: ForwarderSettings) -> None:
    """Say which systems and metrics no breach is of, by the benchmarks where they can be read here.

    No more than that: a validator elsewhere may judge by others.
    """
    try:
        known = load_benchmarks(settings.benchmarks_path, settings.environment)
    except ConfigError:
        return
    for unknown in find_unknown(document, known.systems, known.benchmarks.metrics):
        logger.warning("%s: %s", settings.webhooks_path, unknown)


async def serve(settings: ForwarderSettings, stop: asyncio.Event) -> None:
    """Forward until ``stop``. Raises ``ConfigError`` for endpoints that cannot be used or may not be."""
    document = load_document(Webhooks, settings.webhooks_path)
    check_hosts(document, settings.webhook_hosts)
    warn_of_unknown(document, settings)
    secrets = read_secrets(SECRET_PREFIX)
    keys = {endpoint.name: keys_of(endpoint, secrets) for endpoint in document.endpoints}
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings.nats_url, settings.environment, "forwarder"))

        def unready() -> list[str]:
            return [] if bus.connected else ["not connected to NATS"]

        await stack.enter_async_context(HttpDoor(settings.http_host, settings.http_port, unready))
        # Neither proxies nor passwords of the environment: where it may send is the allow-list's to say.
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        lease, bucket = Lease(await bus.bucket("leases"), "forwarder"), await bus.bucket("webhooks")
        stack.push_async_callback(lease.release)
        forwardings = [
            Forwarding(
                bus,
                HttpEndpoint(endpoint, keys[endpoint.name], session),
                ToldBucket(bucket, endpoint.name),
                lambda: lease.held,
            )
            for endpoint in document.endpoints
        ]
        for forwarding in forwardings:
            stack.push_async_callback(forwarding.close)
        logger.info("forwarding to %s", ", ".join(endpoint.name for endpoint in document.endpoints) or "nobody")
        name = f"forwarder-{uuid.uuid4().hex[:8]}".encode()
        side_tasks = [keep(lease, name), *(one.forward() for one in forwardings)]
        await run_until(stop, [*side_tasks, *(one.keep_held() for one in forwardings)])
