"""A million rows by SELECT and by COPY through each proxy, and what a client costs that does nothing.

Runs interleave; CPU and memory are those of the proxy's processes alone, from /proc. Prints a table; writes JSON to bench/results.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psycopg

from bench.contestants import tree_memory
from bench.pgbench import BULK_ROWS, SETTINGS, all_contestants, prepare
from bench.saving import save
from pgfaucet.demo.postgres import PostgresServer, clean_environment

if TYPE_CHECKING:
    from bench.contestants import Contestant

SENT: Final = {
    "select": "\\set FETCH_COUNT 0\nSELECT id, word, number FROM bulk",
    "copy": "COPY (SELECT id, word, number FROM bulk) TO STDOUT",
}
IDLE_CLIENTS: Final = 60


@dataclass(frozen=True, slots=True)
class Bulk:
    """One transfer. CPU of the proxy in nanoseconds for each row, None without a proxy."""

    contestant: str
    kind: str
    seconds: float
    cpu: float | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgfaucet-bench-")))
        directory.chmod(0o755)
        server = stack.enter_context(PostgresServer(settings=SETTINGS, trust=True))
        prepare(server)
        megabytes = int(server.run_sql("bench", "select sum(length(b::text)) from bulk b")) / 1e6
        contestants = [stack.enter_context(one) for one in all_contestants(server, directory)]
        runs = [
            transfer(one, kind) for kind in SENT for _ in range(options.rounds + 1) for one in contestants
        ]  # the first round warms up
        idle = {one.name: idle_bytes(one) for one in contestants if one.is_proxy}
    print(table(runs, megabytes, idle))
    found = {"megabytes": megabytes, "rows": BULK_ROWS, "runs": [asdict(run) for run in runs], "idle_bytes": idle}
    print(f"\n{save('bulk', found)}")
    return 0


def transfer(one: Contestant, kind: str) -> Bulk:
    """Have psql fetch the rows and throw them away."""
    psql = [one.server.program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", one.dsn]
    cpu, began = one.cpu_seconds(), time.monotonic()
    sql = f"\\o {os.devnull}\n{SENT[kind]};\n"
    done = subprocess.run(
        psql,
        input=sql,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**clean_environment(), **one.environment},
    )
    took, cpu = time.monotonic() - began, one.cpu_seconds() - cpu
    if done.returncode != 0:
        raise SystemExit(f"psql through {one.name} failed: {done.stderr}")
    return Bulk(one.name, kind, took, cpu / BULK_ROWS * 1e9 if one.is_proxy else None)


def idle_bytes(one: Contestant) -> float:
    """Return what one more client that does nothing takes, of the proxy's memory."""
    assert one.pid is not None  # noqa: S101 - a proxy
    password = one.environment.get("PGPASSWORD")
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(psycopg.connect(one.dsn, password=password))
        before = tree_memory(one.pid)
        for _ in range(IDLE_CLIENTS):
            stack.enter_context(psycopg.connect(one.dsn, password=password))
        return (tree_memory(one.pid) - before) / IDLE_CLIENTS


def table(runs: list[Bulk], megabytes: float, idle: dict[str, float]) -> str:
    """Return one line for each way to the server and each kind of transfer."""
    lines = [f"{'kind':<8}{'through':<11}{'MB/s':>7}{'of direct':>11}{'CPU ns/row':>12}{'KB/idle client':>16}"]
    for kind in SENT:
        direct = median(runs, kind, "direct", "seconds")
        for name in dict.fromkeys(run.contestant for run in runs):
            seconds, cpu = median(runs, kind, name, "seconds"), "-"
            if name in idle:
                cpu = f"{median(runs, kind, name, 'cpu'):.0f}"
            memory = f"{idle[name] / 1024:.1f}" if name in idle else "-"
            lines.append(
                f"{kind:<8}{name:<11}{megabytes / seconds:>7.0f}{direct / seconds:>10.2f}x{cpu:>12}{memory:>16}"
            )
    return "\n".join(lines)


def median(runs: list[Bulk], kind: str, name: str, field: str) -> float:
    own = [getattr(run, field) for run in runs if (run.kind, run.contestant) == (kind, name)]
    return statistics.median(own[1:])


if __name__ == "__main__":
    sys.exit(main())
