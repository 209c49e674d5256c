"""Installs published clients that are not Python packages of the test environment, once, into .cache/clients."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parent.parent.parent / ".cache" / "clients"


def node_modules(*packages: str) -> Path:
    """Install npm packages and return their folder; skips the test where there is no node."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    home = CACHE / f"node-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "installed").exists():
        (home / "package.json").write_text('{"private": true}')
        _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *packages], home)
        (home / "installed").touch()
    return home


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
