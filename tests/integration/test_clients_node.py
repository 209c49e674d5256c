"""node-postgres (`pg`) and what is built on it, unchanged but for the DSN."""

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


ORMS = ["pg@8", "knex@3", "sequelize@6", "typeorm@0.3", "kysely@0.28", "drizzle-orm@0.45", "reflect-metadata@0.2"]
WORLD = {"tenants", "customers", "orders", "notes"}


@pytest.fixture(scope="module")
def orms(proxy):
    """What knex, sequelize, typeorm, kysely and drizzle saw."""
    environment = {**os.environ, "NODE_PATH": str(node_modules(*ORMS) / "node_modules")}
    command = ["node", SCRIPT.with_name("orms.js"), proxy.dsn()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    for hidden in ("HIDDEN", "purchase_cost", "order_items", "sk_live", "secret", "Alder"):
        assert hidden not in done.stdout
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["knex", "sequelize", "typeorm", "kysely", "drizzle"])
def test_orms_read_the_own_rows_and_go_on_after_refusals(orms, name):
    seen = orms[name]
    assert seen["rows"] == [{"id": 2, "body": "first"}, {"id": 3, "body": "second"}]
    assert (seen["joined"], seen["hidden"], seen["verb"]) == ("10", "42P01", "42501")


def test_orms_write_in_transactions(orms):
    assert orms["knex"]["written"] == [{"tenant_id": 42, "details": {"a": 1}}, 1]
    assert orms["sequelize"]["written"] == [1, 1]
    assert orms["typeorm"]["written"] == ["number", 1]
    assert orms["kysely"]["written"] == [{"tenant_id": 42}, "1"]
    assert orms["drizzle"]["written"] == [{"a": 1}, [{"body": "drizzle"}]]


def test_orms_find_the_world_in_the_catalogs(orms):
    assert orms["knex"]["tables"] == [True, False]
    for name in ("sequelize", "kysely"):
        assert set(orms[name]["tables"]) == WORLD
    tables = {tuple(table.split(".")[-2:]) for table in orms["typeorm"]["tables"]}
    assert {table[-1] for table in tables if table[:-1] not in {("pg_catalog",), ("information_schema",)}} == WORLD
    for name in ("knex", "sequelize", "typeorm", "kysely"):
        assert {"id", "tenant_id", "body", "tags"} <= set(orms[name]["columns"])
    assert set(orms["sequelize"]["indexes"]) == {"orders_pkey", "orders_tenant_id_idx"}
    assert {key.replace("public.", "") for key in orms["typeorm"]["keys"]} >= {"orders customers", "orders tenants"}
