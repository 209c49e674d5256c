"""Check the docs: relative links lead somewhere, YAML blocks with a policy pass `pgfaucet check`, shell blocks name real commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
LINK: Final = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND: Final = re.compile(r"\bpgfaucet ([a-z]+)(?: ([a-z]+))?")
GROUPS: Final = frozenset({"audit", "role", "token"})


def main() -> int:
    problems = [problem for page in pages() for problem in check(page)]
    print("\n".join(problems) or "docs: ok")
    return 1 if problems else 0


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def check(page: Path) -> Iterator[str]:
    text, name = page.read_text(), page.relative_to(ROOT)
    for match in LINK.finditer(text):
        if not (page.parent / match[1]).exists():
            yield f"{name}:{line_of(text, match.start())}: no such file: {match[1]}"
    for match in BLOCK.finditer(text):
        place = f"{name}:{line_of(text, match.start())}"
        if match[1] == "yaml":
            yield from (f"{place}: {problem}" for problem in check_policy(match[2]))
        if match[1] == "sh":
            yield from (f"{place}: {problem}" for problem in check_commands(match[2]))


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def check_policy(block: str) -> Iterator[str]:
    """Complete the block with the worked example's server, databases and roles where it lacks them, and check the directory."""
    written = yaml.safe_load(block)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "block.yaml").write_text(block)
        missing: dict[str, object] = {}
        for file in ("server.yaml", "shop.yaml"):
            example = yaml.safe_load((ROOT / "policies" / file).read_text())
            missing |= {key: value for key, value in example.items() if key not in written and key != "tests"}
        (directory / "rest.yaml").write_text(yaml.safe_dump(missing))
        done = run("check", "-c", str(directory))
        if done.returncode != 0:
            yield (done.stderr or done.stdout).strip().replace(name, "")


def check_commands(block: str) -> Iterator[str]:
    for match in COMMAND.finditer(block):
        words = [match[1], match[2]] if match[1] in GROUPS and match[2] else [match[1]]
        if run(*words, "--help").returncode != 0:
            yield f"no such command: pgfaucet {' '.join(words)}"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pgfaucet", *arguments], env=environment, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
