"""Django, Alembic, sqlacodegen and pgcli, unchanged but for the DSN: what they find out is the role's world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.clients import python_packages

CLIENTS = Path(__file__).parent / "clients"
TABLES = {"customers", "notes", "orders", "tenants"}
HIDDEN = ("api_keys", "order_items", "HIDDEN", "purchase_cost", "sk_live", "secret", "Alder", "email")
PACKAGES = ("django>=5.2,<6", "alembic>=1.16,<2", "sqlacodegen>=4,<5", "pgcli>=4.3,<5", "psycopg[binary]>=3.2.9,<4")


@pytest.fixture(scope="module")
def run(proxy):
    """Run a script, or a module, of these packages."""
    environment = {**os.environ, "PYTHONPATH": str(python_packages(*PACKAGES))}

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def nothing_hidden_in(text):
    return [name for name in HIDDEN if name in text] == []


@pytest.fixture(scope="module", params=[(), ("server-side binding",)], ids=["client-side", "server-side"])
def django(request, run, proxy):
    return json.loads(run(CLIENTS / "django_shop.py", proxy.dsn(), *request.param))


def test_django_inspects_the_world(django):
    assert django["tables"] == sorted(TABLES)
    models = [line.split("(")[0] for line in django["inspected"].splitlines() if line.startswith("class ")]
    assert models == ["class Customers", "class Notes", "class Orders", "class Tenants"]
    assert "customer = models.ForeignKey(Customers, models.DO_NOTHING)" in django["inspected"]
    assert "unable to inspect" not in django["inspected"].lower()
    assert nothing_hidden_in(django["inspected"])


def test_django_reads(django):
    assert django["orders"] == 10
    assert django["joined"] == [[1002, "Ben Okafor"], [1005, "Elif Demir"]]
    assert sum(number for _, number in django["grouped"]) == 10
    assert django["prefetched"] == [name for name, _ in django["grouped"]]
    assert len(django["iterated"]) == 10
    assert django["sums"][0] == pytest.approx(10 * django["sums"][1])


def test_django_writes_in_transactions_and_goes_on_after_refusals(django):
    assert (django["found"], django["pinned"], django["bulk"], django["deleted"]) == ("django", True, 3, 3)
    assert (django["hidden"], django["verb"], django["notes"]) == ("42P01", "42501", 2)


def test_alembic_finds_the_world_as_it_is(run, proxy):
    seen = json.loads(run(CLIENTS / "alembic_shop.py", proxy.dsn(scheme="postgresql+psycopg")))
    assert seen["tables"] == sorted(TABLES)
    assert seen["same"] == []
    assert sorted(seen["hidden"]) == ["add_column secret", "add_table api_keys"]
    assert "op.create_table('api_keys'" in seen["script"]


def test_sqlacodegen_writes_the_world(run, proxy):
    written = run("-m", "sqlacodegen", proxy.dsn(scheme="postgresql+psycopg"))
    assert {line.split("(")[0] for line in written.splitlines() if line.startswith("class ")} == {
        "class Base",
        "class Customers",
        "class Notes",
        "class Orders",
        "class Tenants",
    }
    assert "ForeignKeyConstraint(['customer_id'], ['customers.id']" in written
    assert nothing_hidden_in(written)


def test_pgcli_completes_the_world(run, proxy):
    seen = json.loads(run(CLIENTS / "pgcli_shop.py", proxy.dsn()))
    assert {name for schema, name in seen["tables"] if schema == "public"} == TABLES
    assert {table for table, _ in seen["columns"]} >= TABLES
    assert ["customers", "orders"] in seen["keys"]
    assert seen["rows"][0][1] == [["2", "first"], ["3", "second"]]
    assert seen["after"][0][1] == [["2"]]
    assert seen["hidden"] == "42P01"
    assert nothing_hidden_in(json.dumps(seen))
    assert "body" in json.dumps(seen["described"])
    assert {row[1] for row in seen["listed"][0][1]} == TABLES
