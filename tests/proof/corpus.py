"""Plays what real clients send, through the proxy as a role with a small world, and as a superuser where nothing but that world is.

Two databases: `shop` with everything in it, behind the proxy, and a copy without the objects and rows that the role can't see. The answers
must be the same, but for what `excuse` names; a statement that the proxy refuses is listed with its reason.
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pglast.parser import ParseError, parse_sql_json

from tests.kit import wire
from tests.kit.player import Player
from tests.kit.wire import message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.kit.outcome import Outcome
    from tests.kit.postgres import Postgres

Answer = Counter[tuple[object, ...]]
HERE = Path(__file__).parent
READING = frozenset({"SelectStmt", "VariableShowStmt", "ExplainStmt"})
WRITING = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "IntoClause"})
CANARIES = re.compile(
    r"api_keys|documents|daily_sales|salaries|employees|invoice_no|refresh_sales|touch_order|\bssn\b|embedding"
    r"|s3cr3t|globex|initech|cy@|Cy Cole|\bhr\b",
    re.IGNORECASE,
)
"""Names and values that only hidden objects and rows have."""

ACL = re.compile(r"\{?(?:\w*=[a-zA-Z*]*/\w+[,\n]?)+\}?")
"""Access privileges: the proxy tells of none, since the server's are not the role's."""

OWNERS = re.compile(r"\b(?:postgres|pg_database_owner)\b")
"""Through the proxy everything belongs to the role."""

PG_DATABASE_OWNER = "6171"

OF_THE_MACHINE = frozenset(
    [
        "relpages",
        "reltuples",
        "relallvisible",
        "relallfrozen",
        "relfrozenxid",
        "relminmxid",
        "datfrozenxid",
        "datminmxid",
        "tfrozenxid",
        "tminmxid",
        "toid",
    ]
)
"""Columns that count pages, rows and transactions: the proxy tells nothing by them."""

ALIKE, EXCUSED, REFUSED, FAILS = "answered alike", "answered with a known difference", "refused", "fails on both sides"
WRONG = "wrong"
VERDICTS = (WRONG, REFUSED, EXCUSED, ALIKE, FAILS)
"""The worst first."""

ABSENT = frozenset({"42P01", "42703"})
BEFORE_NAMES = ("permission denied for function", "permission denied to", "type ", "function ", "column ", "relation ")
"""What may be told of a statement before it is told that an object is absent: it has several errors."""

TIES = "rows in another order, where ORDER BY may leave it open"

EXCUSES = {
    "roles, databases, settings and initial privileges: the role's own are listed": (
        r"pg_(?:roles|user|group|database|settings|init_privs|auth_members|tablespace)\b|attacl"
    ),
    "sizes, counts, statistics and transaction ids are not told": r"pg_stat|relpages|frozenxid|last_value|CARDINALITY",
    "plans have no costs and show the filter": r"^\s*(?:/\*.*?\*/\s*)?EXPLAIN",
    "installed extensions are listed, with access methods and operator classes": (
        r"pg_(?:available_)?extension|pg_am\b|pg_opclass|pg_opfamily|pg_amop|pg_amproc|pg_depend"
    ),
    "the source of functions and the comments of closed ones are not shown": r"prosrc|pg_description|obj_description",
    "a trigger's hidden function is not named": r"pg_trigger",
    "version() does not tell how the server was built": r"version\(\)",
    "an array of object names is shown as numbers": r"ARRAY\(\s*SELECT \w+\.\w+::(?:pg_catalog\.)?reg",
    "some of the rows, without ORDER BY": r"^(?!.*ORDER\s+BY).*LIMIT",
}
"""Why an answer may differ, and the statements that it excuses, by their text. No excuse is for a canary."""

OIDS = """
select distinct on (oid) oid::text, coalesce(what, 'nothing') from (
    select c.oid, pg_describe_object('pg_class'::regclass, c.oid, 0) as what, 1 as rank from pg_class c
    union all select oid, pg_describe_object('pg_type'::regclass, oid, 0), 2 from pg_type
    union all select oid, pg_describe_object('pg_proc'::regclass, oid, 0), 2 from pg_proc
    union all select oid, pg_describe_object('pg_constraint'::regclass, oid, 0), 2 from pg_constraint
    union all select oid, pg_describe_object('pg_namespace'::regclass, oid, 0), 2 from pg_namespace
    union all select oid, pg_describe_object('pg_attrdef'::regclass, oid, 0), 2 from pg_attrdef
    union all select oid, pg_describe_object('pg_trigger'::regclass, oid, 0), 2 from pg_trigger
    union all select oid, pg_describe_object('pg_rewrite'::regclass, oid, 0), 2 from pg_rewrite
    union all select oid, 'enum ' || enumlabel, 2 from pg_enum
    union all select oid, 'the database', 2 from pg_database where datname = current_database()
    union all select oid, 'a role', 2 from pg_roles
) x where oid >= 10000 order by oid, rank
"""


@dataclass(slots=True)
class Report:
    """What became of the statements of a file."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    excused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)

    @property
    def everything(self) -> str:
        """Each statement that was refused or differs, whole, below its reason."""
        reasons = {f"{code} {reason}": told for (code, reason), told in self.refused.items()} | self.excused
        return "\n\n".join("\n    ".join([reason, *told]) for reason, told in reasons.items())

    @property
    def text(self) -> str:
        """What is in it, with an example for each reason."""
        lines = [", ".join(f"{name}: {number}" for name, number in self.counts.most_common()), "", "Refused:"]
        for (code, reason), statements in sorted(self.refused.items(), key=lambda item: -len(item[1])):
            lines += [f"  {len(statements):>4}  {code} {reason}", f"        e.g. {statements[0][:300]}"]
        lines += ["", "Answered with a difference that has a reason:"]
        for reason, statements in sorted(self.excused.items(), key=lambda item: -len(item[1])):
            lines += [f"  {len(statements):>4}  {reason}", f"        e.g. {statements[0][:300]}"]
        return "\n".join([*lines, "", f"Wrong: {len(self.wrong)}", *self.wrong])


