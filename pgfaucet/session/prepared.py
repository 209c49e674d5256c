"""SQL-level PREPARE and EXECUTE, in simple queries.

They share their names with the statements of the extended protocol, as on the server; like those they are prepared on whichever
connection the client is served by, once for everybody who uses the same text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import EMPTY_STATEMENT, StatementKind
from pgfaucet.session import expectation as expect
from pgfaucet.session.expectation import Expectation
from pgfaucet.session.statements import ClientStatement, cut_name, parse_frame
from pgfaucet.sql.prepared import EXECUTED
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.plan import QueryPlan, StatementPlan
    from pgfaucet.session.deciding import DecidingSide


def is_by_name(plan: QueryPlan) -> bool:
    """Whether a query string prepares or executes by SQL."""
    return any(plan.kind in (StatementKind.PREPARE, StatementKind.EXECUTE) for plan in plan.statements)


def run_by_name(session: DecidingSide, text: str, plan: QueryPlan) -> bool:
    """Send a PREPARE or EXECUTE upstream, as what it stands for. Raises FaucetError: 42P05, 26000, 0A000, 42501."""
    statement = plan.statements[0]
    if len(plan.statements) > 1:
        raise FaucetError(
            Sqlstate.FEATURE_NOT_SUPPORTED,
            "PREPARE and EXECUTE cannot be combined with other statements in one query string",
            hint="Send them one by one.",
        )
    if statement.kind is StatementKind.PREPARE:
        _prepare(session, statement)
    else:
        _execute(session, text, statement)
    return True


def _prepare(session: DecidingSide, plan: StatementPlan) -> None:
    inner, name = plan.inner, cut_name(plan.name or "")
    connection = session.connection
    if inner is None or connection is None:
        raise FaucetError(Sqlstate.INTERNAL_ERROR, "nothing to prepare, or nothing to prepare it on")
    if name in session.statements:
        raise FaucetError(Sqlstate.DUPLICATE_PREPARED_STATEMENT, f'prepared statement "{name}" already exists')
    entry = Expectation(expect.QUERY)
    entry.plans = (plan,)
    entry.started = session.environment.clock()
    entry.name = name
    entry.restore = ClientStatement(name, inner.source, inner.types, session.search_path, session.guard, inner.plan)
    session.statements[name] = entry.restore
    frame = messages.parse("", inner.plan.text, inner.types, session.codec)
    upstream_name = session.upstream_name(entry.restore)
    if not connection.has_statement(upstream_name):
        session.make_room(connection)
        connection.remember_statement(upstream_name)
        entry.connection_statement = upstream_name
        frame = parse_frame(inner.plan, upstream_name, inner.types, session.codec)
    session.expect(entry)
    session.to_upstream += (frame, messages.SYNC)


def _execute(session: DecidingSide, text: str, plan: StatementPlan) -> None:
    statement = session.statement_named(plan.name or "")
    refused = statement.plan.refused
    if refused is not None and refused.error is not None:
        raise refused.error.without_position()
    runs = statement.plan.statements[0] if statement.plan.statements else EMPTY_STATEMENT
    made = _explaining(session, text, runs) if plan.verb == "EXPLAIN" else _executing(plan, runs)
    connection = session.connection
    if connection is None:
        raise FaucetError(Sqlstate.INTERNAL_ERROR, "no connection to execute on")
    upstream_name = session.upstream_name(statement)
    if not connection.has_statement(upstream_name):
        session.make_room(connection)
        connection.remember_statement(upstream_name)

        def prepared(_rows: list[bytes], error: FaucetError | None) -> None:
            if error is not None:
                connection.forget_statement(upstream_name)

        session.queue_internal([parse_frame(statement.plan, upstream_name, statement.types, session.codec)], prepared)
    session.expect_query((made,), None)
    session.to_upstream.append(messages.query(made.sql.replace(EXECUTED, upstream_name.decode(), 1), session.codec))


def executed_by(session: DecidingSide, plan: QueryPlan) -> tuple[ClientStatement, QueryPlan]:
    """Return the statement that an EXECUTE in the extended protocol names, and the plan to run it. Raises FaucetError: 26000, 0A000."""
    named = plan.statements[0]
    if named.verb != "EXECUTE" or not session.guard.forwards_everything:
        raise FaucetError(
            Sqlstate.FEATURE_NOT_SUPPORTED,
            "PREPARE and EXECUTE are not supported in the extended query protocol",
            hint="Send them as simple queries, or prepare with the protocol.",
        )
    statement = session.statement_named(named.name or "")
    made = _executing(named, statement.plan.statements[0] if statement.plan.statements else EMPTY_STATEMENT)
    text = made.sql.replace(EXECUTED, session.upstream_name(statement).decode(), 1)
    return statement, replace(plan, statements=(made,), text=text)


def _explaining(session: DecidingSide, text: str, runs: StatementPlan) -> StatementPlan:
    """Decide an EXPLAIN EXECUTE, now that it is known which tables' plan it shows."""
    (made,) = session.guard.decide(text, session.search_path, (), runs.tables).statements
    if made.error is not None:
        raise made.error.without_position()
    return replace(made, tables=runs.tables)


def _executing(plan: StatementPlan, runs: StatementPlan) -> StatementPlan:
    """Put what is known of the prepared statement into the plan of its EXECUTE."""
    return replace(
        plan,
        tables=runs.tables,
        reasons=runs.reasons,
        settings=(*plan.settings, *runs.settings),
        pin=plan.pin or runs.pin,
        tag=runs.tag,
        swallow_rows=runs.swallow_rows,
        check_table=runs.check_table,
        clean_errors=runs.clean_errors,
    )
