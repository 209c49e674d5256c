"""What pgbench connects to: PostgreSQL itself, or pgfaucet (interpreted, compiled), PgBouncer, HAProxy in front of it."""

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
      pgbench_accounts: {select: [aid, bid, abalance], update: [abalance], row_filter: "bid <= claim('branches')::int"}
      pgbench_tellers: {select: true, update: [tbalance]}
      pgbench_branches: {select: true, update: [bbalance]}
      pgbench_history: {insert: [tid, bid, aid, delta, mtime]}
      bulk: {select: true}
"""
COMPILED: Final = Path(__file__).resolve().parent.parent / "build" / "compiled"
"""Where `make compiled` leaves the compiled modules."""

HAPROXY: Final = """\
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  maxconn 200
listen bench
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{upstream}
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

    def __enter__(self) -> Self:
        """Start what has to run."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""

    def supports(self, mode: str) -> bool:
        """Whether pgbench's -M mode works through it."""
        return mode in {"simple", "extended", "prepared"}

    @property
    def pid(self) -> int | None:
        """The process id of the proxy, if there is one."""
        return None

    def cpu_seconds(self) -> float:
        """CPU time so far of the process and all that it has started."""
        return tree_cpu_seconds(self.pid) if self.pid is not None else 0.0


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

    def __init__(
        self, server: PostgresServer, directory: Path, durability: str = "batch", *, is_compiled: bool = False
    ) -> None:
        super().__init__(server)
        if is_compiled:
            self.name, directory = "compiled", directory / "compiled"
        policies, state = directory / "policies", directory / "state"
        policies.mkdir(parents=True)
        state.mkdir()
        (policies / "bench.yaml").write_text(POLICY.replace("DURABILITY", durability))
        upstream = f"postgresql://faucet_svc@127.0.0.1:{server.port}/bench"
        code = COMPILED if is_compiled else COMPILED.parent.parent
        own = {"UPSTREAM_DSN": upstream, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
        self._proxy = ProxyProcess(policies, state, own)

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

    @property
    def pid(self) -> int:
        """The process id."""
        return self._proxy.pid


class Program(Contestant):
    """A program that listens on a port; a context manager."""

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        super().__init__(server)
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str | Path] = []
        self.dsn = f"postgresql://faucet_svc@127.0.0.1:{self._port}/bench"

    def __enter__(self) -> Self:
        """Start as an unprivileged user: PgBouncer refuses to run as root."""
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(
            self._command,
            **identity,
            cwd=self._directory,
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
                raise SystemExit(f"{self.name} did not start")
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        """Stop."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self._process.pid if self._process is not None else None


class HaProxy(Program):
    """HAProxy in TCP mode, one thread: it copies bytes, to a connection of its own for each client."""

    name = "haproxy"

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        super().__init__(server, directory)
        file = directory / "haproxy.cfg"
        file.write_text("global\n  nbthread 1\n" + HAPROXY.format(upstream=server.port, port=self._port))
        self._command = [find_program("haproxy") or "haproxy", "-q", "-f", file]


class PgBouncer(Program):
    """PgBouncer in transaction mode."""

    name = "pgbouncer"

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        super().__init__(server, directory)
        program = find_program("pgbouncer")
        assert program is not None  # noqa: S101 - the caller asked before
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        major, minor = printed.split()[1].split(".")[:2]
        self._keeps_prepared = (int(major), int(minor)) >= (1, 21)
        prepared = "max_prepared_statements = 200" if self._keeps_prepared else ""
        file = directory / "pgbouncer.ini"
        file.write_text(PGBOUNCER.format(upstream=server.port, port=self._port, pool=POOL, prepared=prepared))
        self._command = [program, "-q", file]
        self.dsn = f"postgresql://bench@127.0.0.1:{self._port}/bench"

    def supports(self, mode: str) -> bool:
        """Prepared statements over pooled transactions came with PgBouncer 1.21."""
        return mode != "prepared" or self._keeps_prepared


def find_program(name: str) -> Path | None:
    """Return a program's path, if it is installed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started (Linux, proc(5))."""
    found = [pid]
    for one in found:
        for task in (Path("/proc") / str(one) / "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def tree_cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and all its descendants."""
    total = 0
    for one in descendants(pid):
        fields = (Path("/proc") / str(one) / "stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def tree_memory(pid: int) -> int:
    """Return the bytes of memory that a process and its descendants hold for themselves (Linux, proc(5), Private_*)."""
    return sum(
        int(line.split()[1]) << 10
        for one in descendants(pid)
        for line in (Path("/proc") / str(one) / "smaps_rollup").read_text().splitlines()
        if line.startswith("Private_")
    )
