"""What goes wrong upstream: which error the client is given for it, what is recorded, and what the server will now skip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import EMPTY_STATEMENT
from pgfaucet.session import expectation as expect
from pgfaucet.session.cleaning import clean_error, with_client_name, without, without_schemas
from pgfaucet.session.state import SessionState
from pgfaucet.sql.positions import client_position
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.plan import StatementPlan
    from pgfaucet.session.expectation import Expectation

PASS: Final = 0  # the reply is forwarded as it came
DROP: Final = 1


class UnexpectedReply(Exception):
    """The server sent what no request asked for: the connection can't be trusted any more."""


class FailureSide(SessionState):
    """The part of the reply side that deals with errors."""

    def __init__(self) -> None:
        super().__init__()
        self._insert = b""  # what follows the reply at hand, or stands for it
        self.has_server_names = False  # prepared statements stand upstream under the client's own names
        self._sequence = 0  # the last audit record that this chunk depends on
        self._rows = 0
        self._row_bytes = 0
        self.spent = 0.0  # seconds that this process has worked on the statement at hand

    def _record(
        self, head: Expectation, plan: StatementPlan, rows: int | None, sqlstate: str | None, error: FaucetError | None
    ) -> None:
        sequence = self.recorder.statement(plan, head, rows, self._row_bytes, sqlstate, error)
        self.environment.metrics.overhead.observe(self.spent)
        self.spent = 0.0
        self._sequence = max(self._sequence, sequence)

    def _is_limit_error(self, head: Expectation) -> bool:
        return head.error is not None and head.error.sqlstate == Sqlstate.CONFIGURATION_LIMIT_EXCEEDED

    def _plan_at_head(self) -> StatementPlan | None:
        if not self.expected:
            return None
        head = self.expected[0]
        return head.plans[head.index] if head.index < len(head.plans) else None

    def _on_error(self, chunk: bytes, position: int, end: int) -> int:
        given = fields = messages.error_fields(chunk[position + 5 : end], self.codec)
        if fields.get("V", fields.get("S")) in ("FATAL", "PANIC"):
            return self._on_fatal(fields)
        if not self.expected:
            raise UnexpectedReply("an error that answers nothing")
        head = self.expected[0]
        if head.kind == expect.INTERNAL:
            if head.closes:
                raise UnexpectedReply(f"a request of our own within the client's batch failed: {fields.get('C')}")
            head.error = FaucetError(fields.get("C", Sqlstate.INTERNAL_ERROR), fields.get("M", ""))
            return DROP
        plan = self._plan_at_head()
        refusal = head.error if self._is_refusal_due(head, plan, fields) else None
        if refusal is None:
            if plan is not None or not self.guard.world.sees_everything:  # else a deferred constraint's, told at Sync
                fields = clean_error(fields, plan or EMPTY_STATEMENT)
            fields = self._in_client_terms(fields, head)
        elif not head.asks:
            fields = messages.fields_of("ERROR", refusal)
        if plan is not None:
            self._record(head, plan, None, fields.get("C"), refusal)
        is_given = fields == given
        self._insert += chunk[position:end] if is_given else messages.response_from_fields(b"E", fields, self.codec)
        if head.runs and fields.get("R") == "RevalidateCachedQuery" and self.connection is not None:
            self.pool.parsed.discard(head.runs)
            self.connection.distrust_statement(head.runs)  # whoever prepares it again gets the new result
        self._after_error(head)
        return DROP

    def _in_client_terms(self, fields: dict[str, str], head: Expectation) -> dict[str, str]:
        """Name things as the client does, and let the position point into the text that it sent, or leave it out."""
        statement = head.restore or self.statements.get(head.name)
        source, sent = head.source, head.sent
        if head.kind in (expect.PARSE, expect.BIND, expect.DESCRIBE) and statement is not None:
            source, sent = statement.text, statement.plan.text
        fields = with_client_name(fields, head.name)
        if source == sent:
            is_own = "P" not in fields or bool(sent) or self.guard.forwards_everything
            return fields if is_own else without(fields, "P")
        fields = without_schemas(fields, source, self.search_path)
        if "P" not in fields:
            return fields
        place = client_position(source, sent, int(fields["P"]))
        return without(fields, "P") if place is None else {**fields, "P": str(place)}

    def _is_refusal_due(self, head: Expectation, plan: StatementPlan | None, fields: dict[str, str]) -> bool:
        if head.error is None or fields.get("C") == Sqlstate.IN_FAILED_TRANSACTION:
            return False
        return self._is_limit_error(head) or plan is None or plan.error is not None

    def _after_error(self, head: Expectation) -> None:
        self._rows = self._row_bytes = 0
        self.is_copying_in = False
        if head.kind == expect.QUERY:
            head.index = len(head.plans)
            self._skip(head)
            return
        if head.kind == expect.SYNC:
            return
        skipped: list[Expectation] = []
        while self.expected and self.expected[0].kind != expect.SYNC:
            skipped.append(self.expected.popleft())
        for entry in reversed(skipped):  # a Close is undone before the Parse that it closes
            self._skip(entry)
        if not self.expected:
            self.skips_to_sync = True

    def _skip(self, entry: Expectation) -> None:
        """Undo what was done in advance for a message that the server will skip."""
        if entry.connection_statement and self.connection is not None:
            self.connection.forget_statement(entry.connection_statement)
        elif entry.kind in (expect.PARSE, expect.INJECTED_PARSE) and self.connection is not None:
            self.connection.unnamed = None
        if entry.kind == expect.BIND:
            self.portals.pop(entry.portal, None)  # the server may have another one of that name
        if entry.restore is not None:
            if entry.kind == expect.CLOSE or entry.answer == messages.CLOSE_COMPLETE:
                self.statements.setdefault(entry.name, entry.restore)
                if self.has_server_names and self.connection is not None:
                    self.connection.remember_statement(entry.name.encode(self.codec))
            elif self.statements.get(entry.name) is entry.restore:
                del self.statements[entry.name]

    def _on_fatal(self, fields: dict[str, str]) -> int:
        plan = self._plan_at_head()
        if plan is not None:
            self._record(self.expected[0], plan, None, fields.get("C"), None)
            self.expected[0].index += 1
        fields = clean_error(fields, plan or EMPTY_STATEMENT)
        self._insert += messages.response_from_fields(b"E", fields)
        self.note_fatal(fields.get("C", Sqlstate.CONNECTION_FAILURE))
        return DROP

    def note_fatal(self, sqlstate: str) -> None:
        """The server is about to close the connection and has said why."""
        raise NotImplementedError
