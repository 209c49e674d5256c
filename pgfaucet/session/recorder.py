"""Turns what happened in a session into audit records and counts. The only place in `session` that knows the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgfaucet.errors import AuditUnavailable, Sqlstate

if TYPE_CHECKING:
    from pgfaucet.audit.record import SessionFields
    from pgfaucet.errors import FaucetError
    from pgfaucet.plan import StatementPlan
    from pgfaucet.session.environment import Environment
    from pgfaucet.session.expectation import Expectation


class Recorder:
    """Writes the records of one session."""

    def __init__(self, environment: Environment, fields: SessionFields) -> None:
        self._environment = environment
        self._log = environment.audit
        self._fields = fields
        self._holds_output = environment.audit.durability != "async"
        self.context: tuple[tuple[str, str], ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether a record could be written now."""
        return self._log.is_healthy

    def unavailable(self) -> AuditUnavailable:
        """Make the error for when it could not."""
        return AuditUnavailable("the audit log cannot be written")

    def statement(
        self,
        plan: StatementPlan,
        request: Expectation,
        rows: int | None,
        sent: int,
        sqlstate: str | None,
        error: FaucetError | None,
    ) -> int:
        """Record a statement that ran or failed; return the record's number if the client's answer has to wait for it, else 0."""
        seconds = self._environment.clock() - request.started
        is_denied = error is not None
        self._environment.metrics.observe_statement(
            self._fields.role, plan.verb, "deny" if is_denied else "allow", seconds
        )
        return self._append(plan, request, rows, sent, seconds, sqlstate, error)

    def refused(self, plan: StatementPlan, error: FaucetError) -> int:
        """Record a statement that was refused before it reached the server."""
        self._environment.metrics.observe_statement(self._fields.role, plan.verb, "deny", 0.0)
        return self._append(plan, None, None, 0, 0.0, error.sqlstate, error)

    def _append(  # noqa: PLR0913, PLR0917 - as AuditLog.append_statement
        self,
        plan: StatementPlan,
        request: Expectation | None,
        rows: int | None,
        sent: int,
        seconds: float,
        sqlstate: str | None,
        error: FaucetError | None,
    ) -> int:
        if error is not None and error.sqlstate == Sqlstate.IO_ERROR:
            return 0  # the log itself is the problem
        sequence = self._log.append_statement(
            self._fields,
            plan,
            request.parameters if request is not None else b"",
            rows,
            sent,
            seconds,
            sqlstate,
            error.reason if error is not None else plan.observed,
            self.context,
            "deny" if error is not None else "allow",
            given=request.given if request is not None else None,
        )
        return sequence if self._holds_output else 0

    @property
    def records_intents(self) -> bool:
        """Whether a record must be on disk before a statement is forwarded."""
        return self._log.durability == "strict"

    def intent(self, plan: StatementPlan, request: Expectation) -> int:
        """Record that a statement will be forwarded; return the record's number."""
        return self._log.append_intent(self._fields, plan, request.parameters, self.context, given=request.given)

    def event(self, name: str, decision: str | None, reason: str | None, sqlstate: str | None = None) -> int:
        """Record a session event: session_opened, session_refused, session_closed."""
        if not self._log.is_healthy:
            return 0
        sequence = self._log.append_event(self._fields, name, decision, reason, sqlstate)
        return sequence if self._holds_output else 0
