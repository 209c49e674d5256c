"""What pgbench connects to: PostgreSQL itself, pgfaucet in front of it, PgBouncer in front of it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from pgfaucet.demo.postgres import clean_environment, free_port
from pgfaucet.demo.proxy import ProxyProcess

if TYPE_CHECKING:
    from pgfaucet.demo.postgres import PostgresServer

TICKS: Final = os.sysconf("SC_CLK_TCK")
POOL: Final = 8

POLICY: Final = """\
server:
  listen: ${PGFAUCET_LISTEN}
  workers: 1
  tokens: {store: "sqlite:${PGFAUCET_STATE}/tokens.db", max_ttl: 24h}
  audit: {file: "${PGFAUCET_STATE}/audit.jsonl", key: "${PGFAUCET_STATE}/audit.key", durability: DURABILITY, params: hash}
  admin: ${PGFAUCET_ADMIN}
databases:
  bench:
    dsn: ${UPSTREAM_DSN}
    pool: {mode: transaction, size: 8, wait_timeout: 10s}
roles:
  bench:
    database: bench
    tables:
      pgbench_accounts: {select: [aid, bid, abalance], row_filter: "bid <= claim('branches')::int"}
"""

PGBOUNCER: Final = """\
[databases]
bench = host=127.0.0.1 port={upstream} dbname=bench user=faucet_svc
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 200
{prepared}
"""


class Contestant:
    """One way to the server. `environment` is for pgbench."""

    name = ""
    is_proxy = True

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.environment: dict[str, str] = {}
        self.dsn = ""

    def supports(self, mode: str) -> bool:
        """Whether pgbench's -M mode works through it."""
        return mode in {"simple", "extended", "prepared"}

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far."""
        return 0.0


class Straight(Contestant):
    """PostgreSQL itself."""

    name = "direct"
    is_proxy = False

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server)
        self.dsn = server.dsn("bench", "faucet_svc")


class Pgfaucet(Contestant):
    """pgfaucet with a row filter; a context manager."""

    name = "pgfaucet"

    def __init__(self, server: PostgresServer, directory: Path, durability: str = "batch") -> None:
        super().__init__(server)
        policies, state = directory / "policies", directory / "state"
        policies.mkdir(parents=True)
        state.mkdir()
        (policies / "bench.yaml").write_text(POLICY.replace("DURABILITY", durability))
        upstream = f"postgresql://faucet_svc@127.0.0.1:{server.port}/bench"
        self._proxy = ProxyProcess(policies, state, {"UPSTREAM_DSN": upstream})

    def __enter__(self) -> Self:
        """Start, and mint the token for pgbench."""
        self._proxy.__enter__()
        options = ("--role", "bench", "--claim", "branches=1000", "--ttl", "12h", "--label", "bench", "--json")
        done = self._proxy.run_command("token", "create", "-c", str(self._proxy.policies), *options)
        if done.returncode != 0:
            self._proxy.stop()
            raise SystemExit(done.stderr)
        self.dsn = f"postgresql://bench@127.0.0.1:{self._proxy.port}/bench"
        self.environment = {"PGPASSWORD": orjson.loads(done.stdout)["token"]}
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._proxy.stop()

    def cpu_seconds(self) -> float:
        """CPU time of the process and its workers."""
        return tree_cpu_seconds(self._proxy.pid)


class PgBouncer(Contestant):
    """PgBouncer in transaction mode; a context manager."""

    name = "pgbouncer"

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        super().__init__(server)
        program = find_pgbouncer()
        assert program is not None  # noqa: S101 - the caller asked find_pgbouncer before
        self._program = program
        self._port = free_port()
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        major, minor = printed.split()[1].split(".")[:2]
        self._keeps_prepared = (int(major), int(minor)) >= (1, 21)
        prepared = "max_prepared_statements = 200" if self._keeps_prepared else ""
        self._file = directory / "pgbouncer.ini"
        self._file.write_text(PGBOUNCER.format(upstream=server.port, port=self._port, pool=POOL, prepared=prepared))
        self._process: subprocess.Popen[bytes] | None = None
        self.dsn = f"postgresql://bench@127.0.0.1:{self._port}/bench"

    def supports(self, mode: str) -> bool:
        """Prepared statements over pooled transactions came with PgBouncer 1.21."""
        return mode != "prepared" or self._keeps_prepared

    def __enter__(self) -> Self:
        """Start as an unprivileged user: PgBouncer refuses to run as root."""
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(
            [self._program, "-q", self._file],
            **identity,
            cwd=self._file.parent,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.__exit__()
                raise SystemExit("pgbouncer did not start")
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        """Stop."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def cpu_seconds(self) -> float:
        """CPU time of the process."""
        return tree_cpu_seconds(self._process.pid) if self._process is not None else 0.0


def find_pgbouncer() -> Path | None:
    """Return PgBouncer's path, if it is installed."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def tree_cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and all its descendants (Linux, proc(5))."""
    total, pending = 0, [pid]
    while pending:
        process = Path("/proc") / str(pending.pop())
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
        for task in (process / "task").iterdir():
            pending += map(int, (task / "children").read_text().split())
    return total / TICKS
