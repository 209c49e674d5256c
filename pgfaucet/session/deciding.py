"""What every request of a client goes through: a decision, a connection, an expectation of the answer, or a refusal in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.guard import POISON
from pgfaucet.plan import QueryPlan, StatementKind, StatementPlan
from pgfaucet.session import expectation as expect
from pgfaucet.session.catalog import CatalogSide
from pgfaucet.session.expectation import Expectation
from pgfaucet.session.prepared import is_by_name, sent_by_name
from pgfaucet.session.results import Change, changes_of, check_parameters, result_changed
from pgfaucet.session.statements import ClientStatement, cut_name
from pgfaucet.sql.parse import needs_thread
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.guard import Guard
    from pgfaucet.plan import GivenText
    from pgfaucet.upstream.connection import UpstreamConnection

DONE: Final = True
NOT_YET: Final = False
POISON_QUERY: Final = messages.query(POISON)
POISON_PARSE: Final = messages.parse("", POISON)
_REQUESTS_WITH_READY: Final = frozenset(map(ord, "QF"))
CURSOR_VERBS: Final = frozenset({"DECLARE CURSOR", "FETCH", "MOVE"})
_VERBS: Final = {ord("F"): "FUNCTION CALL"}


class DecidingSide(CatalogSide):
    """The moves that all kinds of requests are made of."""

    def __init__(self) -> None:
        super().__init__()
        self._frame: bytes | None = None  # the message at hand, while it can't go on
        self._thread_plan: tuple[Guard, str, tuple[int, ...], QueryPlan] | None = (
            None  # decided elsewhere, for the message at hand
        )
        self._is_planning = False

    def _has_connection(self) -> bool:
        if self.connection is not None:
            return True
        connection = self.pool.acquire(self)
        if connection is None:
            self.is_waiting_for_lease = True
            self.note_running(is_running=True)
            return False
        self.connection = connection
        self.take_over()
        return True

    def _current_guard(self) -> Guard:
        if not self.guard.epoch.is_current:
            self.renew_guard()
        return self.guard

    def _plan(self, text: str, types: tuple[int, ...], *, is_query: bool = False) -> QueryPlan | None:
        """Return the plan, or None when it is being made in a thread; `is_query`: of the simple protocol."""
        guard = self._current_guard()
        plan = guard.cached(text, self.search_path, types)
        if plan is not None:
            return plan
        ready = self._thread_plan
        self._thread_plan = None
        if ready is not None and ready[0] is guard and ready[1:3] == (text, types):
            return ready[3]
        if needs_thread(text):
            self._is_planning = True
            self.plan_in_thread(guard, text, types)
            return None
        return guard.plan_query(text, self.search_path) if is_query else guard.plan(text, self.search_path, types)

    def planned(self, guard: Guard, text: str, types: tuple[int, ...], plan: QueryPlan) -> None:
        """Take a plan that was made in a thread, and go on."""
        self._is_planning = False
        self._thread_plan = (guard, text, types, plan)
        self.pump()

    def _check_admission(self) -> None:
        if not self.recorder.is_healthy:
            raise self.recorder.unavailable()
        self.check_rate()

    def expect(self, entry: Expectation) -> None:
        """Note a request whose answer is to come."""
        entry.copy_ends = self.copy_ends
        self.expected.append(entry)
        if entry.kind in (expect.QUERY, expect.EXECUTE):
            self._follow_request(entry)
        if len(self.expected) == 1:
            self._swallows = entry.index < len(entry.plans) and entry.plans[entry.index].swallow_rows

    def _follow_request(self, entry: Expectation) -> None:
        """Note what a request may change before its answer tells."""
        if _changes_session(entry):
            entry.bars = self._is_barred = True
        for plan in entry.plans:
            if plan.settings or plan.resets:
                self.doubt_settings()
            if plan.verb == "DECLARE CURSOR" and plan.name is not None:
                self.portals.pop(plan.name, None)  # from now on the name is the cursor's

    def expect_query(
        self,
        plans: tuple[StatementPlan, ...],
        error: FaucetError | None,
        given: GivenText | None = None,
        texts: tuple[str, str] = ("", ""),
        name: str = "",
    ) -> None:
        """Note a Query whose statements are to run; `error` is given instead of the server's for the refused one.

        `texts`: what the client sent, and what is sent for it. `name`: of the prepared statement that it names.
        """
        entry = Expectation(expect.QUERY)
        entry.plans = plans
        entry.given = given
        entry.error = error
        entry.source, entry.sent = texts
        entry.name = name
        entry.started = self.environment.clock()
        self.expect(entry)
        self._intend(entry)

    def _intend(self, entry: Expectation) -> None:
        """Put on record what is about to be forwarded, where the log's durability asks for it (strict)."""
        if self.recorder.records_intents:
            for plan in entry.plans:
                if plan.error is None and not plan.is_step:
                    self.intent = self.recorder.intent(plan, entry)

    def _answer_refusal(self, plan: StatementPlan, error: FaucetError, after: bytes = b"") -> None:
        sequence = self.recorder.refused(plan, error)
        self.answer(messages.error_response("ERROR", error) + after, sequence)

    def answer(self, data: bytes, sequence: int = 0) -> None:
        """Send what we answer ourselves, behind the answers that only waited for their turn."""
        waiting = b""
        while self.expected and self.expected[0].kind == expect.LOCAL:
            waiting += self.expected.popleft().answer
        self.output.write(waiting + data, sequence)

    def make_room(self, connection: UpstreamConnection) -> None:
        """Close the statements of a connection that have to make room for another one."""
        for evicted in connection.evict_statements():
            self.to_upstream.append(messages.close_statement(evicted))
            self.expect(Expectation(expect.INJECTED_CLOSE))

    def statement_named(self, name: str) -> ClientStatement:
        """Return a prepared statement, decided anew if policy or catalog have moved on. Raises FaucetError 26000."""
        found = self.statements.get(cut_name(name))
        if found is None:
            what = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise FaucetError(Sqlstate.INVALID_STATEMENT_NAME, f"{what} does not exist")
        if (
            not found.guard.epoch.is_current or found.search_path != self.search_path
        ):  # portals keep what they were bound to
            guard = self._current_guard()
            if found.own and guard.forwards_everything:
                found.guard, found.search_path = guard, self.search_path  # nothing was decided, nothing has changed
                return found
            found = self._decided_anew(found, guard)
            self.statements[cut_name(name)] = found
        return found

    def _decided_anew(self, found: ClientStatement, guard: Guard) -> ClientStatement:
        """Decide a prepared statement again.

        Raises FaucetError 0A000 where its result would not be what the client was told of, XX000 where a parameter's type is gone.
        """
        check_parameters(found.guard.world.catalog, guard.world.catalog, found.parameters)
        plan, executes = guard.plan(found.text, self.search_path, found.types), None
        if is_by_name(plan):
            executes, plan = sent_by_name(self, found.text, found.types, plan)
        if plan.refused is None and found.plan.refused is None:
            is_here = self.connection is not None and self.connection.has_statement(self.upstream_name(found))
            changes = changes_of(found.guard.world.catalog, guard.world.catalog, found.plan)
            if plan.text == found.plan.text:  # the server keeps what was prepared, or says that it can't
                plan = replace(plan, statement_name=found.plan.statement_name, parse_frame=found.plan.parse_frame)
                if changes is Change.OTHER and not is_here:
                    raise result_changed()
            elif changes is not Change.NONE:
                raise result_changed()
        made = ClientStatement(found.name, found.text, found.types, self.search_path, guard, plan)
        made.executes, made.result, made.parameters = executes, found.result, found.parameters
        return made

    def check_still_decided(self, statement: ClientStatement) -> None:
        """Make sure that what runs under an open portal or cursor would be sent in the same words today. Raises FaucetError 42501."""
        if statement.guard.epoch.is_current:
            return
        guard = self._current_guard()
        if guard.world.sees_everything and statement.guard.world.sees_everything:
            return  # whether it can still be read is the server's business
        if not needs_thread(statement.text):
            plan = guard.plan(statement.text, statement.search_path, statement.types)
            if plan.refused is None and plan.text == statement.plan.text:
                statement.guard, statement.plan = guard, plan
                return
        raise FaucetError(
            Sqlstate.INSUFFICIENT_PRIVILEGE,
            "permission denied: the policy or the catalog changed after this portal was opened",
            hint="Open it again.",
        )

    def follow_cursors(self, statement: ClientStatement) -> None:
        """Note the cursors that a request opens, and look at those that it reads. Raises FaucetError 42501."""
        for plan in statement.plan.statements:
            if plan.name is None or plan.verb not in CURSOR_VERBS:
                continue
            if plan.verb == "DECLARE CURSOR":
                self.cursors.setdefault(plan.name, []).append(statement)
                continue
            for opened in self.cursors.get(plan.name, ()):
                self.check_still_decided(opened)
            portal = self.portals.get(plan.name)
            if portal is not None:
                self.check_still_decided(portal.statement)

    def _refuse_message(self, kind: int, error: FaucetError) -> None:
        """Refuse a message that has no plan of its own: bad names, a broken body, a limit."""
        plan = StatementPlan(_VERBS.get(kind, "UNKNOWN"), (), "", "", (), (), (), "", error=error.settled())
        if kind in _REQUESTS_WITH_READY:
            self._refuse_query(plan, error)
        else:
            self._refuse_extended(plan, error)

    def _refuse_query(self, plan: StatementPlan, error: FaucetError, asked: str = "") -> None:
        if self.connection is None:
            self._answer_refusal(plan, error, messages.ready_for_query(self.status))
            return
        self.expect_query((plan,), error, texts=(asked, asked))
        if not asked:
            self.to_upstream.append(POISON_QUERY)
            return
        self._ask(self.connection, asked)
        self.to_upstream += (POISON_PARSE, messages.SYNC)

    def _ask(self, connection: UpstreamConnection, text: str, types: tuple[int, ...] = ()) -> None:
        """Let the server parse a refused text: what it finds wrong is told in its words, with its hints."""
        self.expected[-1].asks = True
        connection.unnamed = None
        self.to_upstream.append(messages.parse("", text, types, self.codec))

    def _refuse_extended(
        self, plan: StatementPlan, error: FaucetError, asked: str = "", types: tuple[int, ...] = ()
    ) -> None:
        """Give the error in its place; with a connection at hand the server fails the batch or the block itself."""
        self.skips_to_sync = True
        if self.connection is None:
            self._answer_refusal(plan, error)
            return
        entry = Expectation(expect.PARSE)
        entry.plans = (plan,)
        entry.error = error
        entry.started = self.environment.clock()
        self.expect(entry)
        if asked:
            self._ask(self.connection, asked, types)
        self.connection.unnamed = None
        self.to_upstream.append(POISON_PARSE)

    def lease_failed(self, error: FaucetError) -> None:
        """Answer the message that waited for a connection: there is none."""
        self.is_waiting_for_lease = False
        frame = self._frame
        self._frame = None
        if frame is not None:
            self._refuse_message(frame[0], error)
        self.pump()

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

    def plan_in_thread(self, guard: Guard, text: str, types: tuple[int, ...]) -> None:
        """Decide a long text away from the event loop, then call `planned`."""
        raise NotImplementedError

    def check_rate(self) -> None:
        """Raise when the role's rate limit is passed (53400)."""
        raise NotImplementedError

    def pump(self) -> None:
        """Handle whole messages from the client until there are no more or one has to wait."""
        raise NotImplementedError


def _changes_session(entry: Expectation) -> bool:
    """Whether messages behind this one mean something else once it has run: other names, another search_path."""
    for plan in entry.plans:
        if plan.kind in (StatementKind.DEALLOCATE, StatementKind.DISCARD_ALL) or plan.changes_catalog:
            return True
        if (plan.settings or plan.resets) and entry.kind == expect.QUERY:
            return True
    return False
