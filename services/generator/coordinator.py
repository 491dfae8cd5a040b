"""The leased coordinator of one run: fixes its plan, says each second where it stands, and ends it.

Any worker may be it. Its death costs nothing: the plan is in the bucket, the last state in the stream, and the next
holder of the lease goes on from there.
"""

import asyncio
import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime

from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from services.generator.coordination import Plan, next_state
from services.generator.guard import reason_to_stop
from services.generator.membership import Membership
from services.generator.registry import Registry
from shared.bus import Bus, publish_after
from shared.clock import wall_us
from shared.contracts.base import utc_of_us
from shared.contracts.run import RunDesired, RunState
from shared.lease import ANSWER_S, Lease

# Every worker hears of the run and takes its stripes before the first request is due.
LEAD_US = 1_500_000
# How old what is asked of a run may become before it is said again (it is kept for 30 days), and how often to look.
REPEAT_S, LOOK_S = 86_400.0, 3_600.0
logger = logging.getLogger(__name__)


class Plans:
    """The plan of each run in the ``shards`` bucket, created once by whoever is first."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def read(self, run: str) -> Plan | None:
        try:
            entry = await self._bucket.get(run)
        except KeyNotFoundError:
            return None
        return Plan(**json.loads(entry.value or b"{}"))

    async def create(self, desired: RunDesired, now_us: int) -> Plan:
        """Fix the start a moment ahead and cut the stripes; no more of them than users."""
        plan = Plan(now_us + LEAD_US, min(desired.shards, max(load.users for load in desired.loads)))
        try:
            await self._bucket.create(desired.run, _json(plan))
        except KeyWrongLastSequenceError:
            return await self.read(desired.run) or plan
        return plan

    async def repeat(self, run: str, plan: Plan) -> None:
        """Keep the plan as long again as a new one."""
        await self._bucket.put(run, _json(plan))


def _json(plan: Plan) -> bytes:
    return json.dumps(asdict(plan)).encode()


class Coordinator:
    """Tries for the lease of each active run and, where it has it, moves the run on."""

    def __init__(self, bus: Bus, worker: str, plans: Plans, leases: KeyValue, registry: Registry, members: Membership):
        self._bus, self._worker, self._plans, self._leases = bus, worker, plans, leases
        self._registry, self._members = registry, members
        self._held: dict[str, Lease] = {}
        self._plan: dict[str, Plan] = {}
        self._looked_at: dict[str, float] = {}

    async def tick(self) -> None:
        """Once a second. A broker that is away leaves everything as it is."""
        active = self._registry.active()
        for run in [run for run in self._held if run not in active]:
            await self._held.pop(run).release()
            self._plan.pop(run, None)
            self._looked_at.pop(run, None)
            self._members.forget(run)
        for run, known in active.items():
            if known.state is not None:
                self._members.settle(known.state)
            try:
                if known.desired is not None and await self._lead(run):
                    await self._advance(known.desired, known.state or await self._last_state(run))
            except (NatsError, APIError, TimeoutError) as error:
                logger.warning("run %s not moved on: %s", run, error or type(error).__name__)

    async def _lead(self, run: str) -> bool:
        lease = self._held.setdefault(run, Lease(self._leases, f"coordinator.{run}"))
        value = self._worker.encode()
        if lease.lost:
            if not await lease.acquire(value):
                return False
            logger.info("coordinating run %s", run)
        else:
            await lease.renew(value)
        return lease.held

    async def _last_state(self, run: str) -> RunState | None:
        """What was last said of a run of which this process has only heard that it is asked for."""
        stream, subject = self._bus.subjects.stream("RUNS"), self._bus.subjects.run_state(run)
        try:
            message = await self._bus.js.get_last_msg(stream, subject)
        except NotFoundError:
            return None
        return RunState.model_validate_json(message.data or b"")

    async def _advance(self, desired: RunDesired, previous: RunState | None) -> None:
        if previous is not None and previous.phase.final:
            self._registry.hear_state(previous)
            return
        now_us = wall_us()
        if self._members.deaf(now_us):
            return
        plan = self._plan.get(desired.run) or await self._plans.read(desired.run)
        if plan is None:
            plan = await self._plans.create(desired, now_us)
        self._plan[desired.run] = plan
        await self._repeat(desired, plan)
        if previous is not None:
            self._members.recall(previous)
        members = self._members.of(desired.run)
        state = next_state(desired, plan, previous, members, self._worker, now_us)
        subject = self._bus.subjects.run_state(desired.run)
        await self._bus.js.publish(subject, state.model_dump_json().encode(), timeout=ANSWER_S)
        self._registry.hear_state(state)
        if previous is None or previous.phase is not state.phase:
            logger.info("run %s is %s%s", desired.run, state.phase, f": {state.reason}" if state.reason else "")

        if state.day is not None and not state.phase.final and desired.status != "stopped":
            reason = reason_to_stop(desired, members, state.day, self._registry.harm(desired.run), state.gone.sent)
            if reason:
                await self._stop(desired, reason)

    async def _repeat(self, desired: RunDesired, plan: Plan) -> None:
        """Once an hour: what is asked of a run may not become older than its stream and bucket remember."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at.get(desired.run, float("-inf")) < LOOK_S:
            return
        self._looked_at[desired.run] = now
        await self._plans.repeat(desired.run, plan)
        stream, subject = self._bus.subjects.stream("RUNS"), self._bus.subjects.run_desired(desired.run)
        try:
            kept = await self._bus.js.get_last_msg(stream, subject)
        except NotFoundError:
            kept = RawStreamMsg(data=desired.model_dump_json().encode())
        if kept.time is None or (datetime.now(UTC) - kept.time).total_seconds() > REPEAT_S:
            await publish_after(self._bus.js, subject, kept.data or b"", kept.seq or 0, ANSWER_S)

    async def _stop(self, desired: RunDesired, reason: str) -> None:
        """Ask that the run stops, unless somebody has just changed it: then the next tick does."""
        stream, subject = self._bus.subjects.stream("RUNS"), self._bus.subjects.run_desired(desired.run)
        kept = await self._bus.js.get_last_msg(stream, subject)
        if RunDesired.model_validate_json(kept.data or b"").generation != desired.generation:
            return
        logger.warning("run %s: %s", desired.run, reason)
        stopped = desired.changed(utc_of_us(wall_us()), status="stopped", reason=reason)
        await publish_after(self._bus.js, subject, stopped.model_dump_json().encode(), kept.seq or 0, ANSWER_S)

    async def close(self) -> None:
        await asyncio.gather(*(lease.release() for lease in self._held.values()))
