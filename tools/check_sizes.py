"""Fail when a module, a function or a test file breaks the house rules that no linter knows.

Modules have at most 500 lines, functions at most 40, and each tests/unit file mirrors a module of the package.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
MODULE_LINES: Final = 500
FUNCTION_LINES: Final = 40
GENERATED: Final = frozenset({"pgfaucet/sql/nodes.py"})  # by tools/make_nodes.py


def main() -> int:
    problems = [*sizes(), *stray_tests()]
    print("\n".join(problems) or "sizes and file names: ok")
    return 1 if problems else 0


def sizes() -> Iterator[str]:
    for folder in ("pgfaucet", "tools", "bench", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name not in GENERATED:
                yield from module_problems(name, path.read_text())


def module_problems(name: str, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield f"{name}:1: {lines} lines; a module has at most {MODULE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines; a function has at most {FUNCTION_LINES}"


def stray_tests() -> Iterator[str]:
    """tests/unit/sql/test_parse.py must stand for pgfaucet/sql/parse.py (or for a package sql/parse/, or tools/)."""
    unit = ROOT / "tests" / "unit"
    for path in sorted(unit.rglob("test_*.py")):
        folder = path.parent.relative_to(unit)
        name = path.stem.removeprefix("test_")
        homes = [ROOT / "pgfaucet" / folder, ROOT / folder]
        if not any((home / f"{name}.py").exists() or (home / name).is_dir() for home in homes):
            yield f"{path.relative_to(ROOT)}:1: mirrors no module {folder / name}.py"


if __name__ == "__main__":
    sys.exit(main())
