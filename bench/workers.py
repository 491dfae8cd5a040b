"""Tidegate's own side of a bench: a broker on the target's core, generator workers on the tool's, and their frames."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.harness import TARGET_CORE, Counting, Sample, pin, watch
from deploy.embedded.nats import NatsServer
from shared.contracts.frame import Frame
from shared.contracts.run import Phase, RunDesired, RunState
from shared.contracts.timing import ErrorKind, Kind
from tests.integration.fleet import Fleet, desired, fleet

_JSON = {"Authorization": "Bearer ${token}"}
WORKFLOW: dict[str, Any] = {
    "name": "workflow",
    "system": "target",
    "steps": [
        {
            "action": "sign_in", "system": "target", "method": "POST", "path": "/sessions", "once": True,
            "body": {"username": "user-${user}", "password": "right"},
            "capture": {"token": "$.access_token"}, "expect": {"status": 200}, "valid_for": "$.expires_in",
        },
        {
            "action": "create", "system": "target", "method": "POST", "path": "/jobs", "headers": _JSON,
            "body": {"model": "small", "input": "text of ${iteration}"},
            "capture": {"id": "$.id"}, "expect": {"status": 201},
        },
        {
            "action": "run", "system": "target", "method": "POST", "path": "/jobs/${id}/runs", "headers": _JSON,
            "body": {"priority": "high"}, "expect": {"status": 202},
        },
        {
            "action": "show", "system": "target", "path": "/jobs/${id}", "headers": _JSON,
            "expect": {"status": 200, "json": [{"json": "$.state", "equals": "done"}]},
        },
    ],
}  # fmt: skip
ONE: dict[str, Any] = {
    "name": "one",
    "system": "target",
    "workflow": False,
    "steps": [{"action": "one", "system": "target", "path": "/one", "expect": {"status": 200}}],
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left: its last state and the rows of its frames, actions by name, wall-clock µs where said so."""

    state: RunState
    frames: list[Frame]

    @property
    def rows(self) -> NDArray[np.void]:
        """Rows of requests of all frames; ``intended_us`` from the Unix epoch."""
        parts = []
        for frame in self.frames:
            kinds = np.array([action.kind for action in frame.actions])
            rows = frame.events[kinds[frame.events["action"]] == Kind.REQUEST].copy()
            rows["intended_us"] += frame.anchor_wall_us
            parts.append(rows)
        return np.concatenate(parts)

    @property
    def sent(self) -> int:
        return sum(system.sent for worker in self.state.workers for system in worker.systems)


class Bench:
    """One broker and one fleet for all rounds of a bench."""

    def __init__(self, workers: Fleet, server: NatsServer) -> None:
        self.fleet, self.server = workers, server
        self._numbers = itertools.count(1)

    def wanted(self, url: str, scenario: dict[str, Any], **changes: Any) -> RunDesired:
        run = f"bench-{next(self._numbers)}"
        made = desired(url, self.fleet.subjects.environment, run=run, scenario=scenario, **changes)
        return made.model_copy(update={"targets": {"target": url}})

    async def workers(self, *cores: int, module: str = "services.generator", **environment: str) -> None:
        """Start a worker on each of these cores: w1, w2, … in their order."""
        names = [f"w{number}" for number in range(1, len(cores) + 1)]
        await self.fleet.ready(*names, module=module, **environment)
        for name, core in zip(names, cores, strict=True):
            pin(self.fleet.processes[name].pid, core)

    async def outcome(self, run: RunDesired) -> Outcome:
        """Wait for the end of a run that was asked for."""
        state = await self.fleet.until(run.run, lambda state: state.phase.final, run.duration_s + 60)
        if state.phase is not Phase.FINISHED:
            raise SystemExit(f"run {run.run} is {state.phase}: {state.reason}")
        return Outcome(state, await self.fleet.frames(run.run))

    async def measure(self, run: RunDesired, target: Counting, *, settle_s: float, window_s: float) -> Sample:
        """Ask for a run on one worker and sample it; its events must be what the target counted."""
        (process,) = self.fleet.processes.values()
        before = target.requests()
        await self.fleet.ask(run)
        sample = await asyncio.to_thread(
            watch, target, process.pid, settle_s=settle_s, window_s=window_s, broker=self.server.child.pid
        )
        outcome = await self.outcome(run)
        rows = outcome.rows
        acknowledged = sum(system.acknowledged for worker in outcome.state.workers for system in worker.systems)
        if acknowledged < len(rows) or outcome.sent != len(rows):
            raise SystemExit(f"sent {outcome.sent}, acknowledged {acknowledged}, in the stream {len(rows)}")
        return Sample(
            sample.rate,
            sample.cpu,
            sample.memory_mb,
            sample.broker_cpu,
            len(rows) / (target.requests() - before),
            int((rows["error"] != ErrorKind.OK).sum()),
        )


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """A broker on the target's core; workers are started by the bench."""
    server = NatsServer(folder / "nats")
    server.start()
    pin(server.child.pid, TARGET_CORE)
    try:
        async with fleet(server.url, "bench", folder) as workers:
            yield Bench(workers, server)
    finally:
        server.stop()
