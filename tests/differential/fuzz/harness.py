"""Plays statements and says where an answer is not what it should be."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from pglast.parser import parse_sql_json

from tests.differential.fuzz.databases import EVERYTHING, VISIBLE, Answer, as_the_client_has_it
from tests.differential.fuzz.generator import statement
from tests.kit.comparison import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.differential.fuzz.databases import Databases, Rewritten, Session
    from tests.differential.fuzz.writes import Statement
    from tests.kit.outcome import Outcome

VACUUM_EVERY = 500
TIMED_OUT = "57014"
DATA_EXCEPTION = "22"
ANALYSIS = frozenset({"42", "0A"})
CONSTRAINT = "23"
UNPLANNED = "FULL JOIN is only supported with"
POLICY_SAYS = "42501"
NUMBERED = re.compile(r"(?:insert|merge) into tagged")
GROUPING = re.compile(r"\b(?:union|intersect|except|distinct|group by)\b")
SCALE = re.compile(r"(\.\d*?)0+(?=')")
GIVEN = re.compile(r"\b1\d\d\b")
"""What the sequence gives."""
RAISED = re.compile(r"^(?:with other hidden rows )?22\w{3} ", re.MULTILINE)
NO_COLUMN = "42703"
HIDDEN = ".ssn "
DENIED = re.compile(r"permission denied for table (\w+)")
LOCKED = re.compile(r" for (?:no key update|update|share|key share)")
LOCKING = ("FOR UPDATE is not supported with this condition", "cannot be applied to the nullable side of an outer join")
FENCE = re.compile(r" UNION ALL SELECT (?:[^()]|\([^()]*\))*? WHERE false OFFSET 0\)")
WITH_TIES = re.compile(r"(?:min|max)\(.* with ties")
"""It takes a minimum from an index with the clause's WITH TIES, and then finds more than one row."""


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
    if reason and is_scaled_alike(made, ours, theirs):
        known = "scale of equal numbers"
    if reason and not known and is_right_without_fences(databases, made, rewritten, theirs.outcome):
        known = "defect of the server"
    if known:
        report.kinds[known] += 1
        return None
    return reason and f"{reason}\nsent {rewritten.text}"


def is_right_without_fences(databases: Databases, made: Statement, rewritten: Rewritten, theirs: Outcome) -> bool:
    """Say whether a read gives what the server gives as soon as the fences are left out.

    A fence, `... UNION ALL SELECT ... WHERE false OFFSET 0`, changes nothing that SQL speaks of: then the server's planner is wrong (18.6 can lose
    conditions above a FULL JOIN when it removes a join).
    """
    plain = FENCE.sub(")", rewritten.text)
    if made.is_write or plain == rewritten.text:
        return False
    answer = as_the_client_has_it(databases.ours.play(plain, None), rewritten.plan)
    return difference([answer.outcome], [theirs], is_ordered=made.is_ordered) is None


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
    if " for " in made.sql and any(text in said_by(each) for text in LOCKING for each in (ours, theirs)):
        return "lock"
    if theirs.sqlstate == "XX000" or (theirs.sqlstate == "21000" and WITH_TIES.search(made.sql)):
        return "defect of the server"
    if made.sql.startswith("with ") and made.is_write:
        known = _order_of_parts(made, ours, theirs)
        if known is not None:
            return known
    known = _stricter(databases, made, ours, theirs)
    if known is not None:
        return known
    is_of_data = all(code is None or code[:2] == DATA_EXCEPTION for code in codes)
    if is_of_data and made.may_raise and with_other_rows(databases, made, Report()) is None:
        return "order of evaluation"
    return None


def _order_of_parts(made: Statement, ours: Outcome, theirs: Outcome) -> str | None:
    """Name the difference where the parts of a statement ran in another order: another of them failed, or one no longer."""
    is_of_rows = [
        each.sqlstate is not None
        and (each.sqlstate[:2] in (DATA_EXCEPTION, CONSTRAINT) or said_by(each).startswith("new row violates"))
        for each in (ours, theirs)
    ]
    if all(is_of_rows):
        return "order of evaluation"
    is_conflict = any(each.sqlstate is not None and each.sqlstate[:2] == CONSTRAINT for each in (ours, theirs))
    return "order of writes" if is_conflict and any(is_of_rows) and has_two_writes(made.sql) else None


