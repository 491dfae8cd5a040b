"""Wires the validator: bus, store, benchmarks, judge; closes in reverse."""

import asyncio
import logging
import uuid
from contextlib import AsyncExitStack

from services.validator.attending import attend
from services.validator.attention import Attention
from services.validator.breach_stream import BreachStream
from services.validator.breach_tracing import BreachTracing
from services.validator.budget_reader import BudgetReader
from services.validator.canary_watch import CanaryWatch
from services.validator.checkpoint_store import CheckpointStore
from services.validator.checkpointing import Checkpointer
from services.validator.hop_finder import HopFinder
from services.validator.inbox import Inbox
from services.validator.judging import Judge
from services.validator.presiding import Presider
from services.validator.reporter import Reporter
from services.validator.settings import Settings
from services.validator.stress_leader import StressLeader
from services.validator.telling import Teller
from services.validator.timescale import Store
from shared.bus import open_bus
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.judgeable import find_doubts
from shared.http import HttpDoor
from shared.leadership import keep
from shared.lease import Lease
from shared.reading import watch_ears
from shared.service import run_until
from shared.telemetry import configure_tracing

logger = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Judge until ``stop``. Raises ``ConfigError`` for benchmarks that cannot be judged by."""
    benchmarks = load_benchmarks(settings.benchmarks_path, settings.environment).benchmarks
    async with AsyncExitStack() as stack:
        provider = configure_tracing("validator", settings.otlp_endpoint)
        # Flushing waits for the exporter, so it is done beside the loop.
        stack.push_async_callback(asyncio.to_thread, provider.shutdown)
        bus = await stack.enter_async_context(open_bus(settings.nats_url, settings.environment, "validator"))
        judge = Judge(settings.environment, benchmarks)
        store = Store(settings.store_dsn)
        inbox = Inbox(bus, judge)
        lease = Lease(await bus.bucket("leases"), "validator")
        canaries = CanaryWatch(judge, store, settings.drift_rules, settings.zone)
        attention, stream = Attention(), BreachStream(bus.js, bus.subjects)
        presider = Presider(
            judge,
            inbox,
            lease,
            stream,
            Teller(stream, BreachTracing(provider), attention),
            attention,
            store,
            Reporter(store, benchmarks),
            HopFinder(store),
            canaries,
        )
        stress = StressLeader(bus, judge, lambda: presider.presiding)

        def unready() -> list[str]:
            reasons = [] if bus.connected else ["not connected to NATS"]
            return reasons if inbox.joined else [*reasons, "reading the past of WINDOWS"]

        await stack.enter_async_context(HttpDoor(settings.http_host, settings.http_port, unready))
        stack.push_async_callback(presider.close)
        checkpoints = Checkpointer(bus, judge, inbox, lease, CheckpointStore(await bus.bucket("checkpoints")))
        await checkpoints.take_up()
        stack.push_async_callback(checkpoints.close)
        inbox.listen()
        attend(bus, attention)
        await bus.broker.start()
        logger.info("judging by %s", settings.benchmarks_path)
        for doubt in find_doubts(benchmarks):
            logger.warning("%s", doubt)
        name = f"validator-{uuid.uuid4().hex[:8]}".encode()
        reading = [inbox.read_windows(), inbox.read_resources(), inbox.read_spans(), watch_ears(bus)]
        presiding = [presider.preside(), stress.lead(), canaries.watch(lambda: presider.presiding)]
        beside = [BudgetReader(store, judge).read(), checkpoints.keep()]
        await run_until(stop, [*reading, keep(lease, name), *presiding, *beside])
