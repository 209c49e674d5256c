"""What clients cost that are connected and do nothing: 2,000 sessions, each of which has logged in and run a few statements.

Memory is what the proxy's processes hold for themselves (Private_* of /proc/PID/smaps_rollup), after against before. Writes JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg

from bench.contestants import Pgfaucet, tree_memory
from bench.pgbench import SETTINGS, prepare
from bench.saving import save
from pgfaucet.demo.postgres import PostgresServer

CLIENTS: Final = 2000
WARM: Final = 50
AT_ONCE: Final = 50
STATEMENTS: Final = ("select 1", "select count(*) from pgbench_accounts where aid < $1", "set timezone = 'UTC'")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the proxy inherits it
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgfaucet-bench-")))
        directory.chmod(0o755)
        server = stack.enter_context(PostgresServer(settings=SETTINGS, trust=True))
        prepare(server)
        proxy = stack.enter_context(Pgfaucet(server, directory))
        each, seconds = asyncio.run(measure(proxy, options.clients))
    print(f"{options.clients} idle clients: {each / 1000:.1f} KB each; opened in {seconds:.1f} s")
    kept = save("idle", {"clients": options.clients, "bytes_each": each, "seconds": seconds})
    print(kept)
    return 0


async def measure(proxy: Pgfaucet, clients: int) -> tuple[float, float]:
    """Return the bytes that each of so many clients costs, and how long it took to open them."""
    held = await open_sessions(proxy, WARM)
    before = memory(proxy)
    began = time.monotonic()
    held += await open_sessions(proxy, clients)
    seconds = time.monotonic() - began
    await asyncio.sleep(2)
    each = (memory(proxy) - before) / clients
    assert await held[-1].fetchval("select 1") == 1  # noqa: S101 - they are alive
    for connection in held:
        connection.terminate()
    return each, seconds


def memory(proxy: Pgfaucet) -> int:
    """Return the memory of the proxy's processes."""
    assert proxy.pid is not None  # noqa: S101 - it runs
    return tree_memory(proxy.pid)


async def open_sessions(proxy: Pgfaucet, count: int) -> list[asyncpg.Connection]:
    """Open sessions, a few at a time, and have each run something."""
    made: list[asyncpg.Connection] = []
    for start in range(0, count, AT_ONCE):
        made += await asyncio.gather(*(open_session(proxy) for _ in range(min(AT_ONCE, count - start))))
    return made


async def open_session(proxy: Pgfaucet) -> asyncpg.Connection:
    """Open one session."""
    connection = await asyncpg.connect(proxy.dsn, password=proxy.environment["PGPASSWORD"])
    await connection.fetchval(STATEMENTS[0])
    await connection.fetchval(STATEMENTS[1], 10)
    await connection.execute(STATEMENTS[2])
    return connection


if __name__ == "__main__":
    sys.exit(main())
