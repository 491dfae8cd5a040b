"""The stand-in platform as its callers and Tidegate see it, through real processes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import psutil
import pytest

from tests.integration.platform_process import (
    SECRET,
    Caller,
    PlatformProcess,
    SpanReceiver,
    poll_until,
    run_platform,
)

pytestmark = pytest.mark.integration
CALLERS_SPAN = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def receiver() -> Iterator[SpanReceiver]:
    receiver = SpanReceiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, receiver: SpanReceiver) -> Iterator[PlatformProcess]:
    folder: Path = tmp_path_factory.mktemp("platform")
    with run_platform(folder, TIDEGATE_OTLP_ENDPOINT=receiver.url) as platform:
        yield platform
        assert platform.stop() == 0


@pytest.fixture
async def caller(platform: PlatformProcess) -> AsyncIterator[Caller]:
    """Signed in, with every service back at its first size and without a fault."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        caller = Caller(platform, session)
        await caller.sign_in()
        yield caller
        for service in await caller.expect(200, "GET", "supervisor", "/services"):
            await caller.set_fault(service["service"], "none")


def traceparent(flags: str = "01") -> tuple[str, dict[str, str]]:
    trace_id = uuid.uuid4().hex
    return trace_id, {"traceparent": f"00-{trace_id}-{CALLERS_SPAN}-{flags}"}


async def test_a_workflow_crosses_all_three_systems_in_one_trace(caller: Caller, receiver: SpanReceiver) -> None:
    trace_id, headers = traceparent()
    results = await caller.run_workflow(headers)
    assert results["status"] == "completed"
    (result,) = results["results"]
    assert (result["system"], result["trace_id"]) == ("neuroweaver", trace_id)

    def chain() -> list[str]:
        """Span names from the inference up to the caller's own span."""
        spans = {span.span_id.hex(): span for _, span in receiver.spans.get(trace_id, [])}
        at = next((span for span in spans.values() if span.name == "neuroweaver.inference"), None)
        names = []
        while at is not None:
            names.append(at.name)
            parent_id = at.parent_span_id.hex()
            at = spans.get(parent_id)
            if parent_id == CALLERS_SPAN:
                names.append("the caller")
        return names

    whole = [
        "neuroweaver.inference",
        "POST /api/inference",
        "POST neuroweaver /api/inference",
        "POST /api/ai/requests",
        "POST relaycore /api/ai/requests",
        "autmatrix.execution",
        "POST /api/workflows/{id}/execute",
        "the caller",
    ]

    async def is_whole() -> bool:
        return chain() == whole

    await poll_until(is_whole)
    services = {service for service, _ in receiver.spans[trace_id]}
    assert services == {"autmatrix-backend", "relaycore", "neuroweaver-backend"}


async def test_an_unsampled_trace_is_carried_through_and_not_exported(caller: Caller, receiver: SpanReceiver) -> None:
    unsampled, headers = traceparent("00")
    results = await caller.run_workflow(headers)
    assert results["results"][0]["trace_id"] == unsampled
    sampled, headers = traceparent()
    await caller.run_workflow(headers)

    async def is_later_one_exported() -> bool:
        return any(span.name == "neuroweaver.inference" for _, span in receiver.spans.get(sampled, []))

    await poll_until(is_later_one_exported)
    assert unsampled not in receiver.spans


@pytest.mark.parametrize("system", ["autmatrix", "relaycore", "neuroweaver"])
async def test_a_wrong_password_and_an_expired_or_missing_token_are_refused(caller: Caller, system: str) -> None:
    body = {"username": "ada", "password": "wrong"}
    refused = await caller.expect(401, "POST", system, "/api/auth/login", json=body)
    assert refused == {"error": "invalid credentials"}
    claims = {"sub": "ada", "exp": time.time() - 1}
    expired = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}
    path = {"autmatrix": "/api/workflows", "relaycore": "/api/ai/requests", "neuroweaver": "/api/inference"}[system]
    assert await caller.expect(401, "POST", system, path, headers=expired, json={}) == {"error": "token has expired"}
    caller.headers.clear()
    assert await caller.expect(401, "POST", system, path, json={}) == {"error": "missing bearer token"}


async def test_a_malformed_workflow_is_refused_with_its_field_named(caller: Caller) -> None:
    answer = await caller.expect(400, "POST", "autmatrix", "/api/workflows", json={"name": "w", "steps": [{}]})
    assert answer["error"].startswith("steps[0].type:")
    await caller.expect(404, "GET", "autmatrix", "/api/workflows/none/status")


