"""Generator worker processes under test, and what they say and publish."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext

from shared.config import parse
from shared.contracts.frame import Frame, decode
from shared.contracts.run import Load, RunDesired, RunState
from shared.contracts.scenario import Scenario
from shared.streams import ensure_streams
from shared.subjects import Subjects

SCENARIO: dict[str, Any] = {
    "name": "things",
    "system": "shop",
    "vars": {"colour": ["red", "green"]},
    "steps": [
        {
            "action": "authenticate",
            "system": "shop",
            "method": "POST",
            "path": "/login",
            "body": {"username": "user-${user}", "password": "${secret.shop_password}"},
            "capture": {"token": "$.access_token"},
            "once": True,
            "valid_for": "$.expires_in",
        },
        {
            "action": "create",
            "system": "shop",
            "method": "POST",
            "path": "/things",
            "headers": {"Authorization": "Bearer ${token}"},
            "body": {"colour": "${colour}", "number": "${iteration}"},
            "capture": {"thing": "$.id"},
            "expect": {"status": 201},
        },
        {
            "action": "watch",
            "system": "shop",
            "path": "/things/${thing}",
            "expect": {"json": [{"json": "$.id", "equals": "7"}]},
            "poll": {"every": "20ms", "timeout": "2s", "until": {"json": "$.state", "equals": "done"}},
        },
    ],
}


def desired(target_url: str, environment: str, **changes: Any) -> RunDesired:
    """A small run of ``SCENARIO``; load fields and run fields may be changed by name."""
    scenario = parse(Scenario, changes.pop("scenario", SCENARIO), "test")
    load = {"users": 8, "duration_s": 2.0, "scenario": scenario}
    load |= {key: changes.pop(key) for key in ("users", "rate", "duration_s", "ramp_up_s", "profile") if key in changes}
    run = {
        "run": f"run-{environment}",
        "environment": environment,
        "generation": 1,
        "status": "running",
        "loads": (Load(**load),),
        "targets": {"shop": target_url},
        "allowed_hosts": ("127.0.0.1",),
        "requested_at": datetime.now(UTC),
    }
    return RunDesired(**(run | changes))


class Fleet:
    """Workers of one environment; every one is stopped at the end of the ``fleet`` block."""

    def __init__(self, client: Client, url: str, environment: str, folder: Path) -> None:
        self.client = client
        self.js: JetStreamContext = client.jetstream()
        self.subjects = Subjects(environment)
        self._url, self._folder = url, folder
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(
        self, worker: str, module: str = "services.generator", **environment: str
    ) -> asyncio.subprocess.Process:
        variables = {
            "TIDEGATE_NATS_URL": self._url,
            "TIDEGATE_ENVIRONMENT": self.subjects.environment,
            "TIDEGATE_WORKER_ID": worker,
            "TIDEGATE_SPOOL_DIR": str(self._folder / "spool"),
            "TIDEGATE_SECRET_SHOP_PASSWORD": "right",
        }
        log = (self._folder / f"{worker}.log").open("ab")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                env=os.environ | variables | environment,
                stdout=log,
                stderr=log,
            )
        finally:
            log.close()
        self.processes[worker] = process
        return process

    async def ready(self, *names: str, module: str = "services.generator", **environment: str) -> None:
        """Start workers and wait until each has said that it is present."""
        presence = await self.client.subscribe(f"$KV.{self.subjects.bucket('leases')}.worker.*")
        await asyncio.gather(*(self.start(name, module, **environment) for name in names))
        missing = set(names)
        while missing:
            message = await presence.next_msg(timeout=30)
            missing.discard(message.subject.rsplit(".", 1)[-1])
        await presence.unsubscribe()

    def log(self, worker: str) -> str:
        return (self._folder / f"{worker}.log").read_text()

    async def ask(self, run: RunDesired) -> None:
        await self.js.publish(self.subjects.run_desired(run.run), run.model_dump_json().encode())

    async def state(self, run: str) -> RunState | None:
        try:
            message = await self.js.get_last_msg(self.subjects.stream("RUNS"), self.subjects.run_state(run))
        except nats.js.errors.NotFoundError:
            return None
        return RunState.model_validate_json(message.data or b"")

    async def until(self, run: str, condition: Callable[[RunState], bool], timeout_s: float) -> RunState:
        """Poll the run's state until a condition holds."""
        deadline = time.monotonic() + timeout_s
        state = None
        while time.monotonic() < deadline:
            state = await self.state(run)
            if state is not None and condition(state):
                return state
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within {timeout_s} s: {state}; logs: {[self.log(w) for w in self.processes]}")

    async def frames(self, run: str) -> list[Frame]:
        """Every frame of a run that the broker has now."""
        subscription = await self.js.pull_subscribe(
            self.subjects.timing(run, "*"), durable=f"reader-{run}", stream=self.subjects.stream("TIMINGS")
        )
        frames: list[Frame] = []
        while True:
            try:
                messages = await subscription.fetch(500, timeout=0.25)
            except TimeoutError:
                return frames
            for message in messages:
                frames.append(decode(message.data))
                await message.ack()

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def fleet(url: str, environment: str, folder: Path) -> AsyncIterator[Fleet]:
    """Streams made, a client open, and no worker left running afterwards."""
    client = await nats.connect(url)
    workers = Fleet(client, url, environment, folder)
    await ensure_streams(workers.js, workers.subjects)
    try:
        yield workers
    finally:
        await workers.stop()
        await client.close()
