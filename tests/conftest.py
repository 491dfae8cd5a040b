"""Real servers for the tests: one NATS and one PostgreSQL per test process, a fresh name and database per test.

Nothing is shared between tests but the servers: each gets an environment of its own (it prefixes every subject, stream
and bucket) and a database copied from a template that holds the migrated schema.
"""

import asyncio
import importlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from deploy.embedded.nats import NatsServer
from deploy.embedded.postgres import PostgresServer

pytest_plugins = ["tests.timescale.fixtures"]

TEMPLATE = "template_of_tests"


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the services run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("servers")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def nats_server(servers_folder: Path) -> Iterator[NatsServer]:
    server = NatsServer(servers_folder / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    return nats_server.url


@pytest.fixture
def environment() -> str:
    """A name no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def postgres_server(servers_folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(servers_folder / "postgres", password="only-for-tests", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A database with the whole schema and no rows, made once."""
    dsn = postgres_server.create_database(TEMPLATE)
    importlib.import_module("shared.store.migrations").migrate(dsn)
    return TEMPLATE


@pytest.fixture
def empty_postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without any table, for tests of the migrations themselves."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A database of the test's own with the whole schema."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres_server.create_database(name, template=postgres_template)
    postgres_server.drop_database(name)
