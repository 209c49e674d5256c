"""pgbench's select-only and TPC-B through pgfaucet, interpreted and compiled, through PgBouncer and HAProxy where they are installed, and straight to PostgreSQL.

Runs interleave (A B C A B C ...) and ratios are taken within a round, then their median: the machine's mood cancels out.
CPU is that of the proxy's processes alone, from /proc. Prints a table; writes JSON to bench/results.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.contestants import COMPILED, Contestant, HaProxy, PgBouncer, Pgfaucet, Straight, find_program
from bench.saving import save
from pgfaucet.demo.postgres import PostgresServer, clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALE: Final = 5
SCRIPT: Final = "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
TPCB: Final = """\
\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""
BULK_ROWS: Final = 1_000_000
SETTINGS: Final = {"shared_buffers": "256MB", "max_connections": "120"}


@dataclass(frozen=True, slots=True)
class Run:
    """One pgbench run. Times in milliseconds; CPU of the proxy in microseconds for each run of the script, None without a proxy."""

    contestant: str
    mode: str
    clients: int
    round: int
    statements: int
    per_second: float
    mean: float
    p50: float
    p99: float
    cpu: float | None


def main() -> int:
    options = parse_arguments()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgfaucet-bench-")))
        directory.chmod(0o755)
        server = stack.enter_context(PostgresServer(settings=SETTINGS, trust=True))
        prepare(server)
        contestants = [stack.enter_context(one) for one in all_contestants(server, directory)]
        runs = measure(contestants, directory, options)
    peer = next((one for one in contestants if isinstance(one, PgBouncer)), contestants[0])
    print(table(runs, peer.name, [one.name for one in contestants if one is not peer]))
    kept = save(
        "pgbench", {"peer": peer.name, "scale": SCALE, "script": options.script, "runs": [asdict(run) for run in runs]}
    )
    print(f"\n{kept}")
    return 0


def all_contestants(server: PostgresServer, directory: Path) -> list[Any]:
    """Return those that can take part here."""
    made: list[Any] = [Straight(server), Pgfaucet(server, directory)]
    if COMPILED.exists():
        made.append(Pgfaucet(server, directory, is_compiled=True))
    for program, kind in (("pgbouncer", PgBouncer), ("haproxy", HaProxy)):
        if find_program(program) is None:
            print(f"{program} is not installed\n")
        else:
            made.append(kind(server, directory))
    return made


def parse_arguments(description: str | None = __doc__) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=int, default=4, help="length of one run (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind (default 3)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--modes", nargs="+", default=["simple", "extended", "prepared"])
    parser.add_argument("--script", choices=["select", "tpcb"], default="select")
    return parser.parse_args()


def prepare(server: PostgresServer) -> None:
    """Fill pgbench's tables and make the service user."""
    server.run_sql("postgres", "create database bench; create role faucet_svc login")
    command = [server.program("pgbench"), "-i", "-q", "-s", str(SCALE), server.dsn("bench")]
    subprocess.run(command, check=True, capture_output=True, env=clean_environment())
    rows = "select n as id, md5(n::text) as word, n * 2 as number from generate_series(1, :rows) n"
    server.run_sql("bench", "create table bulk as " + rows, {"rows": str(BULK_ROWS)})
    server.run_sql("bench", "grant select, insert, update on all tables in schema public to faucet_svc")
    server.run_sql("bench", "vacuum analyze")


def measure(contestants: Sequence[Contestant], directory: Path, options: argparse.Namespace) -> list[Run]:
    """Run every combination, interleaved."""
    (directory / "script.sql").write_text(TPCB if options.script == "tpcb" else SCRIPT)
    runs = []
    for mode in options.modes:
        for clients in options.clients:
            taking_part = [one for one in contestants if one.supports(mode)]
            for one in taking_part:  # warm up: connections, caches
                run_pgbench(one, directory, mode, clients, 1, -1)
            for number in range(options.rounds):
                for one in taking_part:
                    runs.append(run_pgbench(one, directory, mode, clients, options.seconds, number))
                    print(f"  {mode} {clients} {one.name}: {runs[-1].per_second:.0f}/s", file=sys.stderr)
    return runs


