"""Fixtures for every test: one PostgreSQL for the session, started when the first test asks for it; proxies in front of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.kit.postgres import Postgres
from tests.kit.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what can't be tested with compiled modules."""
    if os.environ.get("PGFAUCET_COMPILED") == "1" and item.get_closest_marker("interpreted") is not None:
        pytest.skip("replaces a part of what is compiled")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL 18 with the sample shop as a template."""
    with Postgres() as server:
        server.load_shop()
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A fresh copy of the sample shop."""
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def proxy(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of a copy of the sample shop, shared by a test file. It must stop cleanly, with nothing bad in its log."""
    name = postgres.new_database()
    with Proxy(postgres, name, tmp_path_factory.mktemp("proxy")) as running:
        yield running
        assert running.stop() == 0, running.read_log()
    assert "Traceback" not in running.read_log(), running.read_log()
    postgres.drop_database(name)


@pytest.fixture
def start_proxy(postgres: Postgres, database: str, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Start a proxy of one's own: for tests that stop it, break it, or bring their own policy."""
    started: list[Proxy] = []

    def start(**options: str) -> Proxy:
        directory = tmp_path / f"proxy{len(started)}"
        directory.mkdir()
        running = Proxy(postgres, database, directory, **options)
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        running.stop()
