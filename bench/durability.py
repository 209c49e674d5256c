"""What it costs to have audit records on disk: pgbench's select-only through pgfaucet with durability async, batch and strict.

Runs interleave and ratios are taken within a round, as in bench/pgbench.py. Prints a table; writes JSON to bench/results.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.contestants import Pgfaucet
from bench.pgbench import SCALE, SETTINGS, measure, parse_arguments, prepare, table
from bench.saving import save
from pgfaucet.demo.postgres import PostgresServer

DURABILITIES: Final = ("async", "batch", "strict")


def main() -> int:
    options = parse_arguments(__doc__)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgfaucet-bench-")))
        directory.chmod(0o755)
        server = stack.enter_context(PostgresServer(settings=SETTINGS, trust=True))
        prepare(server)
        contestants = []
        for durability in DURABILITIES:
            one = Pgfaucet(server, directory / durability, durability)
            one.name = durability
            contestants.append(stack.enter_context(one))
        runs = measure(contestants, directory, options)
    print(table(runs, DURABILITIES[0], DURABILITIES[1:]))
    kept = save("durability", {"peer": DURABILITIES[0], "scale": SCALE, "runs": [asdict(run) for run in runs]})
    print(f"\n{kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