def _stricter(databases: Databases, made: Statement, ours: Outcome, theirs: Outcome) -> str | None:
    """Name the difference where we refuse what the server would run, or fail at, because its planner dropped a part."""
    said = said_by(ours)
    if theirs.sqlstate is None and said.startswith(UNPLANNED):
        return "FULL JOIN that only the server can simplify"
    if (theirs.sqlstate or DATA_EXCEPTION)[:2] in ANALYSIS:
        return None
    if ours.sqlstate == POLICY_SAYS:
        is_of_data = (theirs.sqlstate or DATA_EXCEPTION)[:2] == DATA_EXCEPTION
        if is_of_data and theirs.sqlstate is not None and made.may_raise and said.startswith("new row violates"):
            return "order of evaluation"
        if is_of_data and "do update" in made.sql and said.startswith("new row violates"):
            return "conflict with a hidden row"
        if said.startswith("permission denied") and has_unread_query(made.sql):
            return "unread query in WITH"
        if LOCKED.search(made.sql) and DENIED.match(said) and not may_lock(databases, said):
            return "lock in a part that is empty"
    if ours.sqlstate == NO_COLUMN and HIDDEN in said and theirs.sqlstate is None:
        return "unread query in WITH" if has_unread_query(made.sql) else "hidden column in an empty part"
    return None


def may_lock(databases: Databases, said: str) -> bool:
    """Say whether the native role has the right to lock the table that a refusal speaks of."""
    table = DENIED.match(said)
    assert table is not None, said
    asked = f"select has_any_column_privilege('public.{table[1]}', 'update')"
    return databases.native.play(asked, None).outcome.results[0].rows == [("t",)]


def has_two_writes(sql: str) -> bool:
    """Say whether a statement writes one table twice: which write comes first is for the planner to choose."""
    written = re.findall(r"(?:insert into|delete from|merge into|update) (?:only )?(?:public\.)?(\w+)", sql)
    return len(written) > len(set(written))


def said_by(outcome: Outcome) -> str:
    """Return the message of its first error."""
    return outcome.errors[0]["M"] if outcome.errors else ""


def has_unread_query(sql: str) -> bool:
    """Say whether there is a query in WITH that nothing reads."""
    return any(_is_unread(holder) for holder in _holders_of_with(orjson.loads(parse_sql_json(sql))))


def _is_unread(holder: dict[str, Any]) -> bool:
    queries = [item["CommonTableExpr"] for item in holder["withClause"]["ctes"]]
    rest = {name: value for name, value in holder.items() if name != "withClause"}
    return any(
        query["ctename"] not in _bare_names([rest, *queries[place + 1 :]]) for place, query in enumerate(queries)
    )


def _holders_of_with(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict) and "withClause" in tree:
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _holders_of_with(part)


def _bare_names(tree: object) -> set[str]:
    if isinstance(tree, dict) and "relname" in tree and "schemaname" not in tree:
        return {tree["relname"]}
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return set().union(*map(_bare_names, parts))


def is_numbered_alike(made: Statement, one: Answer, other: Answer) -> bool:
    """Say whether two answers differ in nothing but which row was given which number of a sequence."""
    if NUMBERED.search(made.sql) is None or one.outcome.errors or other.outcome.errors:
        return False
    first, second = ([_without_numbers(part) for part in _parts(answer)] for answer in (one, other))
    return first == second


def is_scaled_alike(made: Statement, one: Answer, other: Answer) -> bool:
    """Say whether two answers differ in nothing but which of several equal numbers stands for them: 9.0 or 9.00."""
    if GROUPING.search(made.sql) is None or one.outcome.errors or other.outcome.errors:
        return False
    first, second = (
        [sorted(SCALE.sub(r"\1", repr(row)).replace(".'", "'") for row in part) for part in _parts(each)]
        for each in (one, other)
    )
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
    if reason is not None and has_two_writes(made.sql):
        report.kinds["order of writes"] += 1
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
    if _bytes(a, made) == _bytes(b, made) or is_numbered_alike(made, a, b) or is_scaled_alike(made, a, b):
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
