"""`make proof FILE=...`: a file of what real clients send, one JSON object a line with `client`, `sql`, `protocol` and `params_count`.

What only reads is played through the proxy and in a database that holds nothing but the role's world. The report says what was
answered, what was refused and why, and fails at whatever tells of a hidden object or differs without a known reason.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.kit.proxy import Proxy
from tests.proof.corpus import HERE, TIES, Captured, Report, Side, Trial, read_statements

WHOLE = HERE.parent.parent / ".cache" / "proof" / "client-sql.txt"
FILE = os.environ.get("PGFAUCET_PROOF_FILE", "")
OWN = (
    "select * from orders order by id",
    "select relname from pg_catalog.pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1",
    "select column_name::text collate \"C\" from information_schema.columns where table_name = 'customers' order by 1",
    "select conname::information_schema.sql_identifier from pg_catalog.pg_constraint where conrelid = 'orders'::regclass order by 1",
    "select full_name from customers where tenant_id = 1 order by id",
)
FAULTS = {
    "select ssn from customers": "fails on both sides",
    "select count(*) from api_keys": "fails on both sides",
    "select pg_relation_size('orders')": "refused",
    "select 'reader' = current_user": "wrong",
}


@pytest.fixture(scope="module")
def sides(postgres, tmp_path_factory):
    """The role behind the proxy, and a superuser in the database that is the role's world."""
    postgres.load_template("corpus", HERE / "schema.sql")
    whole, small = postgres.new_database("corpus"), postgres.new_database("corpus")
    postgres.run_sql(small, (HERE / "world.sql").read_text())
    upstream = {"UPSTREAM_DSN": f"postgresql://postgres@127.0.0.1:{postgres.port}/{whole}"}
    roles = (HERE / "roles.yaml").read_text()
    with Proxy(postgres, whole, tmp_path_factory.mktemp("proof"), roles=roles, environment=upstream) as proxy:
        proxied = Side(postgres, proxy.port, proxy.mint("reader", tenant=1).text, "shop", "agent", whole)
        world = Side(postgres, postgres.port, "", small, "postgres", small)
        yield proxied, world
        proxied.close()
        world.close()
    for name in (whole, small):
        postgres.drop_database(name)


@pytest.mark.timeout(0)
@pytest.mark.skipif(not FILE, reason="no FILE= was given to `make proof`")
def test_what_clients_send(sides, capsys):
    report = Report()
    for captured in read_statements(Path(FILE)):
        Trial(captured, *sides, report).run()
    with capsys.disabled():
        sys.stdout.write(f"\n{report.text}\n")
        WHOLE.parent.mkdir(parents=True, exist_ok=True)
        WHOLE.write_text(f"{report.text}\n\n{report.everything}\n")
        sys.stdout.write(f"\nEach of them: {WHOLE}\n")
    assert report.counts["answered alike"]
    assert not report.wrong
    assert len(report.excused[TIES]) < 0.01 * report.counts["answered alike"]


@pytest.mark.parametrize("is_extended", [False, True])
@pytest.mark.parametrize("sql", OWN)
def test_the_world_is_what_is_told(sides, sql, is_extended):
    report = Report()
    Trial(Captured("own", sql, is_extended, 0), *sides, report).run()
    assert report.counts["answered alike"] == 1, report.text


@pytest.mark.parametrize(("sql", "verdict"), FAULTS.items())
def test_a_difference_is_found(sides, sql, verdict):
    report = Report()
    Trial(Captured("own", sql, False, 0), *sides, report).run()
    assert report.counts == {verdict: 1}, report.text


def test_a_hidden_name_is_found(sides):
    _, world = sides
    report = Report()
    Trial(Captured("own", "select 'api' || '_keys' as name", False, 0), world, world, report).run()
    assert report.wrong
