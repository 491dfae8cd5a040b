"""The whole stack as a user starts it, with services killed in the middle of a run."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import psycopg
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


async def tidegate(*arguments: str, timeout_s: float = 60.0) -> tuple[int, str, str]:
    """Run the command line as a user does; exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.console",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    return process.returncode or 0, out.decode(), err.decode()


def kill(stack: dict[str, Any], service: str) -> None:
    os.kill(stack["services"][service]["pid"], signal.SIGKILL)


async def carried(dsn: str, users: int, timeout_s: float) -> str:
    """Wait until a run's workers carry all users; the run."""
    deadline = time.monotonic() + timeout_s
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as store:
        while time.monotonic() < deadline:
            for run, state in await (await store.execute("SELECT run, state FROM run")).fetchall():
                if state and sum(worker["users"] for worker in state["workers"]) == users:
                    return str(run)
            await asyncio.sleep(0.25)
    raise AssertionError(f"{users} users not carried within {timeout_s} s")


async def test_a_run_is_measured_to_the_request_though_services_are_killed(tmp_path: Path) -> None:
    data, report_file = tmp_path / "data", tmp_path / "report.json"
    code, _, err = await tidegate("up", "--data", str(data), "--workers", "2")
    assert code == 0, err
    stack = json.loads((data / "stack.json").read_text())
    try:
        running = asyncio.ensure_future(
            tidegate(
                "run", "cross_system_integration", "--data", str(data), "--users", "24", "--duration", "24s",
                "--json", str(report_file), timeout_s=120,
            )
        )  # fmt: skip
        run = await carried(stack["store_dsn"], 24, 40)
        kill(stack, "collector")
        kill(stack, "generator-w2")
        code, out, err = await running
        assert code in (0, 1), out + err
        report = json.loads(report_file.read_text())
        async with aiohttp.ClientSession() as http:
            supervisor = stack["platform"]["supervisor_url"]
            async with http.get(f"{supervisor}/counts", params={"run": run}) as answer:
                counted = sum(sum(actions.values()) for actions in (await answer.json()).values())
        sums = {key: sum(row[key] for row in report["results"]) for key in ("sent", "stored", "held", "missing")}
        assert sums["missing"] == 0
        assert sums["sent"] == sums["stored"] + sums["held"]
        lost = report["generator_health"]["lost"]
        # A machine that stands still for longer than a lease takes another worker out too.
        assert "w2" in [one["worker"] for one in lost]
        assert 0 <= counted - sums["stored"] <= sum(one["held_requests"] for one in lost), lost
        for command in ("breaches", "scaling"):
            code, out, err = await tidegate(command, "--json", "--data", str(data))
            assert code == 0, err
            assert isinstance(json.loads(out), list)
    finally:
        code, _, err = await tidegate("down", "--data", str(data))
    assert code == 0, err
    assert not [process for process in psutil.process_iter(["cmdline"]) if str(data) in str(process.info["cmdline"])]
