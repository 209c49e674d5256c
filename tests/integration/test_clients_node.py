"""node-postgres (`pg`), unchanged but for the DSN."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.kit.clients import node_modules

SCRIPT = Path(__file__).parent / "clients" / "pg.js"


@pytest.fixture(scope="module")
def seen(proxy):
    environment = {**os.environ, "NODE_PATH": str(node_modules("pg@8") / "node_modules")}
    done = subprocess.run(
        ["node", SCRIPT, proxy.dsn()], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_simple_parameterised_and_named_queries_are_answered(seen):
    rows = [{"id": 2, "body": "first"}, {"id": 3, "body": "second"}]
    assert seen["simple"] == rows
    assert seen["parameters"] == [{"id": 2, "tags": ["a", "b"], "details": {}}]
    assert seen["named"] == ["first", "second", "first"]
    assert seen["array"] == [[2], [3]]


def test_rows_are_written_for_the_own_tenant(seen):
    assert seen["inserted"] == [1, 42, [0, 255]]
    assert seen["deleted"] == 1


def test_refusals_have_their_sqlstate_and_the_client_goes_on(seen):
    assert (seen["hidden"], seen["failed"], seen["verb"], seen["after"]) == ("42P01", "25P02", "42501", 2)


def test_a_pool_of_clients_works(seen):
    assert seen["pool"] == [10]
