"""A database with TimescaleDB for every test that names it; all of those share one worker, as they share the server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.collector import timescale
from tests.timescale.server import ChildServer, OwnDatabase, empty, find_obstacle

SERVER = "TIDEGATE_TEST_TIMESCALE_DSN"
PATIENCE_S = 120.0


def pytest_itemcollected(item: pytest.Item) -> None:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    needed = "timescale_dsn" in getattr(item, "fixturenames", ()) or parameters.get("store_dsn") == "timescale"
    if needed and item.config.pluginmanager.has_plugin("xdist"):
        item.add_marker(pytest.mark.xdist_group("timescale"))


@pytest.fixture(scope="session")
def timescale_dsn(servers_folder: Path) -> Iterator[str]:
    """A database with the extension, shared by all tests that this process runs.

    It is on the server that ``TIDEGATE_TEST_TIMESCALE_DSN`` names, where that is set. Skips where neither can be had,
    except in CI, where that is a failure.
    """
    named = os.environ.get(SERVER)
    obstacle = None if named else find_obstacle()
    if obstacle is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(obstacle)
        pytest.skip(obstacle)
    server = OwnDatabase(named) if named else ChildServer(servers_folder)
    server.start()
    yield server.dsn
    server.stop()


@pytest.fixture
def empty_timescale_dsn(timescale_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same database without any table, view, routine or job but the extension's."""
    # The child is slow where much else runs, and what is given up it goes on with.
    monkeypatch.setattr(timescale, "TRANSACTION_TIMEOUT_S", PATIENCE_S)
    empty(timescale_dsn)
    return timescale_dsn


@pytest.fixture(params=["postgres", "timescale"])
def store_dsn(request: pytest.FixtureRequest) -> str:
    """An empty database of either side of a store, without any schema."""
    name = "empty_postgres_dsn" if request.param == "postgres" else "empty_timescale_dsn"
    dsn: str = request.getfixturevalue(name)
    return dsn
