"""SQL-level PREPARE and EXECUTE, in simple queries and in the extended protocol.

They share their names with the statements of the extended protocol, as on the server; like those they are prepared on whichever
connection the client is served by, once for everybody who uses the same text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pglast.parser import scan

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.guard import query_plan
from pgfaucet.plan import EMPTY_STATEMENT, LOOKS_AT_TEXT, StatementKind
from pgfaucet.session import expectation as expect
from pgfaucet.session.expectation import Expectation
from pgfaucet.session.state import FAILED
from pgfaucet.session.statements import MAX_NAME_BYTES, ClientStatement, cut_name, parse_frame
from pgfaucet.sql.prepared import EXECUTED
from pgfaucet.wire import messages
from pgfaucet.wire.encodings import UTF8

if TYPE_CHECKING:
    from pgfaucet.plan import QueryPlan, StatementPlan
    from pgfaucet.session.deciding import DecidingSide
    from pgfaucet.session.script import ScriptSide
    from pgfaucet.upstream.connection import UpstreamConnection

NOTHING: Final = "SELECT"


def is_by_name(plan: QueryPlan) -> bool:
    """Whether a query string prepares or executes by SQL."""
    return any(plan.kind in (StatementKind.PREPARE, StatementKind.EXECUTE) for plan in plan.statements)


def notice_of_cut_name(text: str, kept: str) -> bytes:
    """Build the notice that the server gives of a name longer than an identifier may be, for the name in a PREPARE."""
    if len(kept.encode()) < MAX_NAME_BYTES - 3:  # a character at the cut is left out whole
        return b""
    written = next((text[token.start : token.end + 1] for token in scan(text) if token.name == "IDENT"), "")
    name = written[1:-1].replace('""', '"') if written.startswith('"') else written
    cut = cut_name(name)
    if cut == name:
        return b""
    said = f'identifier "{name}" will be truncated to "{cut}"'
    fields = {"S": "NOTICE", "V": "NOTICE", "C": "42622", "M": said}
    return messages.response_from_fields(b"N", fields)


def give_names(session: ScriptSide, plan: QueryPlan) -> None:
    """Give prepared statements the client's own names upstream, on a connection that stays with it, before a statement looks at them."""
    connection = session.connection
    if connection is None or session.has_server_names or session.status == FAILED or session.is_in_batch:
        return
    if plan.looks_at == LOOKS_AT_TEXT and not any(statement.written for statement in session.statements.values()):
        return
    if session.pin is None:
        session.pin_connection(plan.looks_at)
    session.has_server_names = True
    connection.forget_statements()
    session.queue_internal(_command("DEALLOCATE ALL"), None)
    for statement in session.statements.values():
        if statement.own and statement.name:
            _prepare_under_own_name(session, connection, statement)


def _prepare_under_own_name(session: ScriptSide, connection: UpstreamConnection, statement: ClientStatement) -> None:
    name = session.upstream_name(statement)
    frame = parse_frame(statement.plan, name, statement.types, session.codec)
    connection.remember_statement(name)

    def prepared(_rows: list[bytes], error: FaucetError | None) -> None:
        if error is not None:  # told when it is used
            connection.forget_statement(name)

    session.queue_internal(_command(statement.written, session.codec) if statement.written else [frame], prepared)


def _command(text: str, codec: str = UTF8) -> list[bytes]:
    return [messages.parse("", text, (), codec), messages.bind("", "", ()), messages.execute("")]


def _in_sql(name: bytes, codec: str) -> str:
    return '"' + name.decode(codec).replace('"', '""') + '"'


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
        _prepare(session, text, statement)
    else:
        _execute(session, text, statement)
    return True


def _prepare(session: DecidingSide, text: str, plan: StatementPlan) -> None:
    made, connection = named_by(session, text, plan), session.connection
    if connection is None:
        raise FaucetError(Sqlstate.INTERNAL_ERROR, "no connection to prepare on")
    entry = Expectation(expect.QUERY)
    entry.plans = (plan,)
    entry.source, entry.sent = text, made.plan.text
    entry.started = session.environment.clock()
    entry.name, entry.restore = made.name, made
    frame = messages.parse("", made.plan.text, made.types, session.codec)
    upstream_name = session.upstream_name(made)
    if not connection.has_statement(upstream_name):
        session.make_room(connection)
        connection.remember_statement(upstream_name)
        entry.connection_statement = upstream_name
        frame = parse_frame(made.plan, upstream_name, made.types, session.codec)
    session.expect(entry)
    is_seen = session.has_server_names and made.own
    session.to_upstream += (messages.query(text, session.codec),) if is_seen else (frame, messages.SYNC)


def named_by(session: DecidingSide, text: str, plan: StatementPlan) -> ClientStatement:
    """Give the session the statement that a PREPARE makes. Raises FaucetError 42P05."""
    inner, name = plan.inner, cut_name(plan.name or "")
    if inner is None:
        raise FaucetError(Sqlstate.INTERNAL_ERROR, "nothing to prepare")
    if name in session.statements:
        raise FaucetError(Sqlstate.DUPLICATE_PREPARED_STATEMENT, f'prepared statement "{name}" already exists')
    made = ClientStatement(name, inner.source, inner.types, session.search_path, session.guard, inner.plan)
    made.written = text
    session.statements[name] = made
    return made


def _execute(session: DecidingSide, text: str, plan: StatementPlan) -> None:
    statement, made = _executed(session, text, plan)
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
    sent = made.sql.replace(EXECUTED, _in_sql(upstream_name, session.codec), 1)
    session.expect_query((made,), None, texts=(text, sent), name=cut_name(plan.name or ""))
    session.to_upstream.append(messages.query(sent, session.codec))


def sent_by_name(
    session: DecidingSide, text: str, types: tuple[int, ...], plan: QueryPlan
) -> tuple[ClientStatement | None, QueryPlan]:
    """Return the statement that an EXECUTE in the extended protocol names, and the plan to run it.

    A PREPARE is sent as a statement that does nothing; what it prepares goes upstream when it is executed.
    Raises FaucetError: 26000, 42501.
    """
    named, version = plan.statements[0], session.guard.world.catalog.version
    if named.kind is StatementKind.PREPARE:
        idle = replace(named, sql=NOTHING, tag="PREPARE", swallow_rows=True)
        return None, query_plan((idle,), NOTHING, types, version)
    statement, made = _executed(session, text, named)
    sent = made.sql.replace(EXECUTED, _in_sql(session.upstream_name(statement), session.codec), 1)
    return statement, query_plan((made,), sent, types, version)


def _executed(session: DecidingSide, text: str, plan: StatementPlan) -> tuple[ClientStatement, StatementPlan]:
    """Return the statement that an EXECUTE names, and what is known of both."""
    statement = session.statement_named(plan.name or "")
    refused = statement.plan.refused
    if refused is not None and refused.error is not None:
        raise refused.error.without_position()
    runs = statement.plan.statements[0] if statement.plan.statements else EMPTY_STATEMENT
    is_judged = plan.verb == "EXPLAIN" and not session.guard.forwards_everything
    return statement, _explaining(session, text, runs) if is_judged else _executing(plan, runs)


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