def run_pgbench(one: Contestant, directory: Path, mode: str, clients: int, seconds: int, number: int) -> Run:
    """Run pgbench once and read its transaction log."""
    logs = Path(tempfile.mkdtemp(dir=directory))
    command = [
        *(one.server.program("pgbench"), "-n", "-f", directory / "script.sql", "-D", f"scale={SCALE}", "-M", mode),
        *(
            "-c",
            str(clients),
            "-j",
            str(min(clients, 2)),
            "-T",
            str(seconds),
            "-l",
            f"--log-prefix={logs / 'log'}",
            one.dsn,
        ),
    ]
    cpu, began = one.cpu_seconds(), time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**clean_environment(), **one.environment}
    )
    took, cpu = time.monotonic() - began, one.cpu_seconds() - cpu
    if done.returncode != 0:
        raise SystemExit(f"pgbench through {one.name} failed: {done.stderr}")
    latencies = sorted(
        int(line.split()[2]) / 1000 for log in logs.glob("log*") for line in log.read_text().splitlines()
    )
    count = len(latencies)
    return Run(
        *(one.name, mode, clients, number, count),
        per_second=count / min(took, seconds),
        mean=statistics.fmean(latencies),
        p50=latencies[count // 2],
        p99=latencies[count * 99 // 100],
        cpu=cpu / count * 1e6 if one.is_proxy else None,
    )


def table(runs: Sequence[Run], peer: str, judged: Sequence[str] = ("pgfaucet",)) -> str:
    """Return one line for each contestant and combination; ratios are those of `judged` to the peer's, medians over rounds."""
    head = (
        f"{'mode':<9}{'clients':>8}  {'through':<10}{'runs/s':>9}{'mean ms':>9}{'p50 ms':>8}{'p99 ms':>8}{'CPU us':>8}"
    )
    lines = [head + f"   {', '.join(judged)} : {peer}"]
    for mode, clients in dict.fromkeys((run.mode, run.clients) for run in runs):
        here = [run for run in runs if (run.mode, run.clients) == (mode, clients)]
        for name in dict.fromkeys(run.contestant for run in here):
            own = [run for run in here if run.contestant == name]
            cpu = f"{median(own, 'cpu'):.1f}" if own[0].cpu is not None else "-"
            line = f"{mode:<9}{clients:>8}  {name:<10}{median(own, 'per_second'):>9.0f}{median(own, 'mean'):>9.3f}"
            line += f"{median(own, 'p50'):>8.3f}{median(own, 'p99'):>8.3f}{cpu:>8}"
            lines.append(line + (f"   {ratios(here, name, peer)}" if name in judged else ""))
    return "\n".join(lines)


def median(runs: Sequence[Run], field: str) -> float:
    return statistics.median(getattr(run, field) for run in runs)


def ratios(runs: Sequence[Run], name: str, peer: str) -> str:
    """Say how a contestant did against the peer in the same round."""
    ours = {run.round: run for run in runs if run.contestant == name}
    theirs = {run.round: run for run in runs if run.contestant == peer}
    if not theirs:
        return f"({peer} does not support this mode)"

    def ratio(field: str) -> str:
        return f"{statistics.median(getattr(ours[n], field) / getattr(theirs[n], field) for n in ours):.2f}x"

    has_cpu = all(run.cpu is not None for run in (*ours.values(), *theirs.values()))
    cpu = f"  CPU {ratio('cpu')}" if has_cpu else ""
    return f"throughput {ratio('per_second')}  p50 {ratio('p50')}  p99 {ratio('p99')}{cpu}"


if __name__ == "__main__":
    sys.exit(main())
