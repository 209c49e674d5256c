"""pgbench's own scripts through the proxy, over a pool of 8: every mode, more clients than connections, no error.

PGFAUCET_PGBENCH_SECONDS runs each combination for so long; without it each client runs a few transactions.
"""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from pgfaucet.demo.postgres import clean_environment
from tests.kit.proxy import Proxy

SECONDS = os.environ.get("PGFAUCET_PGBENCH_SECONDS", "")
SCRIPTS = ("tpcb-like", "simple-update", "select-only")
MODES = ("simple", "extended", "prepared")

ROLES = """\
roles:
  teller:
    description: pgbench's tables, one column of rights for each verb that its scripts need
    database: shop
    tables:
      pgbench_accounts: {select: true, update: [abalance], row_filter: "bid <= claim('tenant')::int"}
      pgbench_branches: {select: true, update: [bbalance], row_filter: "bid <= claim('tenant')::int"}
      pgbench_tellers: {select: true, update: [tbalance], row_filter: "bid <= claim('tenant')::int"}
      pgbench_history: {select: true, insert: true}
  owner: {database: shop, access: full}
"""


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    command = [postgres.program("pgbench"), "-i", "-q", "-n", postgres.dsn(name)]
    subprocess.run(command, check=True, capture_output=True, env=clean_environment())
    postgres.run_sql(name, "grant all on all tables in schema public to faucet_svc")
    with Proxy(postgres, name, tmp_path_factory.mktemp("pgbench"), roles=ROLES) as running:
        yield running
    postgres.drop_database(name)


@pytest.mark.parametrize("clients", [1, 8, 64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("role", ["teller", "owner"])
def test_the_built_in_scripts_run_without_an_error(proxy, role, mode, clients):
    for script in SCRIPTS:
        bound = ["-T", SECONDS] if SECONDS else ["-t", str(max(64 // clients, 4))]
        command = [proxy.postgres.program("pgbench"), "-n", "-b", script, "-M", mode, "-c", str(clients), *bound]
        dsn = proxy.dsn(proxy.token(role))
        done = subprocess.run([*command, dsn], capture_output=True, text=True, check=False, env=clean_environment())
        assert done.returncode == 0, done.stderr
        failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
        assert (failed is None or failed[1] == "0", "error" in done.stderr.lower()) == (True, False), done.stderr


def test_the_balances_agree_at_the_end(proxy):
    """What TPC-B is for: every transaction took place whole, through whichever connection."""
    sums = {
        table: proxy.postgres.value(proxy.database, f"select coalesce(sum({column}), 0) from pgbench_{table}")
        for table, column in {
            "accounts": "abalance",
            "history": "delta",
            "tellers": "tbalance",
            "branches": "bbalance",
        }.items()
    }
    assert (sums["accounts"], sums["tellers"]) == (sums["history"], sums["branches"])
