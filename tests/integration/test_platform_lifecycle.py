"""The stand-in platform's beginning and end: refusals at the start, an orderly stop, and none left after SIGKILL."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.integration.platform_process import PASSWORD, ROOT, run_platform

pytestmark = pytest.mark.integration

SMALL = ("--replicas", "autmatrix-backend=1", "--replicas", "relaycore=1")


def wait_until_gone(children: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(children, timeout=3)
    assert not alive


def test_sigterm_stops_everything_in_time_and_leaves_nothing(tmp_path: Path) -> None:
    with run_platform(tmp_path, *SMALL, TIDEGATE_PLATFORM_DATA="", TMPDIR=str(tmp_path)) as platform:
        children = psutil.Process(platform.process.pid).children(recursive=True)
        assert len(children) == 4  # the fork server and three replicas
        assert [path.name for path in tmp_path.glob("tidegate-platform-*")]
        started_at = time.monotonic()
        assert platform.stop() == 0
        assert time.monotonic() - started_at < 3
    wait_until_gone(children)
    assert [path.name for path in tmp_path.iterdir()] == ["platform.log"]


def test_a_supervisor_killed_outright_leaves_no_child(tmp_path: Path) -> None:
    with run_platform(tmp_path, *SMALL) as platform:
        children = psutil.Process(platform.process.pid).children(recursive=True)
        assert len(children) == 4  # the fork server and three replicas
        platform.process.kill()
        platform.process.wait(10)
        wait_until_gone(children)


def test_the_death_of_the_fork_server_is_answered_with_new_replicas(tmp_path: Path) -> None:
    with run_platform(tmp_path, *SMALL) as platform:
        supervisor = psutil.Process(platform.process.pid)
        (fork_server,) = supervisor.children()
        lost = [fork_server, *fork_server.children()]
        fork_server.kill()
        wait_until_gone(lost)
        deadline = time.monotonic() + 10
        while len(supervisor.children(recursive=True)) != 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert platform.stop() == 0


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--replicas", "relaycore=99"], {}, "platform: --replicas relaycore=99: outside 1 to 20"),
        ([], {"TIDEGATE_PLATFORM_CONFIG": "/nowhere.yaml"}, "platform: /nowhere.yaml: cannot be read"),
        ([], {"TIDEGATE_PLATFORM_RELAYCORE_PORT": "TAKEN"}, "platform: TIDEGATE_PLATFORM_RELAYCORE_PORT: TAKEN: Addr"),
    ],
    ids=["replicas outside the limits", "no such file", "port in use"],
)
def test_what_cannot_work_is_refused_in_one_line(flags: list[str], environment: dict[str, str], message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        filled = {name: value.replace("TAKEN", port) for name, value in environment.items()}
        ended = subprocess.run(
            [sys.executable, "-m", "examples.platform", *flags],
            cwd=ROOT,
            env=filled,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith(message.replace("TAKEN", port))
    assert ended.stderr.count("\n") == 1


def test_a_platform_started_again_on_its_folder_is_ready_at_once_and_keeps_its_counts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for times_started in (1, 2):
        folder = tmp_path / str(times_started)
        folder.mkdir()
        with run_platform(folder, *SMALL, TIDEGATE_PLATFORM_DATA=str(data)) as platform:
            target = platform.targets["relaycore"]
            request = urllib.request.Request(
                f"{target}/api/auth/login",
                data=json.dumps({"username": "user-1", "password": PASSWORD}).encode(),
                headers={"Content-Type": "application/json", "X-Tidegate-Run": "r", "X-Tidegate-Action": "s/login"},
            )
            with urllib.request.urlopen(request, timeout=5):
                pass
            with urllib.request.urlopen(f"{platform.supervisor_url}/counts?run=r", timeout=5) as answer:
                assert json.load(answer)["relaycore"] == {"s/login": times_started}
            assert "ended with code" not in (folder / "platform.log").read_text()
            assert platform.stop() == 0