@dataclass(frozen=True, slots=True)
class Captured:
    """A statement of the file."""

    client: str
    sql: str
    is_extended: bool
    parameters: int


def read_statements(path: Path) -> Iterator[Captured]:
    """Give the statements of a file that only read, each once."""
    seen = set()
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        sql, count = entry["sql"], entry.get("params_count", 0)
        if sql not in seen and does_only_read(sql):
            seen.add(sql)
            yield Captured(entry["client"], sql, count > 0 or entry.get("protocol") == "extended", count)


def does_only_read(sql: str) -> bool:
    """Say whether it is one statement that changes nothing."""
    try:
        statements = [raw["stmt"] for raw in orjson.loads(parse_sql_json(sql))["stmts"]]
    except ParseError:
        return False
    if "set_config" in sql or len(statements) != 1 or next(iter(statements[0])) not in READING:
        return False
    return not any(
        f'"{name}"' in parse_sql_json(sql) or f'"{name[0].lower()}{name[1:]}"' in parse_sql_json(sql)
        for name in WRITING
    )


class Side:
    """One of the two: who is asked, and what its oids stand for."""

    def __init__(self, postgres: Postgres, port: int, password: str, database: str, user: str, stored: str) -> None:
        """`stored` is the server's name of the database."""
        self._where = port, password, database, user
        rows = [line.split("|") for line in postgres.run_sql(stored, OIDS).splitlines()]
        self._names = {row[0]: row[1] for row in rows}
        self._stored = stored
        self.orders = next(oid for oid, name in self._names.items() if name == "table orders")
        self.player = self._connect()

    def _connect(self) -> Player:
        port, password, database, user = self._where
        return Player.logged_in(port, password, database=database, user=user, TimeZone="UTC")

    def close(self) -> None:
        """Leave."""
        self.player.__exit__()

    def types_of(self, sql: str) -> tuple[int, ...] | None:
        """Return the types of a statement's parameters; None when the server does not take it."""
        self.player.send(wire.parse(sql) + message("D", b"S\0") + wire.SYNC)
        answers = self.player.until("Z")
        found = next((answer.body for answer in answers if answer.tag == "t"), None)
        return None if found is None else struct.unpack(f">{int.from_bytes(found[:2])}I", found[2:])

    def play(self, step: dict[str, Any]) -> Outcome:
        """Run a statement in a transaction of its own."""
        outcome = self.player.play(step)
        if outcome.ended:
            self.close()
            self.player = self._connect()
        self.player.play({"sql": "rollback"})
        return outcome

    def plain(self, value: str | None) -> str | None:
        """Write a value with names for oids, and without the names of the database."""
        if value is None or value == PG_DATABASE_OWNER:
            return value and "10"
        for _ in range(2):
            value = re.sub(r"\b\d{5,}\b", lambda found: self._names.get(found[0], found[0]), value)
        value = value.replace(self._stored, "DATABASE").replace("shop", "DATABASE")
        return None if ACL.fullmatch(value) else OWNERS.sub("reader", value)


def values_for(types: Iterable[int], side: Side, word: str) -> list[Any]:
    """Choose a value for each parameter, by its type; `word` for texts."""
    known = {
        16: "t",
        20: "1",
        21: "1",
        23: "1",
        26: side.orders,
        700: "1",
        701: "1",
        1700: "1",
        2205: "orders",
        2206: "text",
    }
    known |= {
        1184: "2025-01-01",
        1114: "2025-01-01",
        1082: "2025-01-01",
        3802: "{}",
        114: "{}",
        19: word,
        25: word,
        1043: word,
    }
    known |= {
        1009: f"{{{word},orders}}",
        1003: f"{{{word},orders}}",
        1015: f"{{{word},orders}}",
        1007: "{1,2}",
        1016: "{1,2}",
    }
    known |= {1028: f"{{{side.orders}}}", 1002: "{r,v,p}", 18: "r", 705: word}
    return [known.get(each) for each in types]


