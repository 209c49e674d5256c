"""Compiles with mypyc the modules that every statement goes through; they are listed in pyproject.toml, and run interpreted as they are.

Only where PGFAUCET_COMPILE=1 asks for it, which needs a C compiler; a build that can't be compiled fails then.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import setup

if TYPE_CHECKING:
    from setuptools import Extension

BUILDING = {"bdist_wheel", "build", "build_ext", "editable_wheel"}


def extensions() -> list[Extension]:
    """Translate the modules to C."""
    if os.environ.get("PGFAUCET_COMPILE") != "1" or not BUILDING & set(sys.argv):
        return []
    from mypyc.build import mypycify

    listed = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["pgfaucet"]["compiled"]
    paths = [f"{name.replace('.', '/')}.py" for name in listed]
    # What pgfaucet depends on is not there when a wheel is built: `make types` checks against it, this does not.
    options = ["--config-file=", "--ignore-missing-imports"]
    made: list[Extension] = mypycify([*options, *paths], opt_level="3", debug_level="0", group_name="pgfaucet")
    return made


setup(ext_modules=extensions())
