"""Wires the scaler: opens in order, runs until asked to stop, closes in reverse. Decides nothing."""

import asyncio
import time
from contextlib import AsyncExitStack

from services.scaler.audit import AuditStream
from services.scaler.checkpoints import Checkpoints
from services.scaler.controller import Controller
from services.scaler.headroom import Headroom
from services.scaler.inputs import Inputs
from services.scaler.ledger import Ledger
from services.scaler.resources.applying import Turns
from services.scaler.settings import ScalerSettings
from services.scaler.targets.opening import open_targets
from shared.bus import open_bus
from shared.config import load_document
from shared.contracts.scaling_rules import ScalingRules
from shared.http import HttpDoor
from shared.leadership import keep
from shared.lease import Lease
from shared.reading import until_heard, watch_ears
from shared.service import run_until
from shared.telemetry import configure_tracing

ASK_S = 0.2
"""How often a standby asks for the lease: it expires within 4 s, and 5 s after the leader's end another one acts."""
DRAIN_S = 3.0
HEARD_S = 5.0
PRUNE_S = 30.0


async def serve(settings: ScalerSettings, stop: asyncio.Event) -> None:
    """One scaler process: the acting one, or a standby."""
    rules = load_document(ScalingRules, settings.config_dir / "scaling.yaml")
    controllers: list[Controller] = []

    def wake() -> None:
        for controller in controllers:
            controller.wake()

    async with AsyncExitStack() as stack:
        tracing = configure_tracing("scaler", settings.otlp_endpoint)
        stack.callback(tracing.shutdown)
        started = asyncio.Event()
        inputs = Inputs(rules, wake)
        bus = await stack.enter_async_context(open_bus(settings.nats_url, settings.environment, "scaler"))

        def unready() -> list[str]:
            reasons = [] if bus.connected else ["not connected to NATS"]
            return reasons if started.is_set() else [*reasons, "not listening yet"]

        await stack.enter_async_context(HttpDoor(settings.http_host, settings.http_port, unready))
        targets = await stack.enter_async_context(open_targets(rules, settings, inputs.samples))
        lease = Lease(await bus.bucket("leases"), "scaler")
        stack.push_async_callback(lease.release)
        ledger = Ledger(rules)
        audit = AuditStream(bus.js, bus.subjects)
        turns = Turns(rules.services)
        tracer = tracing.get_tracer("tidegate.scaler")
        kept = await bus.bucket("checkpoints")
        controllers.extend(
            Controller(
                service,
                its,
                settings,
                inputs,
                audit,
                Checkpoints(kept, service),
                targets[service],
                Headroom(service, its, targets[service], ledger),
                lease,
                tracer,
                turns,
            )
            for service, its in rules.services.items()
        )
        inputs.listen(bus)
        await bus.broker.start()
        # Whoever leads must know what has been heard until now: silence would end every "has held since".
        await until_heard(bus, HEARD_S)
        started.set()
        holding = keep(lease, settings.scaler_id.encode(), won=wake, every_s=settings.scaler_lease_s, ask_every_s=ASK_S)
        side_tasks = [holding, watch_ears(bus), _prune(inputs), *(controller.run() for controller in controllers)]
        try:
            await run_until(stop, side_tasks)
        finally:
            await asyncio.gather(*(controller.drain(DRAIN_S) for controller in controllers))


async def _prune(inputs: Inputs) -> None:
    while True:
        await asyncio.sleep(PRUNE_S)
        inputs.forget(time.time())
