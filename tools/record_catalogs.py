"""Record the catalogs that the golden decisions are made under, from servers of its own: `python tools/record_catalogs.py`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.golden.decisions import GOLDEN, SUITES  # noqa: E402 - tests is no installed package
from tests.golden.live import read_live  # noqa: E402
from tests.kit.postgres import Postgres  # noqa: E402
from tests.kit.recorded import plain, text  # noqa: E402


def main() -> None:
    with Postgres() as server:
        for suite in SUITES:
            snapshot = asyncio.run(read_live(server, suite))
            path = GOLDEN / f"{suite}.catalog.json"
            path.write_text(text(plain(snapshot)))
            print(f"{path.relative_to(ROOT)}: {len(snapshot.relations)} relations")


if __name__ == "__main__":
    main()
