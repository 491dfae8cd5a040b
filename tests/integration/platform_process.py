"""Drives the stand-in platform as the real processes it is: start, stop, calls, polls, and a receiver of its spans."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.otlp_receiver import OtlpReceiver

ROOT = Path(__file__).parents[2]
SECRET = "integration-secret-of-32-bytes-and-more"
PASSWORD = "open-sesame"
START_DEADLINE_S = 30.0
_POLL_S = 0.02


class PlatformProcess:
    """A running supervisor with everything under it."""

    def __init__(self, process: subprocess.Popen[bytes], state: dict[str, Any]) -> None:
        self.process = process
        self.supervisor_url: str = state["supervisor_url"]
        self.targets: dict[str, str] = state["targets"]

    def stop(self) -> int:
        """SIGTERM, then the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextlib.contextmanager
def run_platform(folder: Path, *flags: str, **environment: str) -> Iterator[PlatformProcess]:
    """A platform that is ready, with its state file, data and log in `folder`."""
    state_file = folder / "state.json"
    settings = {
        "TIDEGATE_PLATFORM_SECRET": SECRET,
        "TIDEGATE_PLATFORM_PASSWORD": PASSWORD,
        "TIDEGATE_PLATFORM_STATE_FILE": str(state_file),
        "TIDEGATE_PLATFORM_DATA": str(folder / "data"),
    }
    with (folder / "platform.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.platform", *flags],
            cwd=ROOT,
            env=os.environ | settings | environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while not state_file.exists():
            assert process.poll() is None, (folder / "platform.log").read_text()
            assert time.monotonic() < deadline, (folder / "platform.log").read_text()
            time.sleep(_POLL_S)
        yield PlatformProcess(process, json.loads(state_file.read_text()))
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


async def poll_until(is_so: Callable[[], Awaitable[bool]], deadline_s: float = 10.0) -> None:
    """Ask until `is_so` says yes; AssertionError when the deadline passes first."""
    deadline = time.monotonic() + deadline_s
    while not await is_so():
        assert time.monotonic() < deadline, f"not so within {deadline_s} s"
        await asyncio.sleep(_POLL_S)


class Caller:
    """A signed-in user of the three systems who can also speak to the supervisor."""

    def __init__(self, platform: PlatformProcess, session: aiohttp.ClientSession) -> None:
        self._platform = platform
        self._session = session
        self.headers: dict[str, str] = {}

    async def sign_in(self) -> None:
        body = {"username": "ada", "password": PASSWORD}
        status, answer = await self.call("POST", "autmatrix", "/api/auth/login", json=body)
        assert status == 200, answer
        self.headers["Authorization"] = f"Bearer {answer['access_token']}"

    async def call(
        self, method: str, system: str, path: str, headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, Any]:
        """Status and JSON body of a call to a system's front door, or to the `supervisor`."""
        base = self._platform.supervisor_url if system == "supervisor" else self._platform.targets[system]
        sent = self.headers | (headers or {})
        async with self._session.request(method, base + path, headers=sent, **options) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def expect(self, status: int, method: str, system: str, path: str, **options: Any) -> Any:
        """The body of a call that must answer `status`."""
        answered, body = await self.call(method, system, path, **options)
        assert answered == status, body
        return body

    def stream(self, system: str, path: str, body: dict[str, Any]) -> Any:
        """An open POST whose answer is read as it comes."""
        return self._session.post(self._platform.targets[system] + path, headers=self.headers, json=body)

    async def service(self, name: str) -> Any:
        return await self.expect(200, "GET", "supervisor", f"/services/{name}")

    async def scale(self, name: str, replicas: int, epoch: int = 0) -> Any:
        """Ask for `replicas` and wait until they are there and no others are."""
        body = {"replicas": replicas, "epoch": epoch, "decision": "test"}
        await self.expect(202, "PUT", "supervisor", f"/services/{name}/replicas", json=body)

        async def is_there() -> bool:
            service = await self.service(name)
            return bool(service["ready"] == replicas == len(service["instances"]))

        await poll_until(is_there)
        return await self.service(name)

    async def set_fault(self, service: str, kind: str, **values: float) -> None:
        body = {"service": service, "kind": kind, **values}
        await self.expect(200, "POST", "supervisor", "/faults", json=body)

    async def start_workflow(self, headers: dict[str, str] | None = None) -> str:
        """Create and execute a workflow of one specialised step; its path."""
        step = {"type": "ai_task", "prompt": "why does it rattle", "use_specialized_model": True}
        body = {"name": "w", "description": "d", "steps": [step]}
        created = await self.expect(201, "POST", "autmatrix", "/api/workflows", json=body, headers=headers)
        path = f"/api/workflows/{created['id']}"
        started = await self.expect(200, "POST", "autmatrix", f"{path}/execute", headers=headers)
        assert started["status"] == "running"
        return path

    async def run_workflow(self, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """The results of a workflow, once it has ended."""
        path = await self.start_workflow(headers)

        async def has_ended() -> bool:
            status = await self.expect(200, "GET", "autmatrix", f"{path}/status", headers=headers)
            return status["status"] in ("completed", "failed")

        await poll_until(has_ended)
        results: dict[str, Any] = await self.expect(200, "GET", "autmatrix", f"{path}/results", headers=headers)
        return results


class SpanReceiver:
    """What an OTLP receiver took: `(service, span)` by trace id."""

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[str, Any]]] = {}
        server = OtlpReceiver(self._take)
        self.url, self.close = server.url, server.close

    def _take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {one.key: one.value.string_value for one in resource_spans.resource.attributes}
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    taken = self.spans.setdefault(span.trace_id.hex(), [])
                    taken.append((attributes["service.name"], span))
