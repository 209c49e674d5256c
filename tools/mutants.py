"""Mutation testing of what decides (mutmut): finds the changed operators, constants and calls that no fast test notices.

`python tools/mutants.py --sample 400 --seed 7 [--module sql.insert]`; without `--sample`, all of them. Works in .cache/mutants on a copy of
the tree; survivors and their differences go to .cache/mutants/survivors.txt. docs/explanations/mutation-testing.md says how to read them.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "mutants"
COPIED = ("README.md", "docs", "pgfaucet", "policies", "pyproject.toml", "tests", "tools")
SMALLEST = "pgfaucet.policy.identifier.*"
"""Run first, so that mutants and the list of tests for each function are there to sample from."""
KILLED = (1, 3)
NOT_RUN = None
SURVIVED = (0, 5, 33)  # 33: no test reaches it
Results = dict[str, int | None]


def main() -> None:
    arguments = _arguments()
    _copy()
    _mutmut(SMALLEST, children=arguments.children)
    pattern = f"pgfaucet.{arguments.module}.*"
    names = sorted(name for name in _results() if fnmatch(name, pattern))
    if arguments.sample is None:
        _mutmut(pattern, children=arguments.children)
    else:
        names = random.Random(arguments.seed).sample(names, min(arguments.sample, len(names)))  # noqa: S311 - to be repeatable
        _mutmut(*names, children=arguments.children)
    results = _results()
    _report({name: results[name] for name in names})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="how many mutants; without it, all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--module", default="*", help="such as sql.insert, policy.* or guard")
    parser.add_argument("--children", type=int, default=2, help="processes at once")
    return parser.parse_args()


def _copy() -> None:
    """Copy the tree; what mutmut knows of it from before stays."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source, target = ROOT / name, WORK / name
        if source.is_file():
            shutil.copy2(source, target)
            continue
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _mutmut(*names: str, children: int) -> None:
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(children), *names]
    with (WORK / "mutmut.log").open("w") as log:
        done = subprocess.run(command, cwd=WORK, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit(f"mutmut failed: see {WORK / 'mutmut.log'}")


def _results() -> Results:
    found: Results = {}
    for path in sorted((WORK / "mutants" / "pgfaucet").rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def _report(results: Results) -> None:
    modules = {name: name.rpartition(".")[0].removeprefix("pgfaucet.") for name in results}
    killed, survived, timeouts = Counter[str](), Counter[str](), Counter[str]()
    for name, code in results.items():
        counter = killed if code in KILLED else survived if code in SURVIVED else timeouts
        if code is not NOT_RUN:
            counter[modules[name]] += 1
    print(f"{'module':28} {'killed':>7} {'survived':>9} {'timeout':>8}")
    for module in sorted(set(modules.values())):
        print(f"{module:28} {killed[module]:7} {survived[module]:9} {timeouts[module]:8}")
    total, stopped = (killed + survived + timeouts).total(), (killed + timeouts).total()
    low, high = _interval(stopped, total)
    print(f"{total} mutants, {survived.total()} survived, {timeouts.total()} timed out or crashed")
    print(f"killed {stopped / total:.1%} (95 % interval {low:.1%} to {high:.1%})")
    _write_survivors([name for name, code in results.items() if code in SURVIVED])


def _interval(hits: int, total: int) -> tuple[float, float]:
    """Wilson's interval of a proportion, 95 %."""
    z = 1.96
    share, spread = hits / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return middle - half, middle + half


def _write_survivors(names: list[str]) -> None:
    path = WORK / "survivors.txt"
    with path.open("w") as out:
        for name in sorted(names):
            shown = subprocess.run(
                [str(Path(sys.executable).with_name("mutmut")), "show", name],
                cwd=WORK,
                capture_output=True,
                text=True,
                check=False,
            )
            out.write(shown.stdout + "\n")
    print(f"survivors: {path}")


if __name__ == "__main__":
    main()
