"""Which modules are compiled: all that pyproject.toml lists, or none. What they must not do."""

from __future__ import annotations

import ast
import importlib
import os
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pgfaucet"]["compiled"]


def test_the_modules_that_are_tested_are_those_that_were_asked_for():
    loaded = {name: Path(importlib.import_module(name).__file__ or "").suffix for name in LISTED}
    expected = ".so" if os.environ.get("PGFAUCET_COMPILED") == "1" else ".py"
    assert loaded == dict.fromkeys(LISTED, expected)


@pytest.mark.parametrize("name", LISTED)
def test_a_name_is_given_to_errors_of_one_kind_only(name: str):
    """Compiled, a name has one type in a function: an error of another kind would end in a TypeError."""
    tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            kinds: dict[str, set[str]] = {}
            for handler in ast.walk(function):
                if isinstance(handler, ast.ExceptHandler) and handler.name is not None and handler.type is not None:
                    kinds.setdefault(handler.name, set()).add(ast.unparse(handler.type))
            assert all(len(found) == 1 for found in kinds.values()), f"{name}:{function.lineno}"