async def test_results_are_refused_until_there_are_some(caller: Caller) -> None:
    step = {"type": "ai_task", "prompt": "p"}
    created = await caller.expect(201, "POST", "autmatrix", "/api/workflows", json={"name": "w", "steps": [step]})
    answer = await caller.expect(409, "GET", "autmatrix", f"/api/workflows/{created['id']}/results")
    assert answer["error"].endswith("is created")


@pytest.mark.parametrize(("strategy", "key"), [("cost", "cost"), ("latency", "latency_ms")])
async def test_a_routing_decision_can_be_checked_from_outside(caller: Caller, strategy: str, key: str) -> None:
    body = {"prompt": "which gear", "strategy": strategy}
    accepted = await caller.expect(202, "POST", "relaycore", "/api/ai/requests", json=body)
    path = f"/api/ai/requests/{accepted['id']}"

    async def is_completed() -> bool:
        return bool((await caller.expect(200, "GET", "relaycore", path))["status"] == "completed")

    await poll_until(is_completed)
    routing = await caller.expect(200, "GET", "relaycore", f"{path}/routing")
    best = min(routing["candidates"], key=lambda candidate: candidate[key])
    assert routing["model"] == best["model"]
    assert routing["routing_latency_ms"] >= routing["cost_optimization_ms"] > 0


async def test_a_stream_arrives_token_by_token(caller: Caller) -> None:
    body = {"prompt": "p", "use_specialized_model": True, "stream": True, "max_tokens": 8}
    async with caller.stream("relaycore", "/api/ai/requests", body) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        lines = [(time.monotonic(), line.decode().strip()) async for line in response.content]
    events = [(at, line) for at, line in lines if line]
    assert [text[:14] for _, text in events[:-1]] == ['data: {"token"'] * 8
    assert events[-1][1] == "data: [DONE]"
    # Seven gaps of a real inference: far more than one write that was merely cut up.
    assert events[-1][0] - events[0][0] > 0.02


async def test_the_first_selection_of_a_model_waits_for_its_load(caller: Caller) -> None:
    body = {"domain": "automotive", "task": "diagnostics"}
    first, second = [await caller.expect(200, "POST", "neuroweaver", "/api/models/select", json=body) for _ in range(2)]
    # The loop counts whole milliseconds.
    assert first["load_time_ms"] > 299
    assert second == {"model_id": first["model_id"], "loaded": True, "load_time_ms": 0.0}
    await caller.expect(400, "POST", "neuroweaver", "/api/models/select", json={"domain": "cooking"})


