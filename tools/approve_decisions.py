"""Approve what the guard decides now: writes tests/golden/*.decisions.jsonl and prints what differs from before.

`python tools/approve_decisions.py --check` writes nothing, and fails when something differs.
"""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pgfaucet.policy.document import json_schema  # noqa: E402 - after the path
from tests.golden import expressions, policies, unknown_fields  # noqa: E402 - tests is no installed package
from tests.golden.decisions import GOLDEN, SUITES, Decider, Decision, approved, groups, pretty  # noqa: E402 - tests is no installed package


def _expressions(*, is_check: bool) -> int:
    path = GOLDEN / "expressions.approved.jsonl"
    before = expressions.approved() if path.exists() else {}
    now = {text: expressions.compiled(text) for text in expressions.texts()}
    changed = [text for text in now | before if now.get(text) != before.get(text)]
    for text in changed:
        _show(text, [before[text]] if text in before else [], [now[text]] if text in now else [])
    if not is_check:
        path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in now.values()))
    return len(changed)


def _text(path: Path, now: str, *, is_check: bool) -> int:
    before = path.read_text() if path.exists() else ""
    if now != before:
        print(
            f"--- {path.name}",
            *list(difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=0))[2:],
            sep="\n",
        )
        if not is_check:
            path.write_text(now)
    return int(now != before)


def _show(name: str, old: list[Decision], new: list[Decision]) -> None:
    lines = difflib.unified_diff(pretty(old), pretty(new), lineterm="", n=2)
    print(f"--- {name}", *list(lines)[2:], sep="\n")


def main() -> int:
    is_check = "--check" in sys.argv[1:]
    changed = 0
    for suite in SUITES:
        now: dict[str, list[Decision]] = {}
        for cases in groups(suite).values():
            decider = Decider(suite)
            now |= {case["id"]: list(decider.decide(case)) for case in cases}
        path = GOLDEN / f"{suite}.decisions.jsonl"
        before = approved(suite) if path.exists() else {}
        for name in now | before:
            old, new = before.get(name, []), now.get(name, [])
            if old != new:
                changed += 1
                _show(name, old, new)
        if not is_check:
            lines = [json.dumps(each, ensure_ascii=False) for decisions in now.values() for each in decisions]
            path.write_text("\n".join(lines) + "\n")
    changed += _expressions(is_check=is_check)
    changed += _text(
        unknown_fields.APPROVED, "".join(f"{line}\n" for line in unknown_fields.outcomes()), is_check=is_check
    )
    changed += _text(policies.APPROVED, policies.text(), is_check=is_check)
    changed += _text(GOLDEN / "schema.approved.json", json.dumps(json_schema(), indent=1) + "\n", is_check=is_check)
    print(f"{changed} cases differ" if is_check else f"{changed} cases approved anew")
    return int(is_check and changed > 0)


if __name__ == "__main__":
    sys.exit(main())
