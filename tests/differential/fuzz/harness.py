"""Plays statements and says where an answer is not what it should be."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.differential.fuzz.databases import EVERYTHING, VISIBLE, Answer, as_the_client_has_it
from tests.differential.fuzz.generator import statement
from tests.kit.comparison import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.differential.fuzz.databases import Databases, Rewritten, Session
    from tests.differential.fuzz.writes import Statement
    from tests.kit.outcome import Outcome

VACUUM_EVERY = 500
TIMED_OUT = "57014"
DATA_EXCEPTION = "22"
ANALYSIS = frozenset({"42", "0A"})
POLICY_SAYS = "42501"
NUMBERED = re.compile(r"(?:insert|merge) into tagged")
GIVEN = re.compile(r"\b1\d\d\b")
"""What the sequence gives."""
RAISED = re.compile(r"^(?:with other hidden rows )?22\w{3} ", re.MULTILINE)
LOCKING = "FOR UPDATE is not supported with this condition"


@dataclass(slots=True)
class Report:
    """What became of a run."""

    played: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)

    @property
    def counts(self) -> str:
        """How many of what, in one line."""
        counts = ", ".join(f"{name} {number}" for name, number in self.kinds.most_common())
        return f"{self.played} statements: {counts}"

    @property
    def text(self) -> str:
        """Everything in it, for a person."""
        return "\n\n".join([self.counts, *self.disagreements])


def run(
    databases: Databases,
    seeds: Iterable[int],
    compare: Callable[[Databases, Statement, Report], str | None],
    *,
    enough: int = 20,
) -> Report:
    """Play the statements of these seeds until there are enough disagreements."""
    report = Report()
    for seed in seeds:
        made = statement(seed)
        reason = compare(databases, made, report)
        report.played += 1
        if reason is not None:
            report.disagreements.append(f"seed {seed}: {made.sql}\n{reason}")
        if len(report.disagreements) >= enough:
            break
        if report.played % VACUUM_EVERY == 0:
            databases.vacuum()
    return report


# -- against native row level security ---------------------------------------------------------------------------------------------


def with_native(databases: Databases, made: Statement, report: Report) -> str | None:
    """Say where what is sent does not do what the role's own statement does under row level security."""
    look = EVERYTHING if made.is_write else None
    theirs = databases.native.play(made.sql, look)
    rewritten = databases.rewrite(made.sql)
    ours = Answer(rewritten.refusal) if rewritten.refusal else played(databases.ours, rewritten, look)
    report.kinds[_kind(theirs.outcome)] += 1
    reason = difference([ours.outcome], [theirs.outcome], is_ordered=made.is_ordered)
    reason = reason or _difference_of_contents(ours, theirs)
    known = reason and known_difference(databases, made, ours.outcome, theirs.outcome)
    if reason and is_numbered_alike(made, ours, theirs):
        known = "numbers of a sequence"
    if known:
        report.kinds[known] += 1
        return None
    return reason and f"{reason}\nsent {rewritten.text}"


def played(session: Session, rewritten: Rewritten, look: str | None) -> Answer:
    """Run what a statement became; return what its client gets."""
    return as_the_client_has_it(session.play(rewritten.text, look), rewritten.plan)


def _kind(outcome: Outcome) -> str:
    if outcome.sqlstate is not None:
        return outcome.sqlstate
    return "rows" if any(result.rows for result in outcome.results) else "no rows"


def _difference_of_contents(ours: Answer, theirs: Answer) -> str | None:
    if ours.contents == theirs.contents:
        return None
    mine, others = set(ours.contents or ()), set(theirs.contents or ())
    return f"tables: {sorted(mine - others, key=repr)[:4]}\nnatively {sorted(others - mine, key=repr)[:4]}"


def known_difference(databases: Databases, made: Statement, ours: Outcome, theirs: Outcome) -> str | None:
    """Name the difference that this is, if it is one of docs/references/differences.md."""
    codes = {ours.sqlstate, theirs.sqlstate}
    if TIMED_OUT in codes:
        return "timed out"
    if all(code is not None and code[:2] in ANALYSIS for code in codes) and theirs.sqlstate != POLICY_SAYS:
        return "another error of the same text"
    said = ours.errors[0]["M"] if ours.errors else ""
    if LOCKING in said and " for " in made.sql:
        return "lock"
    if ours.sqlstate == POLICY_SAYS and (theirs.sqlstate or DATA_EXCEPTION)[:2] == DATA_EXCEPTION:
        if "do update" in made.sql and said.startswith("new row violates"):
            return "conflict with a hidden row"
        if said.startswith("permission denied") and has_unread_query(made.sql):
            return "unread query in WITH"
    is_of_data = all(code is None or code[:2] == DATA_EXCEPTION for code in codes)
    if is_of_data and made.may_raise and does_interfere(databases, made) is None:
        return "order of evaluation"
    return None


def has_unread_query(sql: str) -> bool:
    """Say whether there is a query in WITH that nothing reads."""
    names = re.findall(r"(?:with|\),) (\w+) as (?:not materialized |materialized )?\(", sql)
    return any(re.search(rf"(?:from|join|,|using) {name} (?!as )", sql) is None for name in names)


def is_numbered_alike(made: Statement, one: Answer, other: Answer) -> bool:
    """Say whether two answers differ in nothing but which row was given which number of a sequence."""
    if NUMBERED.search(made.sql) is None or one.outcome.errors or other.outcome.errors:
        return False
    first, second = ([_without_numbers(part) for part in _parts(answer)] for answer in (one, other))
    return first == second


def _parts(answer: Answer) -> list[list[tuple[str | None, ...]]]:
    return [*(result.rows for result in answer.outcome.results), list(answer.contents or ())]


def _without_numbers(rows: list[tuple[str | None, ...]]) -> list[str]:
    return sorted(GIVEN.sub("#", repr(row)) for row in rows)


# -- against hidden rows -----------------------------------------------------------------------------------------------------------


def with_other_rows(databases: Databases, made: Statement, report: Report) -> str | None:
    """Say where the answer depends on rows that the role may not see."""
    report.kinds["write" if made.is_write else "read"] += 1
    reason = does_interfere(databases, made)
    if reason is not None and made.may_raise and RAISED.search(reason):
        report.kinds["order of evaluation"] += 1
        return None
    return reason


def does_interfere(databases: Databases, made: Statement) -> str | None:
    """Run what a statement becomes on both databases and compare every byte that the client gets."""
    rewritten = databases.rewrite(made.sql)
    if rewritten.refusal is not None:
        return None
    look = VISIBLE if made.is_write else None
    a, b = (played(session, rewritten, look) for session in (databases.ours, databases.other))
    if TIMED_OUT in (a.outcome.sqlstate, b.outcome.sqlstate):
        return None
    if _bytes(a, made) == _bytes(b, made) or is_numbered_alike(made, a, b):
        return None
    return f"{_shown(a, b)}\nsent {rewritten.text}"


def _bytes(answer: Answer, made: Statement) -> tuple[object, ...]:
    outcome = answer.outcome
    rows = [
        (result.columns, result.tag, result.rows if made.is_ordered else sorted(result.rows, key=repr))
        for result in outcome.results
    ]
    return rows, outcome.errors, outcome.notices, answer.contents


def _shown(a: Answer, b: Answer) -> str:
    tables = _difference_of_contents(a, b)
    return f"{a.outcome.summary}\nwith other hidden rows {b.outcome.summary}" + (f"\n{tables}" if tables else "")
