"""The databases that the fuzzer plays its statements on, and the guard that decides them, without a proxy in between.

`native` is asked as the role itself, under grants and row level security. `ours` and `other` are asked what the guard made of the
statement, as the service user; `other` differs from `ours` in hidden rows only. Everything is rolled back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pgfaucet.guard import Epoch, Guard
from pgfaucet.plan import EMPTY_STATEMENT
from pgfaucet.policy.compile import compile_world
from pgfaucet.policy.loader import load
from pgfaucet.session.cleaning import clean_error
from pgfaucet.upstream.connection import FIXED_PARAMETERS, connect_catalog
from pgfaucet.upstream.dsn import parse_dsn
from pgfaucet.upstream.introspect import read_catalog
from tests.kit import wire
from tests.kit.outcome import Gatherer, Outcome
from tests.kit.policies import SERVER
from tests.kit.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.plan import StatementPlan
    from tests.kit.postgres import Postgres

HERE = Path(__file__).parent
SUITE = HERE.parent
TEMPLATE = "differential"
ROLES = """do $$ begin
    if to_regrole('svc') is null then create role svc login; end if;
    if to_regrole('agent') is null then create role agent login; end if;
end $$"""
TABLES = ("dept", "people", "pubref", "ev", "animals", "tagged")
UNFILTERED = frozenset({"pubref"})
SECONDS = 20.0


def _digest(condition: str, row: str) -> str:
    """Write a query of all rows that a condition holds for."""
    parts = [
        f"select relname::text as t, ({row})::text as r from public.{name} x join pg_catalog.pg_class c on c.oid = x.tableoid"
        f" where {'true' if name in UNFILTERED else condition}"
        for name in TABLES
    ]
    return f"select t, r from ({' union all '.join(parts)}) x order by 1, 2"


EVERYTHING = _digest("true", "to_jsonb(x)")
VISIBLE = _digest("x.tenant_id = 42", "to_jsonb(x) - 'ssn'")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement returned, and what the tables held after it (None where nobody looked)."""

    outcome: Outcome
    contents: tuple[tuple[str | None, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a statement became: the text to send, or why there is none."""

    text: str
    plan: StatementPlan = EMPTY_STATEMENT
    refusal: Outcome | None = None


class Session(Wire):
    """A superuser's connection that runs each statement as a role, in a transaction that is rolled back."""

    def __init__(self, postgres: Postgres, database: str, role: str, **parameters: str) -> None:
        self._port = postgres.port
        self._parameters = {"database": database, "user": "postgres", "TimeZone": "UTC", **parameters}
        self._begin = f"begin; select setval('public.tagged_id_seq', 100); set local role {role}"
        self._connect()

    def _connect(self) -> None:
        """Connect, when the server takes connections: it may be on its feet again after a fall."""
        deadline = time.monotonic() + SECONDS
        while not self._is_let_in():
            assert time.monotonic() < deadline, "the server does not get up again"
            self.socket.close()
            time.sleep(0.2)

    def _is_let_in(self) -> bool:
        try:
            super().__init__(self._port, timeout=SECONDS)
            if self.log_in("", **self._parameters).tag != "Z":
                return False
            self._send("set statement_timeout = '5s'; set jit = off; set max_parallel_workers_per_gather = 0")
            return True
        except (EOFError, ConnectionError):
            return False

    def play(self, sql: str, look: str | None) -> Answer:
        """Run a statement; `look`: how to see what it did."""
        if look is None:
            return Answer(self._ask(self._begin, sql, "rollback")[1])
        _, outcome, _, seen, _ = self._ask(self._begin, sql, "reset role", look, "rollback")
        return Answer(outcome, None if seen.errors else tuple(seen.results[0].rows))

    def vacuum(self) -> None:
        """Drop what rolled back statements left behind."""
        self._ask(f"vacuum analyze {', '.join(f'public.{name}' for name in TABLES)}")

    def _ask(self, *texts: str) -> list[Outcome]:
        """Run queries, again if the server fell meanwhile. Where it falls each time, that is the outcome of each."""
        for _ in range(2):
            with contextlib.suppress(EOFError, ConnectionError):
                outcomes = self._send(*texts)
                if not any(outcome.ended for outcome in outcomes):
                    return outcomes
            self.socket.close()
            time.sleep(1)  # until it knows that it fell
            self._connect()
        return [Outcome(errors=[{"C": "XX000", "M": "the server fell"}]) for _ in texts]

    def _send(self, *texts: str) -> list[Outcome]:
        self.send(*(wire.query(text) for text in texts))
        outcomes = []
        for _ in texts:
            gathered = Gatherer()
            while not gathered.take(self.receive()):
                pass
            outcomes.append(gathered.outcome)
        return outcomes


class Databases:
    """The three databases, the connections to them and the guard; a context manager."""

    def __init__(self, postgres: Postgres, directory: Path, naive: Callable[[str], str] | None = None) -> None:
        """Take what stands in for the guard, where the fuzzer itself is to be tested."""
        self._postgres = postgres
        self._naive = naive
        postgres.run_sql("postgres", ROLES)
        postgres.load_template(TEMPLATE, SUITE / "schema.sql")
        self.names = [postgres.new_database(TEMPLATE) for _ in range(3)]
        postgres.run_sql(self.names[2], f"{(HERE / 'hidden.sql').read_text()}; analyze")
        path = {} if naive else FIXED_PARAMETERS
        self.native = Session(postgres, self.names[0], "agent")
        self.ours = Session(postgres, self.names[1], "svc", **path)
        self.other = Session(postgres, self.names[2], "svc", **path)
        self.guard = asyncio.run(make_guard(postgres, self.names[1], directory))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for session in (self.native, self.ours, self.other):
            session.__exit__()
        for name in self.names:
            self._postgres.drop_database(name)

    def vacuum(self) -> None:
        """Vacuum them all."""
        for session in (self.native, self.ours, self.other):
            session.vacuum()

    def rewrite(self, sql: str) -> Rewritten:
        """Decide a statement; half of them by way of their shape."""
        if self._naive is not None:
            return Rewritten(self._naive(sql))
        plan = (self.guard.plan_query if len(sql) % 2 else self.guard.plan)(sql, self.guard.world.search_path)
        if plan.refused is None:
            return Rewritten(plan.text, plan.statements[0])
        error = plan.refused.error
        assert error is not None
        fields = {"C": error.sqlstate, "M": f"{error.message} ({error.reason})"}
        return Rewritten("", refusal=Outcome(errors=[fields]))


async def make_guard(postgres: Postgres, database: str, directory: Path) -> Guard:
    """Make the guard of the suite's role against a database."""
    (directory / "server.yaml").write_text(SERVER)
    (directory / "roles.yaml").write_text((SUITE / "roles.yaml").read_text())
    dsn = f"postgresql://svc@127.0.0.1:{postgres.port}/{database}"
    names = {
        "UPSTREAM_DSN": dsn,
        "UPSTREAM_PASSWORD": "",
        "PGFAUCET_LISTEN": "127.0.0.1:1",
        "PGFAUCET_ADMIN": "127.0.0.1:2",
    }
    role = load(directory, environ={**names, "PGFAUCET_STATE": str(directory)}).policy.roles["agent"]
    connection = await connect_catalog(parse_dsn(dsn, password=""))
    try:
        catalog = await read_catalog(connection, None)
    finally:
        connection.terminate()
    world, problems = compile_world(role, catalog, {}, role.name)
    assert not problems, problems
    return Guard(world, Epoch(), statement_bytes=role.limits.statement_bytes)


def as_the_client_has_it(answer: Answer, plan: StatementPlan) -> Answer:
    """Do to an answer of the server's what the proxy does to it."""
    outcome = answer.outcome
    outcome.errors = [clean_error(fields, plan) for fields in outcome.errors]
    outcome.notices = [clean_error(fields, plan) for fields in outcome.notices]
    for result in outcome.results:
        if plan.swallow_rows:
            result.columns, result.rows = (), []
    return answer
