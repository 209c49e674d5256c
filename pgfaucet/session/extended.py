"""The extended query protocol: names are the client's own, and stand for statements prepared upstream under names of ours.

A handler returns NOT_YET when it can't go on: the message then stays where it is and nothing behind it is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import EMPTY_STATEMENT, StatementKind
from pgfaucet.session import expectation as expect
from pgfaucet.session.deciding import DONE, NOT_YET
from pgfaucet.session.expectation import Expectation
from pgfaucet.session.prepared import give_names, is_by_name, named_by, sent_by_name
from pgfaucet.session.results import result_changed
from pgfaucet.session.script import ScriptSide
from pgfaucet.session.state import FAILED
from pgfaucet.session.statements import ClientStatement, Portal, cut_name, parse_frame, portal_name
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.plan import QueryPlan
    from pgfaucet.upstream.connection import UpstreamConnection


def _check_is_one(plan: QueryPlan) -> None:
    if plan.statements and plan.statements[0].is_step:
        raise FaucetError(
            Sqlstate.FEATURE_NOT_SUPPORTED,
            f"{plan.statements[0].verb} under this policy is not supported in the extended query protocol",
            hint="Send it as a simple query.",
        )
    if len(plan.statements) > 1:
        raise FaucetError(Sqlstate.SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")


class ExtendedSide(ScriptSide):
    """Parse, Bind, Describe, Execute, Close, Flush, Sync."""

    def _on_parse(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        full_name, text, types = messages.parse_message(frame, self.codec)
        name = cut_name(full_name)
        plan = self._plan(text, types)
        if plan is None:
            return NOT_YET
        if name and name in self.statements:
            raise FaucetError(Sqlstate.DUPLICATE_PREPARED_STATEMENT, f'prepared statement "{full_name}" already exists')
        if not name:
            self.forget_statement("")
        _check_is_one(plan)
        refused = plan.refused
        if refused is not None and refused.error is not None:
            if plan.asked and not self._has_connection():
                return NOT_YET
            self._refuse_extended(refused, refused.error, plan.asked, types)
            return DONE
        if self.connection is None and self._parses_itself(name, text, types, plan):
            return DONE
        if not self._has_connection():
            return NOT_YET
        self._check_admission()
        if plan.looks_at:
            give_names(self, plan)
        executed, plan = sent_by_name(self, text, types, plan) if is_by_name(plan) else (None, plan)
        statement = ClientStatement(name, text, types, self.search_path, self.guard, plan)
        statement.executes = executed
        self.statements[name] = statement
        self._prepare(statement, by_client=True)
        return DONE

    def _parses_itself(self, name: str, text: str, types: tuple[int, ...], plan: QueryPlan) -> bool:
        """Answer a Parse of what the server has parsed before, for whomever: it needs no connection before it is bound.

        pgbench waits for such an answer while its other clients hold all connections of the pool.
        """
        statement = ClientStatement(name, text, types, self.search_path, self.guard, plan)
        if statement.own or is_by_name(plan) or self.upstream_name(statement) not in self.pool.parsed:
            return False
        self._check_admission()
        self.statements[name] = statement
        self._answer_parse(statement)
        return True

    def _prepare(self, statement: ClientStatement, *, by_client: bool) -> bool:
        """Make sure that the leased connection has the statement; answer the client's own Parse in its turn.

        NOT_YET: what it gives there is compared with what the client was told of. Raises FaucetError 0A000 when that was found to differ.
        """
        connection = self.connection
        if connection is None:
            raise FaucetError(Sqlstate.INTERNAL_ERROR, "no connection to prepare on")
        if statement.is_changed:
            raise result_changed()
        if statement.executes is not None and self._prepare_executed(statement.executes) is NOT_YET:
            return NOT_YET
        upstream_name = self.upstream_name(statement)
        if not upstream_name and connection.unnamed is statement:
            return DONE
        if connection.has_statement(upstream_name):
            if by_client:
                self._answer_parse(statement)
            return DONE
        self._parse_upstream(connection, statement, upstream_name, by_client=by_client)
        return DONE if statement.result is None else self._compare(statement, upstream_name)

    def _parse_upstream(
        self, connection: UpstreamConnection, statement: ClientStatement, upstream_name: bytes, *, by_client: bool
    ) -> None:
        self.make_room(connection)
        if upstream_name:
            connection.remember_statement(upstream_name)
        else:
            connection.unnamed = statement
        entry = Expectation(expect.PARSE if by_client else expect.INJECTED_PARSE)
        entry.connection_statement = upstream_name
        entry.plans = statement.plan.statements
        entry.started = self.environment.clock()
        if by_client:
            entry.name, entry.restore = statement.name, statement
        self.expect(entry)
        self.to_upstream.append(parse_frame(statement.plan, upstream_name, statement.types, self.codec))

    def _compare(self, statement: ClientStatement, upstream_name: bytes) -> bool:
        entry = Expectation(expect.INJECTED_DESCRIBE)
        entry.describes = statement
        entry.plans = statement.plan.statements
        entry.bars = self._is_barred = True
        self.expect(entry)
        self.to_upstream += (messages.describe_statement(upstream_name), messages.FLUSH)
        return NOT_YET

    def _prepare_executed(self, executed: ClientStatement) -> bool:
        """Make sure that what an EXECUTE names is there, and still the same."""
        if self.statement_named(executed.name) is not executed:
            raise FaucetError(Sqlstate.INVALID_STATEMENT_NAME, f'prepared statement "{executed.name}" does not exist')
        return self._prepare(executed, by_client=False)

    def _answer_parse(self, statement: ClientStatement) -> None:
        """Answer a Parse of what the connection has already; in a failed block the server says whether it may be."""
        if self.status == FAILED:
            self.expect(Expectation(expect.PARSE))
            self.to_upstream.append(messages.parse("", statement.plan.text, statement.types))
            return
        entry = expect.local(messages.PARSE_COMPLETE)
        entry.name, entry.restore = statement.name, statement
        self.expect(entry)

    def _on_bind(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        if self.resets and not self.guard.forwards_everything:
            raise FaucetError(
                Sqlstate.FEATURE_NOT_SUPPORTED,
                "DISCARD ALL has to be the last statement of its batch",
                hint="Send Sync behind it.",
                reason="the settings that the policy fixes are put back at the end of the batch",
            )
        bound = messages.bind_header(frame, self.codec)
        statement = self.statement_named(bound.statement)
        refused = statement.plan.refused
        if refused is not None and refused.error is not None:
            self._refuse_extended(refused, refused.error)
            return DONE
        if not self._has_connection():
            return NOT_YET
        if self._prepare(statement, by_client=False) is NOT_YET:
            return NOT_YET
        self.portals[portal_name(bound.portal)] = Portal(statement, frame[bound.rest :])
        entry = Expectation(expect.BIND)
        entry.runs = self.upstream_name(statement)
        entry.name, entry.portal = statement.name, portal_name(bound.portal)
        entry.plans = statement.plan.statements
        entry.parameters = frame[bound.rest :]
        entry.started = self.environment.clock()
        self.expect(entry)
        self.to_upstream.append(messages.rename_bind(frame, bound, entry.runs))
        return DONE

    def _on_describe(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        kind, name = messages.describe_target(frame, self.codec)
        entry = Expectation(expect.DESCRIBE)
        entry.name = cut_name(name)
        if kind == messages.STATEMENT:
            statement = self.statement_named(name)
            refused = statement.plan.refused
            if refused is not None and refused.error is not None:
                self._refuse_extended(refused, refused.error)
                return DONE
            if not self._has_connection():
                return NOT_YET
            if self._prepare(statement, by_client=False) is NOT_YET:
                return NOT_YET
            entry.describes = statement
            entry.plans = statement.plan.statements
            entry.runs = self.upstream_name(statement)
            self.to_upstream.append(messages.describe_statement(entry.runs))
        else:
            portal = self.portals.get(portal_name(name))
            if portal is not None:
                entry.describes = portal.statement
                entry.plans = portal.statement.plan.statements
            elif self.connection is None:
                raise no_portal(
                    name
                )  # else the server knows: DECLARE makes portals too, of statements that were decided
            self.to_upstream.append(frame)
        self.expect(entry)
        return DONE

    def _portal(self, name: str) -> Portal:
        portal = self.portals.get(portal_name(name))
        if portal is None or self.connection is None:
            raise no_portal(name)
        return portal

    def _on_execute(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        name, _ = messages.execute_target(frame, self.codec)
        portal = self._portal(name)
        self._check_admission()
        statement = portal.statement
        self.check_still_decided(statement)
        self.follow_cursors(statement)
        entry = Expectation(expect.EXECUTE)
        entry.plans = statement.plan.statements or (EMPTY_STATEMENT,)
        entry.parameters = portal.parameters
        entry.started = self.environment.clock()
        if entry.plans[0].kind is StatementKind.PREPARE:
            entry.restore = named_by(self, statement.text, entry.plans[0])
            entry.name = entry.restore.name
            self._prepare(entry.restore, by_client=False)
        elif statement.executes is not None:
            entry.name = statement.executes.name
        self.expect(entry)
        self._intend(entry)
        self.to_upstream.append(messages.execute(name) if entry.plans[0].swallow_rows else frame)
        if entry.bars:
            self.to_upstream.append(messages.FLUSH)
        return DONE

    def _on_close(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        kind, name = messages.describe_target(frame, self.codec)
        if kind == messages.STATEMENT:
            name = cut_name(name)
            entry = expect.local(messages.CLOSE_COMPLETE)
            entry.name, entry.restore = name, self.forget_statement(name)
            self.expect(entry)
        elif self.connection is None:
            self.expect(expect.local(messages.CLOSE_COMPLETE))
        else:
            self.portals.pop(portal_name(name), None)
            self.expect(Expectation(expect.CLOSE))
            self.to_upstream.append(frame)
        return DONE

    def _on_sync(self, frame: bytes) -> bool:
        if self.is_copying_in:
            return DONE
        self.skips_to_sync = False
        if self.connection is None:
            self.answer(messages.ready_for_query(self.status))
            return DONE
        entry = Expectation(expect.SYNC)
        if self.resets:  # they are put back when the batch has ended: nothing may run before
            entry.bars = self._is_barred = True
        self.expect(entry)
        self.to_upstream.append(messages.SYNC)
        return DONE

    def _on_flush(self, frame: bytes) -> bool:
        if self.is_copying_in or self.skips_to_sync:
            return DONE
        if self.expected and self.expected[0].kind == expect.LOCAL:
            self.answer(b"")
        if self.connection is not None:
            self.to_upstream.append(messages.FLUSH)
        return DONE


def no_portal(name: str) -> FaucetError:
    """Word that there is no portal of a name, as the server does."""
    return FaucetError(Sqlstate.INVALID_CURSOR_NAME, f'portal "{name}" does not exist')
