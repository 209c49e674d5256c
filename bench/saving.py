"""Where measurements are kept."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).resolve().parent / "results"


def save(name: str, found: dict[str, Any]) -> Path:
    """Write what was measured, and on what machine, as JSON; return the file's path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime(f"{name}-%Y%m%d-%H%M%S.json", time.gmtime())
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    path.write_text(json.dumps({**machine, **found}, indent=1) + "\n")
    return path