class Trial:
    """One statement, played on both sides."""

    def __init__(self, captured: Captured, proxied: Side, world: Side, report: Report) -> None:
        """`report` is told what came of it."""
        self._captured = captured
        self._proxied = proxied
        self._world = world
        self._report = report
        self._told = f"{captured.client}: {' '.join(captured.sql.split())}"

    def run(self) -> None:
        """Play it, with other values a second time if it takes any, until it is known what to count it as."""
        types: tuple[int, ...] | None = ()
        if self._captured.parameters:
            types = self._world.types_of(self._captured.sql)
        verdicts = (
            {self._play(types, word) for word in (("public", "orders") if types else ("",))}
            if types is not None
            else {FAILS}
        )
        self._report.counts[next(verdict for verdict in VERDICTS if verdict in verdicts)] += 1

    def _play(self, types: tuple[int, ...], word: str) -> str:
        step: dict[str, Any] = {
            "sql": self._captured.sql,
            "proto": "extended" if self._captured.is_extended else "simple",
        }
        asked = {side: {**step, "params": values_for(types, side, word)} for side in (self._proxied, self._world)}
        theirs = self._world.play(asked[self._world])
        ours = self._proxied.play(asked[self._proxied])
        seen = CANARIES.search(without_own_words(ours.text, self._captured.sql))
        if seen is not None:
            return self._wrong(f"tells of {seen[0]}")
        if ours.sqlstate is not None or theirs.sqlstate is not None:
            return self._judge_errors(ours, theirs)
        a, b = plain(ours, self._proxied), plain(theirs, self._world)
        if a == b:
            if not is_sorted(self._captured.sql) or list(a.elements()) == list(b.elements()):
                return ALIKE
            self._report.excused[TIES].append(self._told)
            return EXCUSED
        again = plain(self._world.play(asked[self._world]), self._world)
        excuse = excuse_for(self._captured.sql, a, b, is_steady=again == b)
        if excuse is not None:
            self._report.excused[excuse].append(self._told)
            return EXCUSED
        only_ours, only_theirs = (sorted((x - y).elements(), key=repr)[:6] for x, y in ((a, b), (b, a)))
        return self._wrong(f"only ours: {str(only_ours)[:600]}\n    only theirs: {str(only_theirs)[:600]}")

    def _judge_errors(self, ours: Outcome, theirs: Outcome) -> str:
        if ours.sqlstate is None:
            return self._wrong(f"is answered, natively {theirs.summary}")
        if ours.sqlstate == theirs.sqlstate:
            return FAILS
        said = ours.errors[0]["M"]
        is_refused = said.startswith("permission denied") or theirs.sqlstate is None
        if theirs.sqlstate in ABSENT and not said.startswith(BEFORE_NAMES):
            return self._wrong(f"{ours.summary}, natively {theirs.summary}")
        if is_refused:
            self._report.refused[ours.sqlstate, said].append(self._told)
        return REFUSED if is_refused else FAILS

    def _wrong(self, what: str) -> str:
        self._report.wrong.append(f"{self._told}\n    {what}")
        return WRONG


def excuse_for(sql: str, ours: Answer, theirs: Answer, *, is_steady: bool) -> str | None:
    """Name the reason why two answers differ, if it is a known one. `is_steady`: the server gives the same when asked again."""
    if not is_steady:
        return "changes each time"
    if simplified(ours) == simplified(theirs):
        return "order inside an array; schemas of names inside an expression"
    known = (reason for reason, pattern in EXCUSES.items() if re.search(pattern, sql, re.IGNORECASE | re.DOTALL))
    return next(known, None)


def simplified(answer: Answer) -> Counter[str]:
    """Leave out what two honest answers may differ in."""
    return Counter(" ".join(sorted(re.findall(r"\w+", repr(row).replace("public.", "")))) for row in answer.elements())


def without_own_words(text: str, sql: str) -> str:
    """Leave out the words that the client itself brought."""
    own = {word.lower() for word in re.findall(r"\w+", sql)}
    return re.sub(r"\w+", lambda found: "" if found[0].lower() in own else found[0], text)


def is_sorted(sql: str) -> bool:
    """Say whether the statement itself has ORDER BY."""
    (raw,) = orjson.loads(parse_sql_json(sql))["stmts"]
    return "sortClause" in raw["stmt"].get("SelectStmt", {})


def plain(outcome: Outcome, side: Side) -> Answer:
    """Return what was answered; equal rows stand where the first of them was."""
    found: Answer = Counter()
    for result in outcome.results:
        found[tuple(name for name, _ in result.columns)] += 1
        shown = [name not in OF_THE_MACHINE for name, _ in result.columns]
        found.update(
            tuple(side.plain(value) if is_shown else None for value, is_shown in zip(row, shown, strict=True))
            for row in result.rows
        )
    return found
