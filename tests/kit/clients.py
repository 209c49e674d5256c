"""Installs published clients that are not Python packages of the test environment, once, into .cache/clients."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
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


def python_packages(*requirements: str) -> Path:
    """Install Python packages beside the test environment, not in it; return the folder for PYTHONPATH."""
    home = CACHE / f"python-{hashlib.sha256(' '.join([sys.version, *requirements]).encode()).hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "installed").exists():
        pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip", "--python", sys.executable]
        _run([*pip, "install", "--quiet", "--disable-pip-version-check", "--target", str(home), *requirements], home)
        (home / "installed").touch()
    return home


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
