"""The extended query protocol: names are the client's own, and stand for statements prepared upstream under names of ours.

A handler returns NOT_YET when it can't go on: the message then stays where it is and nothing behind it is looked at.
"""

from __future__ import annotations

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import EMPTY_STATEMENT
from pgfaucet.session import expectation as expect
from pgfaucet.session.deciding import DONE, NOT_YET, DecidingSide
from pgfaucet.session.expectation import Expectation
from pgfaucet.session.prepared import is_by_name
from pgfaucet.session.state import FAILED
from pgfaucet.session.statements import ClientStatement, Portal, cut_name
from pgfaucet.wire import messages


class ExtendedSide(DecidingSide):
    """Parse, Bind, Describe, Execute, Close, Flush, Sync."""

    def _on_parse(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        full_name, text, types = messages.parse_message(frame)
        name = cut_name(full_name)
        plan = self._plan(text, types)
        if plan is None:
            return NOT_YET
        if name and name in self.statements:
            raise FaucetError(Sqlstate.DUPLICATE_PREPARED_STATEMENT, f'prepared statement "{full_name}" already exists')
        if not name:
            self.statements.pop("", None)
        if plan.statements and plan.statements[0].is_step:
            raise FaucetError(
                Sqlstate.FEATURE_NOT_SUPPORTED,
                f"{plan.statements[0].verb} under this policy is not supported in the extended query protocol",
                hint="Send it as a simple query.",
            )
        if len(plan.statements) > 1:
            raise FaucetError(Sqlstate.SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
        if is_by_name(plan):
            raise FaucetError(
                Sqlstate.FEATURE_NOT_SUPPORTED,
                "PREPARE and EXECUTE are not supported in the extended query protocol",
                hint="Send them as simple queries, or prepare with the protocol.",
            )
        refused = plan.refused
        if refused is not None and refused.error is not None:
            self._refuse_extended(refused, refused.error)
            return DONE
        if not self._has_connection():
            return NOT_YET
        self._check_admission()
        statement = ClientStatement(name, text, types, self.search_path, self.guard, plan)
        self.statements[name] = statement
        self._prepare(statement, by_client=True)
        return DONE

    def _prepare(self, statement: ClientStatement, *, by_client: bool) -> None:
        """Make sure that the leased connection has the statement; answer the client's own Parse in its turn."""
        plan = statement.plan
        connection = self.connection
        if connection is None:
            raise FaucetError(Sqlstate.INTERNAL_ERROR, "no connection to prepare on")
        if connection.has_statement(plan.statement_name):
            if by_client and self.status == FAILED:
                self.expect(Expectation(expect.PARSE))  # the server says whether it may be prepared in a failed block
                self.to_upstream.append(messages.parse("", plan.text, statement.types))
            elif by_client:
                entry = expect.local(messages.PARSE_COMPLETE)
                entry.name, entry.restore = statement.name, statement
                self.expect(entry)
            return
        self.make_room(connection)
        connection.remember_statement(plan.statement_name)
        entry = Expectation(expect.PARSE if by_client else expect.INJECTED_PARSE)
        entry.connection_statement = plan.statement_name
        entry.plans = plan.statements
        entry.started = self.environment.clock()
        if by_client:
            entry.name, entry.restore = statement.name, statement
        self.expect(entry)
        self.to_upstream.append(plan.parse_frame)

    def _on_bind(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        bound = messages.bind_header(frame)
        statement = self.statement_named(bound.statement)
        refused = statement.plan.refused
        if refused is not None and refused.error is not None:
            self._refuse_extended(refused, refused.error)
            return DONE
        if not self._has_connection():
            return NOT_YET
        self._prepare(statement, by_client=False)
        self.portals[cut_name(bound.portal)] = Portal(statement, frame[bound.rest :])
        entry = Expectation(expect.BIND)
        entry.name = statement.name
        entry.plans = statement.plan.statements
        entry.parameters = frame[bound.rest :]
        entry.started = self.environment.clock()
        self.expect(entry)
        self.to_upstream.append(messages.rename_bind(frame, bound, statement.plan.statement_name))
        return DONE

    def _on_describe(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        kind, name = messages.describe_target(frame)
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
            self._prepare(statement, by_client=False)
            entry.plans = statement.plan.statements
            self.to_upstream.append(messages.describe_statement(statement.plan.statement_name))
        else:
            portal = self.portals.get(cut_name(name))
            if portal is not None:
                entry.plans = portal.statement.plan.statements
            elif self.connection is None:
                raise no_portal(
                    name
                )  # else the server knows: DECLARE makes portals too, of statements that were decided
            self.to_upstream.append(frame)
        self.expect(entry)
        return DONE

    def _portal(self, name: str) -> Portal:
        portal = self.portals.get(cut_name(name))
        if portal is None or self.connection is None:
            raise no_portal(name)
        return portal

    def _on_execute(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        name, _ = messages.execute_target(frame)
        portal = self._portal(name)
        self._check_admission()
        statement = portal.statement
        if not statement.guard.epoch.is_current:
            raise FaucetError(
                Sqlstate.INSUFFICIENT_PRIVILEGE,
                "permission denied: the policy or the catalog changed after this portal was bound",
                hint="Bind and execute the statement again.",
            )
        entry = Expectation(expect.EXECUTE)
        entry.plans = statement.plan.statements or (EMPTY_STATEMENT,)
        entry.parameters = portal.parameters
        entry.started = self.environment.clock()
        self.expect(entry)
        self._intend(entry)
        self.to_upstream.append(messages.execute(name) if entry.plans[0].swallow_rows else frame)
        if entry.bars:
            self.to_upstream.append(messages.FLUSH)
        return DONE

    def _on_close(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        kind, name = messages.describe_target(frame)
        name = cut_name(name)
        if kind == messages.STATEMENT:
            entry = expect.local(messages.CLOSE_COMPLETE)
            entry.name, entry.restore = name, self.statements.pop(name, None)
            self.expect(entry)
        elif self.connection is None:
            self.expect(expect.local(messages.CLOSE_COMPLETE))
        else:
            self.portals.pop(name, None)
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
        self.expect(Expectation(expect.SYNC))
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
