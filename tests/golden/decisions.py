"""What the guard decides about every statement of the attacks and of the differential cases, under recorded catalogs.

No server is needed. After a deliberate change: `python tools/approve_decisions.py`, and read the difference.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError
from pgfaucet.guard import Epoch, Guard
from pgfaucet.plan import InnerPlan, QueryPlan, StatementKind, StatementPlan
from pgfaucet.policy.compile import claims_used, compile_world
from pgfaucet.policy.loader import PolicyErrors, load_texts
from tests.kit.recorded import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.policy.model import Policy, Role
    from pgfaucet.sql.catalog import CatalogSnapshot

GOLDEN: Final = Path(__file__).parent
TESTS: Final = GOLDEN.parent
FILES: Final = {
    "attacks": ("attacks/attacks.jsonl", "attacks/legitimate.jsonl", "attacks/redteam.jsonl", "golden/forms.jsonl"),
    "differential": ("differential/cases.jsonl", "golden/fuzz.jsonl"),
}
SUITES: Final = tuple(FILES)
SHOP: Final = b"databases: {shop: {dsn: postgresql://svc@localhost/shop}}\n"
RANDOM: Final = re.compile(r"(?<=pgf:chk:)[0-9a-f]{32}")
"""The nonce of this process in the checks."""

Case = dict[str, Any]
Decision = dict[str, Any]

_CATALOGS: dict[str, CatalogSnapshot] = {}


def catalog(suite: str) -> CatalogSnapshot:
    """Return the recorded catalog of a suite."""
    if suite not in _CATALOGS:
        _CATALOGS[suite] = read(GOLDEN / f"{suite}.catalog.json")
    return _CATALOGS[suite]


def groups(suite: str) -> dict[str, list[Case]]:
    """Return the cases of a suite by their class, which is the beginning of their name where none is given."""
    found: dict[str, list[Case]] = {}
    for name in FILES[suite]:
        for case in map(json.loads, (TESTS / name).read_text().splitlines()):
            found.setdefault(case.get("class") or case["id"].rpartition("-")[0], []).append(case)
    return found


def roles(suite: str) -> dict[str, Role]:
    """Return the roles of a suite."""
    return policy(suite).roles


def policy(suite: str) -> Policy:
    """Return the policy of a suite, with the roles that only the golden forms use."""
    extra = GOLDEN / f"{suite}.roles.yaml"
    texts = {"roles.yaml": (TESTS / suite / "roles.yaml").read_bytes(), "shop.yaml": SHOP}
    if extra.exists():
        texts["extra.yaml"] = extra.read_bytes()
    return load_texts(Path("/p"), texts, environ={}).policy


class Decider:
    """Decides cases of one suite, each role and set of claims with a guard of its own."""

    def __init__(self, suite: str) -> None:
        self._catalog = catalog(suite)
        self._roles = roles(suite)
        self._guards: dict[tuple[str, str], Guard] = {}

    def decide(self, case: Case) -> Iterator[Decision]:
        """Decide what a case sends: each statement as a simple query and as one of the extended protocol."""
        guard = self._guard(case.get("role", "agent"), case.get("claims", {}))
        path = guard.world.search_path
        for number, (text, types) in enumerate(_texts(case), 1):
            parsed = guard.plan(text, path, types)
            simple = guard.plan_query(text, path)
            made: Decision = {"case": case["id"], "step": number, "sql": text if len(text) < 2000 else len(text)}
            made |= _of_plan(parsed)
            if simple.text != parsed.text or simple.given is not None:
                made["simple"] = _of_simple(simple)
            yield json.loads(RANDOM.sub("...", json.dumps(made)))

    def _guard(self, name: str, claims: dict[str, str]) -> Guard:
        key = (name, json.dumps(claims))
        if key not in self._guards:
            role = self._roles[name]
            used = {claim: claims[claim] for claim in claims_used(role) if claim in claims}
            world, problems = compile_world(role, self._catalog, used, role.name)
            if problems:
                raise PolicyErrors(problems)
            self._guards[key] = Guard(
                world,
                Epoch(),
                statement_bytes=role.limits.statement_bytes,
                forwards_everything=role.access == "full",
                observes=role.mode == "observe",
            )
        return self._guards[key]


def _texts(case: Case) -> Iterator[tuple[str, tuple[int, ...]]]:
    for step in case.get("steps", [case]):
        raws = step.get("sqls") or [step["sql"]] if "sql" in step or "sqls" in step else []
        if "sql_hex" in step:
            raws = [bytes.fromhex(step["sql_hex"]).decode(errors="replace")]
        if "sql_parts" in step:
            raws = ["".join(text * times for text, times in step["sql_parts"])]
        for text in raws:
            yield text, tuple(step.get("types", ()))


def _of_plan(plan: QueryPlan) -> Decision:
    """Write down a plan; `sent` only where it is not the statements' own text."""
    statements = [_of_statement(each) for each in plan.statements]
    joined = "; ".join(each.sql for each in plan.statements)
    made: Decision = {"statements": statements}
    if plan.text != joined:
        made["sent"] = plan.text if len(plan.text) < 4000 else len(plan.text)
    return made


def _of_simple(plan: QueryPlan) -> Decision:
    """Write down what is a text's own where its plan is that of many: the statements of such a plan hold placeholders."""
    given = plan.given
    made: Decision = {"sent": plan.text}
    if given is not None:
        made |= {"literals": given.literals, "context": given.context}
    return made


def _of_statement(plan: StatementPlan) -> Decision:
    made: Decision = {"decision": "allow" if plan.error is None else "deny"}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if value == field.default or value in ("", ()):
            continue
        match value:
            case FaucetError():
                kept = ("sqlstate", "message", "detail", "hint", "position", "reason")
                made |= {name: getattr(value, name) for name in kept if getattr(value, name) is not None}
            case StatementKind():
                made["kind"] = value.value
            case InnerPlan():
                made["inner"] = {"source": value.source, "types": list(value.types), **_of_plan(value.plan)}
            case str() if len(value) > 4000:
                made[field.name] = len(value)
            case _:
                made[field.name] = value
    return made


def approved(suite: str) -> dict[str, list[Decision]]:
    """Return the approved decisions by case."""
    found: dict[str, list[Decision]] = {}
    for line in (GOLDEN / f"{suite}.decisions.jsonl").read_text().splitlines():
        decision = json.loads(line)
        found.setdefault(decision["case"], []).append(decision)
    return found


def pretty(decisions: list[Decision]) -> list[str]:
    """Write decisions a line for each value, for a difference that can be read."""
    return json.dumps(decisions, indent=1, ensure_ascii=False).splitlines()
