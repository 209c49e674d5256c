"""Run a driver's own test suite through the proxy, under roles that may do everything, and say what differs from the server itself.

    python tools/suites.py ../shared/suites/asyncpg.sh [--role full grants] [--mode session] [--direct] [--baseline FILE] [--keep DIR]

The scripts (one for each suite, see their README) are given a server by PGHOST and its like, and end with
`RESULT name passed=N failed=N skipped=N`; with OUT set they write the failed tests into OUT/name.failed. Without --direct the
failures of the server itself are read from `baseline/` beside the scripts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pgfaucet.demo.postgres import PostgresServer
from pgfaucet.demo.proxy import ProxyProcess

DATABASES: Final = {
    "asyncpg": "postgres",
    "django": "postgres",
}  # which also connect to that one by name; others have one of their own
ROLES: Final = {
    "full": "roles: {owner: {database: suites, access: full, limits: {statement_bytes: 1MB}}}\n",
    "grants": """\
roles:
  owner:
    database: suites
    tables: {"*": {select: true, insert: true, update: true, delete: true, truncate: true}}
    functions: ["*"]
    statements: [ddl, temp, copy, listen, lock, do, call, two_phase]
    allow_set: ["*"]
    explain: full
    limits: {statement_bytes: 1MB}
""",
}
"""What the wire and the pool do alone, and with every statement decided and rewritten."""

SERVER: Final = """\
server:
  listen: ${PGFAUCET_LISTEN}
  workers: 1
  tokens: {store: "sqlite:${PGFAUCET_STATE}/tokens.db", max_ttl: 24h}
  audit: {file: "${PGFAUCET_STATE}/audit.jsonl", key: "${PGFAUCET_STATE}/audit.key", durability: async, params: hash}
  admin: ${PGFAUCET_ADMIN}
databases:
  suites:
    dsn: ${UPSTREAM_DSN}
    password: ${UPSTREAM_PASSWORD}
    pool: {mode: MODE, size: 60, wait_timeout: 5s}
"""
SETTINGS: Final = {"max_connections": "200", "max_prepared_transactions": "20"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="the suite's script")
    parser.add_argument(
        "--role", choices=tuple(ROLES), nargs="+", default=list(ROLES), help="`access: full`, everything granted; both"
    )
    parser.add_argument("--mode", choices=("transaction", "session"), default="transaction", help="of the pool")
    parser.add_argument("--direct", action="store_true", help="run it against the server too, instead of the baseline")
    parser.add_argument("--baseline", type=Path, help="tests that fail on the server itself, one a line")
    parser.add_argument("--keep", type=Path, help="where the logs and lists of failures go")
    wanted = parser.parse_args()
    suite: Path = wanted.suite.resolve()
    with tempfile.TemporaryDirectory(prefix="pgfaucet-suites-") as made, PostgresServer(settings=SETTINGS) as postgres:
        keep: Path = wanted.keep or Path(made)
        keep.mkdir(parents=True, exist_ok=True)
        if wanted.direct:
            make_database(suite, postgres)
            expected = run(suite, keep / "direct", postgres.port, postgres.password)
        else:
            expected = read(wanted.baseline or suite.parent / "baseline" / f"{suite.stem}.failed")
        found: dict[str, set[str]] = {}
        for role in wanted.role:
            make_database(suite, postgres)
            found[role] = through_proxy(suite, keep, role, wanted.mode, postgres)
    return report(expected, found)


def make_database(suite: Path, postgres: PostgresServer) -> None:
    """Make the suite's database anew: each run begins with what the one before began with."""
    database = DATABASES.get(suite.stem, "suites")
    postgres.run_sql("template1", f"drop database if exists {database} with (force)")
    postgres.run_sql("template1", f"create database {database} template template0")


def through_proxy(suite: Path, keep: Path, role: str, mode: str, postgres: PostgresServer) -> set[str]:
    """Run the suite through a proxy of its own."""
    with tempfile.TemporaryDirectory(prefix="pgfaucet-suites-proxy-") as made:
        database = DATABASES.get(suite.stem, "suites")
        policies, state = Path(made) / "policies", keep / "proxy"
        policies.mkdir()
        state.mkdir(exist_ok=True)
        for left in state.iterdir():
            left.unlink()  # of the run before
        (policies / "server.yaml").write_text(SERVER.replace("MODE", mode).replace("suites:", f"{database}:"))
        (policies / "roles.yaml").write_text(ROLES[role].replace("suites", database))
        upstream = {"UPSTREAM_DSN": postgres.dsn(database), "UPSTREAM_PASSWORD": postgres.password}
        with ProxyProcess(policies, state, upstream) as proxy:
            return run(suite, keep / f"{role}-{mode}", proxy.port, mint(proxy), postgres)


def mint(proxy: ProxyProcess) -> str:
    """Mint a token without capital H and P: SQLAlchemy's test_multiple_host_real_connect replaces those, in passwords too."""
    while True:
        wanted = ("--role", "owner", "--ttl", "12h", "--label", "suites")
        done = proxy.run_command("token", "create", "-c", str(proxy.policies), *wanted)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        token = done.stdout.split()[0]
        if not set(token) & {"H", "P"}:
            return token


def run(suite: Path, out: Path, port: int, password: str, reference: PostgresServer | None = None) -> set[str]:
    """Run the suite; return the tests that failed."""
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "postgres",
        "PGPASSWORD": password,
        "PGDATABASE": DATABASES.get(suite.stem, "suites"),
        "OUT": str(out),
    }
    environment.pop("PYTHONPATH", None)
    if reference is not None:
        environment |= {"REFHOST": "127.0.0.1", "REFPORT": str(reference.port), "REFUSER": "postgres"}
        environment["REFPASSWORD"] = reference.password
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{suite.stem}.log").open("w") as log:
        subprocess.run(
            ["bash", str(suite)], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False
        )
    results = [line for line in (out / f"{suite.stem}.log").read_text().splitlines() if line.startswith("RESULT ")]
    if not results:
        raise SystemExit(f"{suite.name} gave no result: see {out}/{suite.stem}.log")
    print(f"{out.name}: {results[-1]}", flush=True)
    return read(out / f"{results[-1].split()[1]}.failed")


def read(failed: Path) -> set[str]:
    return set(failed.read_text().split("\n")) - {""} if failed.exists() else set()


def report(expected: set[str], found: dict[str, set[str]]) -> int:
    """Print each test that ends otherwise than on the server, with the roles where it does; 1 when one fails only here."""
    failed = set().union(*found.values())
    for name in sorted(failed - expected):
        print(f"fails through the proxy only ({', '.join(role for role in found if name in found[role])}): {name}")
    for name in sorted(expected):
        passing = [role for role in found if name not in found[role]]
        if passing:
            print(f"fails on the server only (not {', '.join(passing)}): {name}")
    return 1 if failed - expected else 0


if __name__ == "__main__":
    sys.exit(main())
