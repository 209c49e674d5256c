"""`python -m pgfaucet` does what `pgfaucet` does."""

from __future__ import annotations

import sys

from pgfaucet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
