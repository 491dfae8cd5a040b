"""The replicas of one service: started, watched, replaced when they die, drained before they are stopped.

starting --healthy--> ready <--> unhealthy;  any --no longer wanted--> draining --idle or deadline--> stopped
any --process ended--> gone, and replaced after a pause that grows with deaths in a row
Of other sizes than are wanted: replaced one at a time, the next when the last replacement is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Any

from ..replica.spec import Fault, ReplicaSpec, ServiceConfig, Sizes
from .desired import Desired, Standing, plan_replicas, restart_delay_s
from .instance import AdminClient, Instance
from .replica_process import Nursery, ReplicaStartError

_log = logging.getLogger("platform.fleet")
_STARTING_POLL_S = 0.02
_HEALTH_EVERY_S = 1.0
_UNHEALTHY_AFTER = 3
_REPLACED_AFTER = 10
_DRAIN_POLL_S = 0.05
_STOP_DEADLINE_S = 1.5
_STEADY_AFTER_S = 10.0
_LOOPING_DEATHS = 2

SpecFor = Callable[[str, int, Sizes], ReplicaSpec]
"""The spec of a new replica from its instance id, ordinal and sizes."""


class Fleet:
    """One service's replicas. Every change of state happens on the event loop; `ready` is what the front door uses."""

    def __init__(
        self, service: str, config: ServiceConfig, admin: AdminClient, nursery: Nursery, spec_for: SpecFor
    ) -> None:
        self.service = service
        self.config = config
        self.desired = Desired(config.replicas, config.sizes, config.min, config.max)
        self.instances: list[Instance] = []
        self.ready: list[Instance] = []
        self.fault = Fault()
        self.restarts = 0
        self._admin = admin
        self._nursery = nursery
        self._spec_for = spec_for
        self._ordinal = 0
        self._starts_pending: list[int] = []
        self._dead: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    @property
    def is_at_strength(self) -> bool:
        """Whether as many replicas are ready as are wanted."""
        return len(self.ready) >= self.desired.replicas

    def ready_instances(self) -> Sequence[Instance]:
        """The replicas that may be sent requests at the moment."""
        return self.ready

    def request_replicas(self, replicas: int, epoch: int, decision: str | None) -> None:
        """Want `replicas` from now on. StaleEpochError and OutOfLimitsError as in `desired.py`."""
        before = self.desired.replicas
        self.desired = self.desired.after(replicas, epoch, decision)
        if replicas != before:
            _log.info("%s: %d replicas wanted, were %d (decision %s)", self.service, replicas, before, decision)
        self.reconcile()

    def request_sizes(self, sizes: Sizes, epoch: int, decision: str | None) -> None:
        """Want replicas of `sizes` from now on, by a rolling update. Refused as `request_replicas` is."""
        before = self.desired.sizes
        self.desired = self.desired.resized(sizes, epoch, decision)
        if sizes != before:
            _log.info("%s: %s wanted for each replica, were %s (decision %s)", self.service, sizes, before, decision)
        self.reconcile()

    @property
    def is_updating(self) -> bool:
        """Whether replicas of other sizes than are wanted still serve."""
        return any(one.sizes != self.desired.sizes for one in self.instances if one.state != "draining")

    def reconcile(self, deaths: int = 0) -> None:
        """Start and drain what the plan says. Safe to call at any time. `deaths`: of the one that is replaced."""
        if self._is_stopping:
            return
        standings = [
            Standing(one.id, one.state, one.outstanding, one.sizes != self.desired.sizes) for one in self.instances
        ]
        plan = plan_replicas(self.desired.replicas, standings)
        for instance in [one for one in self.instances if one.id in plan.drain]:
            self._set_state(instance, "draining")
            self._spawn(self._drain(instance))
        for number in range(plan.start - len(self._starts_pending)):
            inherited = 0 if number else deaths
            self._starts_pending.append(inherited)
            self._spawn(self._start(inherited))

    async def set_fault(self, fault: Fault) -> None:
        """Put `fault` in force on every replica, also those to come."""
        self.fault = fault
        await asyncio.gather(*(self._admin.set_fault(one, fault) for one in self.instances if one.url))

    async def stop(self) -> None:
        """Stop every replica, without draining."""
        self._is_stopping = True
        self.ready = []
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(one.process.stop(_STOP_DEADLINE_S) for one in self.instances))
        self.instances = []

    def as_json(self) -> dict[str, Any]:
        states = [one.state for one in self.instances]
        deaths = [*self._starts_pending, *(one.deaths for one in self.instances if one.state == "starting")]
        looping = sum(count >= _LOOPING_DEATHS for count in deaths)
        return {
            "service": self.service,
            "system": self.config.system,
            "desired": self.desired.replicas,
            "ready": len(self.ready),
            "starting": len(deaths) - looping,
            "looping": looping,
            "updating": self.is_updating,
            "draining": states.count("draining"),
            "epoch": self.desired.epoch,
            "decision": self.desired.decision,
            "min": self.desired.min,
            "max": self.desired.max,
            "sizes": asdict(self.desired.sizes),
            "restarts": self.restarts,
            "fault": self.fault.kind,
            "instances": [one.as_json() for one in self.instances],
        }

    async def _start(self, deaths: int) -> None:
        try:
            await asyncio.sleep(restart_delay_s(deaths))
            self._ordinal += 1
            ordinal = self._ordinal
            id_ = f"{self.service}-{ordinal}"
            sizes = self.desired.sizes
            process = await self._nursery.start(self._spec_for(id_, ordinal, sizes))
            instance = Instance(id_, process, time.time(), sizes, deaths)
            self.instances.append(instance)
        finally:
            self._starts_pending.remove(deaths)
        self._spawn(self._watch_process(instance))
        watch = self._spawn(self._watch_health(instance))
        instance.tasks.add(watch)

    async def _watch_process(self, instance: Instance) -> None:
        """Until the process ends; then replace it unless it was to end."""
        code = await instance.process.wait()
        for task in instance.tasks:
            task.cancel()
        was_wanted = instance.state != "draining"
        self.instances.remove(instance)
        self._publish_ready()
        if was_wanted:
            self.restarts += 1
            _log.warning("%s: ended with code %s; a new replica takes its place", instance.id, code)
            self._dead.append(instance.id)
        self.reconcile(instance.deaths + 1 if was_wanted else 0)
        await self._fail_orphans()

    async def _watch_health(self, instance: Instance) -> None:
        """Give the replica traffic while it is healthy; end it when it has not been for long."""
        try:
            instance.url = f"http://127.0.0.1:{await instance.process.read_port()}"
        except ReplicaStartError as error:
            _log.warning("%s: %s", instance.id, error)
            return
        while not await self._admin.is_healthy(instance):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(_STARTING_POLL_S)
        await self._admin.set_fault(instance, self.fault)
        if instance.state == "starting":
            self._set_state(instance, "ready")
            self.reconcile()
        ready_at = time.monotonic()
        await self._fail_orphans()
        while True:
            await asyncio.sleep(_HEALTH_EVERY_S)
            if await self._admin.is_healthy(instance):
                instance.failed_checks = 0
                if time.monotonic() - ready_at >= _STEADY_AFTER_S:
                    instance.deaths = 0
                if instance.state == "unhealthy":
                    self._set_state(instance, "ready")
                continue
            instance.failed_checks += 1
            if instance.failed_checks >= _UNHEALTHY_AFTER and instance.state == "ready":
                self._set_state(instance, "unhealthy")
            if instance.failed_checks >= _REPLACED_AFTER:
                await instance.process.stop(_STOP_DEADLINE_S)

    async def _fail_orphans(self) -> None:
        """Have a ready replica mark the work of dead ones as failed, now or when there is one."""
        while self._dead and self.ready:
            dead = self._dead.pop()
            if not await self._admin.fail_orphans(self.ready[0], dead):
                self._dead.append(dead)
                return

    async def _drain(self, instance: Instance) -> None:
        """Wait until nothing is outstanding, at the front door and behind it, then stop the replica."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain_deadline_s):
                while instance.outstanding or not await self._is_idle(instance):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(_DRAIN_POLL_S)
        for task in instance.tasks:
            task.cancel()
        await instance.process.stop(_STOP_DEADLINE_S)

    async def _is_idle(self, instance: Instance) -> bool:
        return not instance.url or await self._admin.is_idle(instance)

    def _set_state(self, instance: Instance, state: Any) -> None:
        instance.state = state
        _log.info("%s: %s", instance.id, state)
        self._publish_ready()

    def _publish_ready(self) -> None:
        self.ready = [one for one in self.instances if one.state == "ready"]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