async def route_many(caller: Caller, count: int, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """`count` requests at once that RelayCore answers itself; every one must succeed."""
    body = {"prompt": "p", "wait": True, "model_preference": "quartz-swift"}
    calls = [
        caller.expect(200, "POST", "relaycore", "/api/ai/requests", json=body, headers=headers) for _ in range(count)
    ]
    return list(await asyncio.gather(*calls))


async def test_another_replica_shortens_the_line(caller: Caller) -> None:
    async def slowest_routing_ms() -> float:
        answers = await route_many(caller, 24)
        return max(float(answer["routing"]["routing_latency_ms"]) for answer in answers)

    await caller.scale("relaycore", 1)
    alone_ms = await slowest_routing_ms()
    await caller.scale("relaycore", 3)
    assert alone_ms > 24 * 12 * 0.7
    assert await slowest_routing_ms() < alone_ms * 0.6


async def test_counts_outlive_the_replicas_that_made_them(caller: Caller) -> None:
    run = uuid.uuid4().hex
    marked = {"X-Tidegate-Run": run, "X-Tidegate-Action": "routing/send"}
    await caller.scale("relaycore", 3)
    await route_many(caller, 12, marked)
    service = await caller.scale("relaycore", 1)
    psutil.Process(service["instances"][0]["pid"]).kill()

    async def is_replaced() -> bool:
        now = await caller.service("relaycore")
        return bool(now["ready"] == 1 and now["instances"][0]["pid"] != service["instances"][0]["pid"])

    await poll_until(is_replaced)
    await route_many(caller, 3, marked)
    counts = await caller.expect(200, "GET", "supervisor", f"/counts?run={run}")
    assert counts == {"autmatrix": {}, "relaycore": {"routing/send": 15}, "neuroweaver": {}}


async def test_calls_between_systems_are_not_counted(caller: Caller) -> None:
    run = uuid.uuid4().hex
    await caller.run_workflow({"X-Tidegate-Run": run, "X-Tidegate-Action": "cross/workflow"})
    counts = await caller.expect(200, "GET", "supervisor", f"/counts?run={run}")
    assert counts["autmatrix"]["cross/workflow"] >= 4
    assert (counts["relaycore"], counts["neuroweaver"]) == ({}, {})


async def test_scaling_up_and_down_under_load_loses_no_request(caller: Caller) -> None:
    is_over = False
    answered = 0

    async def keep_calling() -> None:
        nonlocal answered
        while not is_over:
            await route_many(caller, 1)
            answered += 1

    async def keep_running_workflows() -> None:
        nonlocal answered
        while not is_over:
            assert (await caller.run_workflow())["status"] == "completed"
            answered += 1

    load = asyncio.gather(*(keep_calling() for _ in range(3)), *(keep_running_workflows() for _ in range(3)))
    try:
        await asyncio.gather(caller.scale("relaycore", 3), caller.scale("autmatrix-backend", 3))
        await asyncio.gather(caller.scale("relaycore", 1), caller.scale("autmatrix-backend", 1))
    finally:
        is_over = True
        await load
    assert answered > 10


async def test_an_older_epoch_and_an_impossible_number_are_refused(caller: Caller) -> None:
    path = "/services/neuroweaver-backend/replicas"
    await caller.expect(202, "PUT", "supervisor", path, json={"replicas": 1, "epoch": 5, "decision": "d"})
    stale = await caller.expect(409, "PUT", "supervisor", path, json={"replicas": 2, "epoch": 4, "decision": "d"})
    assert stale["epoch"] == 5
    await caller.expect(422, "PUT", "supervisor", path, json={"replicas": 9, "epoch": 5, "decision": "d"})
    await caller.expect(422, "PUT", "supervisor", path, json={"replicas": "two", "epoch": 5})
    await caller.expect(404, "PUT", "supervisor", "/services/none/replicas", json={"replicas": 1, "epoch": 5})
    service = await caller.expect(202, "PUT", "supervisor", path, json={"replicas": 1, "epoch": 5, "decision": "d"})
    assert (service["desired"], service["ready"], service["epoch"]) == (1, 1, 5)


async def test_faults_strike_every_replica_also_new_ones(caller: Caller) -> None:
    await caller.scale("relaycore", 1)
    await caller.set_fault("relaycore", "errors", rate=1.0)
    await caller.scale("relaycore", 2)
    body = {"prompt": "p", "wait": True}
    for _ in range(4):  # both replicas in turn
        await caller.expect(500, "POST", "relaycore", "/api/ai/requests", json=body)
    await caller.set_fault("relaycore", "slow", factor=10)
    answer = await caller.expect(200, "POST", "relaycore", "/api/ai/requests", json=body)
    assert answer["routing"]["routing_latency_ms"] > 40
    await caller.set_fault("relaycore", "none")
    await route_many(caller, 2)
    await caller.expect(422, "POST", "supervisor", "/faults", json={"service": "relaycore", "kind": "sleepy"})


async def test_a_hanging_system_answers_nothing_until_the_fault_is_cleared(caller: Caller) -> None:
    await caller.set_fault("relaycore", "hang")
    hanging = asyncio.create_task(route_many(caller, 2))
    done, _ = await asyncio.wait([hanging], timeout=0.25)
    assert not done
    status, _ = await caller.call("GET", "relaycore", "/health")
    assert status == 200
    await caller.set_fault("relaycore", "none")
    assert len(await hanging) == 2


async def test_killed_replicas_are_replaced_and_their_executions_fail_visibly(caller: Caller) -> None:
    before = await caller.scale("autmatrix-backend", 1)
    await caller.set_fault("relaycore", "hang")  # so the execution is under way when its replica dies
    path = await caller.start_workflow()
    psutil.Process(before["instances"][0]["pid"]).kill()

    async def has_failed() -> bool:
        status, answer = await caller.call("GET", "autmatrix", f"{path}/status")
        assert status in (200, 502, 503), answer
        return bool(status == 200 and answer["status"] == "failed")

    await poll_until(has_failed)
    results = await caller.expect(200, "GET", "autmatrix", f"{path}/results")
    assert results["error"] == f"{before['instances'][0]['id']} died"
    after = await caller.service("autmatrix-backend")
    assert (after["ready"], after["restarts"]) == (1, before["restarts"] + 1)


async def test_every_replica_can_be_scraped_on_its_own_port(caller: Caller) -> None:
    names = {
        "autmatrix": "platform_queue_length",
        "relaycore": "relaycore_routing_latency_seconds_count",
        "neuroweaver": "simulated_gpu_usage_ratio",
    }
    for group in await caller.expect(200, "GET", "supervisor", "/sd"):
        async with aiohttp.request("GET", f"http://{group['targets'][0]}/metrics") as response:
            text = await response.text()
        assert set(group["labels"]) == {"service", "system", "instance"}
        for name in (names[group["labels"]["system"]], "platform_requests_in_flight", "process_cpu_seconds_total"):
            assert any(line.startswith(name) for line in text.splitlines()), name
