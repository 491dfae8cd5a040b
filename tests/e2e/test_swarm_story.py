"""The whole story on a real Swarm: load, a breach, replicas added, the breach over. ``make e2e-swarm`` runs it in a
network of its own, so that the engine's ports and bridges are nobody else's."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.embedded import StackOptions, start_stack, stop_stack
from shared.settings import PROJECT_ROOT
from tests.e2e.test_story import tidegate
from tests.integration.docker_engine import IMAGE, Engine, run_engine

STORY = Path(__file__).with_name("swarm")
SWARM = PROJECT_ROOT / "deploy" / "swarm"
SERVICE = "autmatrix-backend"
RATE = 70
"""Two replicas serve 50 a second."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.environ.get("TIDEGATE_E2E_SWARM") != "1", reason="make e2e-swarm runs it"),
]


@pytest.fixture
def engine() -> Iterator[Engine]:
    if shutil.which("haproxy") is None:
        pytest.fail("no haproxy here: apt-get install haproxy")
    with run_engine(swarm=True, own_network=False) as started:
        yield started
        subprocess.run(["docker", "--host", started.url, "stack", "rm", "platform"], check=True, timeout=60)  # noqa: S607
        wait_for("the stack to be gone", lambda: not started.client.api.containers(all=True))


def wait_for(what: str, holds: Any, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.5)


def deploy(engine: Engine) -> None:
    engine.client.networks.create("tidegate", driver="overlay", attachable=True)
    images = {f"{name}_IMAGE": IMAGE for name in ("AUTMATRIX", "RELAYCORE", "NEUROWEAVER", "HAPROXY")}
    files = ["-c", str(SWARM / "platform.yaml"), "-c", str(STORY / "stand-ins.yaml")]
    subprocess.run(
        ["docker", "--host", engine.url, "stack", "deploy", "--resolve-image", "never", *files, "platform"],  # noqa: S607
        env={**os.environ, **images, "STORY": str(STORY)},
        check=True,
        timeout=60,
    )


def running(engine: Engine) -> int:
    tasks = engine.client.api.tasks({"service": f"platform_{SERVICE}", "desired-state": "running"})
    return sum(task["Status"]["State"] == "running" for task in tasks)


def wanted(engine: Engine) -> int:
    return int(engine.client.api.inspect_service(f"platform_{SERVICE}")["Spec"]["Mode"]["Replicated"]["Replicas"])


def configuration(folder: Path) -> Path:
    """The shipped one, with the samples of the Swarm's containers, and without the rule that would be faster than the
    breach."""
    shutil.copytree(PROJECT_ROOT / "config", folder)
    shutil.copy(SWARM / "resources.yaml", folder)
    rules = yaml.safe_load((folder / "scaling.yaml").read_text())
    rules["services"] = {SERVICE: {**rules["services"][SERVICE], "up": [{"metric": "memory_ratio", "above": 0.9}]}}
    (folder / "scaling.yaml").write_text(yaml.safe_dump(rules))
    return folder


async def test_load_that_is_too_much_for_two_replicas_brings_more_and_the_breach_ends(
    engine: Engine, tmp_path: Path
) -> None:
    deploy(engine)
    wait_for("two replicas", lambda: running(engine) == 2)
    data, report_file = tmp_path / "data", tmp_path / "report.json"
    target = json.dumps({"kind": "swarm", "stack": "platform"})
    options = StackOptions(
        data=data,
        workers=1,
        platform=False,
        config_dir=configuration(tmp_path / "config"),
        env={"DOCKER_HOST": engine.url, "TIDEGATE_SCALER_TARGET": target},
    )
    await asyncio.to_thread(start_stack, options)
    try:
        code, out, err = await tidegate(
            "run", str(STORY / "load.yaml"), "--data", str(data), "--target", "autmatrix=http://127.0.0.1:8000",
            "--rate", f"{RATE}/s", "--json", str(report_file), timeout_s=240,
        )  # fmt: skip
        assert code in (0, 1, 3), out + err
        code, out, err = await tidegate("breaches", "--run", "last", "--json", "--data", str(data))
        assert code == 0, err
        told = [one["data"] for one in json.loads(out) if one["data"]["metric"] == "api_response_time"]
        assert told, out
        assert {one["status"] for one in told} == {"resolved"}
        code, out, err = await tidegate("scaling", "--json", "--data", str(data))
        assert code == 0, err
        records = [one for one in json.loads(out) if one["service"] == SERVICE]
        ups = [one for one in records if one.get("action") == "scale_up"]
        assert ups, records
        done = [one for one in records if one["kind"] == "result" and one["ok"]]
        assert {one["decision"] for one in ups} <= {one["decision"] for one in done}
        assert wanted(engine) == running(engine) == max(one["target"] for one in ups) > 2
        labels = engine.client.api.inspect_service(f"platform_{SERVICE}")["Spec"]["Labels"]
        assert labels["tidegate.decision"] == ups[0]["decision"] or len(ups) > 1
        report = json.loads(report_file.read_text())
        (row,) = [one for one in report["results"] if one["action"] == "ask"]
        assert row["missing"] == 0
    finally:
        await asyncio.to_thread(stop_stack, data)
