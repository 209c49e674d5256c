"""From the client to the server: each frontend message is decided, renamed where names are virtual, and sent on.

One handler for each message type; a type that is not in the table ends the session (08P01). A handler returns False when it can't
go on yet (no connection, a plan in the making): the message then stays where it is and nothing behind it is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.guard import POISON
from pgfaucet.plan import EMPTY_STATEMENT, QueryPlan, StatementPlan
from pgfaucet.session import expectation as expect
from pgfaucet.session.expectation import Expectation
from pgfaucet.session.settings import SettingsSide
from pgfaucet.session.state import FAILED
from pgfaucet.session.statements import ClientStatement, Portal, cut_name
from pgfaucet.sql.parse import needs_thread
from pgfaucet.wire import messages
from pgfaucet.wire.framing import OversizedStatement

if TYPE_CHECKING:
    from pgfaucet.guard import Guard
    from pgfaucet.upstream.connection import UpstreamConnection

DONE: Final = True
NOT_YET: Final = False

POISON_QUERY: Final = messages.query(POISON)
POISON_PARSE: Final = messages.parse("", POISON)


class RequestSide(SettingsSide):
    """The half of a session that reads from the client."""

    def __init__(self) -> None:
        super().__init__()
        self._frame: bytes | None = None  # the message at hand, while it can't go on
        self._thread_plan: tuple[str, QueryPlan] | None = None  # decided elsewhere, for the message at hand
        self._is_planning = False

    # -- the loop ----------------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Handle whole messages from the client until there are no more or one has to wait."""
        while self._may_go_on():
            try:
                frame = self._frame if self._frame is not None else self.next_frame()
            except OversizedStatement as error:
                self._refuse_message(error.kind, error)
                continue
            if frame is None:
                break
            self._frame = None
            handler = _HANDLERS.get(frame[0])
            if handler is None:
                self.end_session(FaucetError(Sqlstate.PROTOCOL_VIOLATION, f"invalid frontend message type {frame[0]}"))
                return
            try:
                if handler(self, frame) is NOT_YET:
                    self._frame = frame
                    break
            except FaucetError as error:
                self._refuse_message(frame[0], error)
        self.flush_upstream()

    def _may_go_on(self) -> bool:
        return not (self.is_waiting_for_lease or self._is_planning or self._held_status or self.is_closed)

    # -- the upstream connection -------------------------------------------------------------------------------------------------

    def _has_connection(self) -> bool:
        if self.connection is not None:
            return True
        connection = self.pool.acquire(self)
        if connection is None:
            self.is_waiting_for_lease = True
            return False
        self.connection = connection
        self.apply_settings()
        return True

    # -- deciding ----------------------------------------------------------------------------------------------------------------

    def _current_guard(self) -> Guard:
        if not self.guard.epoch.is_current:
            self.renew_guard()
        return self.guard

    def _plan(self, text: str, types: tuple[int, ...]) -> QueryPlan | None:
        """Return the plan, or None when it is being made in a thread."""
        guard = self._current_guard()
        plan = guard.cached(text, self.search_path, types)
        if plan is not None:
            return plan
        ready = self._thread_plan
        self._thread_plan = None
        if ready is not None and ready[0] == text:
            return ready[1]
        if needs_thread(text):
            self._is_planning = True
            self.plan_in_thread(guard, text, types)
            return None
        return guard.plan(text, self.search_path, types)

    def planned(self, text: str, plan: QueryPlan) -> None:
        """Take a plan that was made in a thread, and go on."""
        self._is_planning = False
        self._thread_plan = (text, plan)
        self.pump()

    def _check_admission(self) -> None:
        if not self.recorder.is_healthy:
            raise self.recorder.unavailable()
        self.check_rate()

    # -- simple query ------------------------------------------------------------------------------------------------------------

    def _on_query(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        text = messages.query_text(frame)
        plan = self._plan(text, ())
        if plan is None:
            return NOT_YET
        if self.connection is None and self._answers_query_itself(plan):
            return DONE
        if not self._has_connection():
            return NOT_YET
        self._check_admission()
        self.statements.pop("", None)
        self.portals.pop("", None)
        refused = plan.refused
        self._expect_query(plan.statements, refused.error if refused is not None else None)
        self.to_upstream.append(plan.query_frame)
        return DONE

    def _expect_query(self, plans: tuple[StatementPlan, ...], error: FaucetError | None) -> None:
        entry = Expectation(expect.QUERY)
        entry.plans = plans
        entry.error = error
        entry.started = self.environment.clock()
        self._append(entry)
        self._intend(entry)

    def _intend(self, entry: Expectation) -> None:
        """Put on record what is about to be forwarded, where the log's durability asks for it (strict)."""
        if self.recorder.records_intents:
            for plan in entry.plans:
                if plan.error is None:
                    self.intent = self.recorder.intent(plan, entry.parameters)

    def _append(self, entry: Expectation) -> None:
        self.expected.append(entry)
        if len(self.expected) == 1:
            self._swallows = entry.index < len(entry.plans) and entry.plans[entry.index].swallow_rows

    def _answers_query_itself(self, plan: QueryPlan) -> bool:
        """Answer what needs no server: an empty string, and a refusal with no transaction around it."""
        if not plan.statements:
            self.statements.pop("", None)
            self.answer(messages.EMPTY_QUERY_RESPONSE + messages.ready_for_query(self.status))
            return True
        first = plan.statements[0]
        if first.error is None:
            return False
        self.statements.pop("", None)
        self._answer_refusal(first, first.error, messages.ready_for_query(self.status))
        return True

    def _answer_refusal(self, plan: StatementPlan, error: FaucetError, after: bytes = b"") -> None:
        sequence = self.recorder.refused(plan, error)
        self.answer(messages.error_response("ERROR", error) + after, sequence)

    def answer(self, data: bytes, sequence: int = 0) -> None:
        """Send what we answer ourselves, behind the answers that only waited for their turn."""
        waiting = b""
        while self.expected and self.expected[0].kind == expect.LOCAL:
            waiting += self.expected.popleft().answer
        self.output.write(waiting + data, sequence)

    # -- extended query ----------------------------------------------------------------------------------------------------------

    def _on_parse(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        name, text, types = messages.parse_message(frame)
        name = cut_name(name)
        plan = self._plan(text, types)
        if plan is None:
            return NOT_YET
        if name and name in self.statements:
            raise FaucetError(Sqlstate.DUPLICATE_PREPARED_STATEMENT, f'prepared statement "{name}" already exists')
        if not name:
            self.statements.pop("", None)
        if len(plan.statements) > 1:
            raise FaucetError(Sqlstate.SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
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
                self._append(Expectation(expect.PARSE))  # the server says whether it may be prepared in a failed block
                self.to_upstream.append(messages.parse("", plan.text, statement.types))
            elif by_client:
                entry = expect.local(messages.PARSE_COMPLETE)
                entry.name, entry.restore = statement.name, statement
                self._append(entry)
            return
        for evicted in connection.remember_statement(plan.statement_name):
            self.to_upstream.append(messages.close_statement(evicted))
            self._append(Expectation(expect.INJECTED_CLOSE))
        entry = Expectation(expect.PARSE if by_client else expect.INJECTED_PARSE)
        entry.connection_statement = plan.statement_name
        entry.plans = plan.statements
        entry.started = self.environment.clock()
        if by_client:
            entry.name, entry.restore = statement.name, statement
        self._append(entry)
        self.to_upstream.append(plan.parse_frame)

    def _statement(self, name: str) -> ClientStatement:
        found = self.statements.get(cut_name(name))
        if found is None:
            what = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise FaucetError(Sqlstate.INVALID_STATEMENT_NAME, f"{what} does not exist")
        if not found.guard.epoch.is_current:
            guard = self._current_guard()
            found.plan = guard.plan(found.text, found.search_path, found.types)
            found.guard = guard
        return found

    def _on_bind(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        bound = messages.bind_header(frame)
        statement = self._statement(bound.statement)
        refused = statement.plan.refused
        if refused is not None and refused.error is not None:
            self._refuse_extended(refused, refused.error)
            return DONE
        if not self._has_connection():
            return NOT_YET
        self._prepare(statement, by_client=False)
        self.portals[cut_name(bound.portal)] = Portal(statement, frame[bound.rest :])
        entry = Expectation(expect.BIND)
        entry.plans = statement.plan.statements
        entry.parameters = frame[bound.rest :]
        entry.started = self.environment.clock()
        self._append(entry)
        self.to_upstream.append(messages.rename_bind(frame, bound, statement.plan.statement_name))
        return DONE

    def _on_describe(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        kind, name = messages.describe_target(frame)
        entry = Expectation(expect.DESCRIBE)
        if kind == messages.STATEMENT:
            statement = self._statement(name)
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
        self._append(entry)
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
        self._append(entry)
        self._intend(entry)
        self.to_upstream.append(messages.execute(name) if entry.plans[0].swallow_rows else frame)
        return DONE

    def _on_close(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        kind, name = messages.describe_target(frame)
        name = cut_name(name)
        if kind == messages.STATEMENT:
            entry = expect.local(messages.CLOSE_COMPLETE)
            entry.name, entry.restore = name, self.statements.pop(name, None)
            self._append(entry)
        elif self.connection is None:
            self._append(expect.local(messages.CLOSE_COMPLETE))
        else:
            self.portals.pop(name, None)
            self._append(Expectation(expect.CLOSE))
            self.to_upstream.append(frame)
        return DONE

    def _on_sync(self, frame: bytes) -> bool:
        if self.is_copying_in:
            return DONE
        self.skips_to_sync = False
        if self.connection is None:
            self.answer(messages.ready_for_query(self.status))
            return DONE
        self._append(Expectation(expect.SYNC))
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

    # -- refusals ----------------------------------------------------------------------------------------------------------------

    def _refuse_message(self, kind: int, error: FaucetError) -> None:
        """Refuse a message that has no plan of its own: bad names, a broken body, a limit."""
        plan = StatementPlan(_VERBS.get(kind, "UNKNOWN"), (), "", "", (), (), (), "", error=error)
        if kind in _REQUESTS_WITH_READY:
            self._refuse_query(plan, error)
        else:
            self._refuse_extended(plan, error)

    def _refuse_query(self, plan: StatementPlan, error: FaucetError) -> None:
        if self.connection is None:
            self._answer_refusal(plan, error, messages.ready_for_query(self.status))
            return
        self._expect_query((plan,), error)
        self.to_upstream.append(POISON_QUERY)

    def _refuse_extended(self, plan: StatementPlan, error: FaucetError) -> None:
        """Give the error in its place; with a connection at hand the server fails the batch or the block itself."""
        self.skips_to_sync = True
        if self.connection is None:
            self._answer_refusal(plan, error)
            return
        entry = Expectation(expect.PARSE)
        entry.plans = (plan,)
        entry.error = error
        entry.started = self.environment.clock()
        self._append(entry)
        self.to_upstream.append(POISON_PARSE)

    def lease_failed(self, error: FaucetError) -> None:
        """Answer the message that waited for a connection: there is none."""
        self.is_waiting_for_lease = False
        frame = self._frame
        self._frame = None
        if frame is not None:
            self._refuse_message(frame[0], error)
        self.pump()

    # -- the rest ----------------------------------------------------------------------------------------------------------------

    def _on_function_call(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        raise FaucetError(
            Sqlstate.FEATURE_NOT_SUPPORTED, "function calls through the fast-path interface are not supported"
        )

    def _on_copy_data(self, frame: bytes) -> bool:
        """Pass copy data on; the server itself drops what comes when no copy is open."""
        if self.connection is not None:
            self.to_upstream.append(frame)
        return DONE

    def _on_terminate(self, frame: bytes) -> bool:
        self.end_session(None)
        return DONE

    # -- what the session provides -----------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether the session has ended."""
        raise NotImplementedError

    def lease_granted(self, connection: UpstreamConnection) -> None:
        """Take the connection that was waited for."""
        raise NotImplementedError

    def upstream_lost(self, reason: str) -> None:
        """Learn that the connection is gone."""
        raise NotImplementedError

    def upstream_can_write(self, *, can: bool) -> None:
        """Learn whether the server reads what it is sent."""
        raise NotImplementedError

    def next_frame(self) -> bytes | None:
        """Return the client's next whole message."""
        raise NotImplementedError

    def renew_guard(self) -> None:
        """Take the guard of the policy and catalog now in force."""
        raise NotImplementedError

    def plan_in_thread(self, guard: Guard, text: str, types: tuple[int, ...]) -> None:
        """Decide a long text away from the event loop, then call `planned`."""
        raise NotImplementedError

    def check_rate(self) -> None:
        """Raise when the role's rate limit is passed (53400)."""
        raise NotImplementedError


def no_portal(name: str) -> FaucetError:
    """Word that there is no portal of a name, as the server does."""
    return FaucetError(Sqlstate.INVALID_CURSOR_NAME, f'portal "{name}" does not exist')


_HANDLERS: Final = {
    ord("Q"): RequestSide._on_query,
    ord("P"): RequestSide._on_parse,
    ord("B"): RequestSide._on_bind,
    ord("D"): RequestSide._on_describe,
    ord("E"): RequestSide._on_execute,
    ord("C"): RequestSide._on_close,
    ord("S"): RequestSide._on_sync,
    ord("H"): RequestSide._on_flush,
    ord("F"): RequestSide._on_function_call,
    ord("d"): RequestSide._on_copy_data,
    ord("c"): RequestSide._on_copy_data,
    ord("f"): RequestSide._on_copy_data,
    ord("X"): RequestSide._on_terminate,
}

_REQUESTS_WITH_READY: Final = frozenset(map(ord, "QF"))
_VERBS: Final = {ord("F"): "FUNCTION CALL"}
