"""From the client to the server: each frontend message is decided, renamed where names are virtual, and sent on.

One handler for each message type; a type that is not in the table ends the session (08P01). A handler returns False when it can't
go on yet (no connection, a plan in the making): the message then stays where it is and nothing behind it is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import StatementPlan
from pgfaucet.session.deciding import CURSOR_VERBS, DONE, NOT_YET
from pgfaucet.session.extended import ExtendedSide
from pgfaucet.session.prepared import give_names, is_by_name, run_by_name
from pgfaucet.session.statements import ClientStatement
from pgfaucet.wire import messages
from pgfaucet.wire.encodings import UTF8
from pgfaucet.wire.framing import OversizedStatement

if TYPE_CHECKING:
    from pgfaucet.plan import QueryPlan


LARGE_OBJECTS: Final = frozenset({715, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172})
"""pg_proc's oids of what libpq's lo_ functions call; lo_import and lo_export of the server, which touch its files, are not among them."""


class RequestSide(ExtendedSide):
    """The half of a session that reads from the client."""

    def pump(self) -> None:
        """Handle whole messages from the client until there are no more or one has to wait."""
        while self._may_go_on():
            try:
                frame = self._frame if self._frame is not None else self.next_frame()
            except OversizedStatement as too_long:
                self._refuse_message(too_long.kind, too_long)
                continue
            if frame is None:
                break
            self._frame = None
            kind = frame[0]
            if self.needs_catalog(frame) and not self._catalog_is_here():
                self._frame = frame
                break
            handler = _HANDLERS.get(kind)
            if handler is None:
                self.end_session(FaucetError(Sqlstate.PROTOCOL_VIOLATION, f"invalid frontend message type {kind}"))
                return
            try:
                if handler(self, frame) is NOT_YET:
                    self._frame = frame
                    break
            except FaucetError as error:
                self._refuse_message(kind, error)
            self.note_batch(kind)
        self.flush_upstream()

    def _may_go_on(self) -> bool:
        if self.is_waiting_for_lease or self._is_planning or self._held_status or self._is_reading_catalog:
            return False
        if self.runs_part() or self.is_closed:
            return False
        if self._is_barred:  # what comes next depends on the outcome of what is under way
            self._is_barred = any(entry.bars for entry in self.expected)
        return not self._is_barred

    def _catalog_is_here(self) -> bool:
        """Read the catalog anew; what it says comes later. False: the message has to wait."""
        if self._has_upstream_request():
            if self.is_in_batch:
                self.expected[-1].bars = self._is_barred = True
                self.to_upstream.append(messages.FLUSH)
        elif self._has_connection():
            self.read_catalog()
        return False

    def _on_query(self, frame: bytes) -> bool:
        if self.skips_to_sync:
            return DONE
        text = messages.query_text(frame, self.codec)
        plan = self._plan(text, (), is_query=True)
        if plan is None:
            return NOT_YET
        if self.connection is None and self._script is None and self._answers_query_itself(plan):
            return DONE
        if not self._has_connection():
            return NOT_YET
        self._check_admission()
        begun = self.begin_script(text, plan)
        if begun is not None:
            return begun
        if plan.looks_at:
            give_names(self, plan)
        self.note_part()
        if any(statement.verb in CURSOR_VERBS for statement in plan.statements):
            self.follow_cursors(ClientStatement("", text, (), self.search_path, self.guard, plan))
        self.forget_statement("")
        self.portals.pop("", None)
        if plan.refused is None and is_by_name(plan):
            return run_by_name(self, text, plan)
        refused = plan.refused
        error = refused.error if refused is not None else None
        if refused is not None and error is not None and plan.asked:
            self._refuse_query(refused, error, plan.asked)
            return DONE
        self.expect_query(plan.statements, error, plan.given, (text, plan.text))
        self.to_upstream.append(plan.query_frame if self.codec == UTF8 else messages.query(plan.text, self.codec))
        return DONE

    def _answers_query_itself(self, plan: QueryPlan) -> bool:
        """Answer what needs no server: an empty string, and a refusal with no transaction around it."""
        if not plan.statements:
            self.statements.pop("", None)
            self.answer(messages.EMPTY_QUERY_RESPONSE + messages.ready_for_query(self.status))
            return True
        first = plan.statements[0]
        if first.error is None or plan.asked:
            return False
        self.statements.pop("", None)
        self._answer_refusal(first, first.error, messages.ready_for_query(self.status))
        return True

    def _on_function_call(self, frame: bytes) -> bool:
        """Let libpq's large objects work for who sees everything: lo_open and the like come as calls, by the number of the function."""
        if self.skips_to_sync:
            return DONE
        guard = self._current_guard()
        number = int.from_bytes(frame[5:9], "big")
        if not (guard.forwards_everything or (guard.has_own_path and number in LARGE_OBJECTS)):
            raise FaucetError(
                Sqlstate.FEATURE_NOT_SUPPORTED, "function calls through the fast-path interface are not supported"
            )
        if not self._has_connection():
            return NOT_YET
        self._check_admission()
        why = "access: full" if guard.forwards_everything else "large objects"
        plan = StatementPlan("FUNCTION CALL", (), f"function {number}", "", (), (), (why,), "", clean_errors=False)
        self.expect_query((plan,), None)
        self.to_upstream.append(frame)
        return DONE

    def _on_copy_data(self, frame: bytes) -> bool:
        """Pass copy data on; the server itself drops what comes when no copy is open."""
        if self.connection is not None:
            self.to_upstream.append(frame)
        return DONE

    def _on_copy_end(self, frame: bytes) -> bool:
        """Pass CopyDone or CopyFail on: a Sync behind it counts again."""
        if self.connection is not None:
            self.copy_ends += 1
            self.is_copying_in = False
        return self._on_copy_data(frame)

    def _on_terminate(self, frame: bytes) -> bool:
        self.end_session(None)
        return DONE


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
    ord("c"): RequestSide._on_copy_end,
    ord("f"): RequestSide._on_copy_end,
    ord("X"): RequestSide._on_terminate,
}
