"""What the server tells without being asked: notices, notifications, parameters that have changed."""

from __future__ import annotations

from typing import Final

from pgfaucet.session import expectation as expect
from pgfaucet.session.cleaning import clean_error
from pgfaucet.session.failures import DROP, PASS, FailureSide, UnexpectedReply
from pgfaucet.sql.settings import CONTEXT_SETTING, SEARCH_PATH_SETTING
from pgfaucet.upstream.connection import FIXED_PARAMETERS
from pgfaucet.wire import messages

MOVABLE: Final = frozenset(
    {"TimeZone", "DateStyle", "IntervalStyle", "application_name", "default_transaction_read_only"}
)
"""Of the settings that the server reports: those that follow the client."""


FOLLOWED: Final = frozenset({"client_encoding", "search_path", SEARCH_PATH_SETTING, CONTEXT_SETTING})
"""What a session has to know at once: how names and texts are read, and what the audit says."""

_FREE: Final = frozenset({"client_encoding", "search_path"})


class ReportSide(FailureSide):
    """The part of the reply side that deals with asynchronous messages."""

    def note_resets(self, names: tuple[str, ...]) -> None:
        """Settings went back to what they are on the server: before the client is told of the end, they get its own start-up values."""
        self.resets.update(names)
        self.touched.update(self.settings, self.base_settings) if "*" in names else self.touched.update(names)

    def report_changes(self) -> None:
        """Tell the client of the parameters that have changed behind its back."""
        if self.connection is None:
            return
        for name, value in self.connection.parameters.items():
            if self.reported.get(name) != value and (self.guard.forwards_everything or name in MOVABLE):
                self.reported[name] = value
                self._insert += messages.parameter_status(name, value)

    def _on_notice(self, chunk: bytes, position: int, end: int) -> int:
        if self.expected and self.expected[0].kind == expect.INTERNAL:
            return DROP
        plan = self._plan_at_head()
        if plan is None:
            return PASS
        given = messages.error_fields(chunk[position + 5 : end], self.codec)
        fields = self._in_client_terms(clean_error(given, plan), self.expected[0])
        if fields == given:
            return PASS
        self._insert += messages.response_from_fields(b"N", fields, self.codec)
        return DROP

    def _on_notification(self, chunk: bytes, position: int, end: int) -> int:
        """Name who notified by the process id that it knows itself by, where it is a client of ours."""
        pid = self.pool.client_pid(int.from_bytes(chunk[position + 5 : position + 9], "big"))
        if pid == 0:
            return PASS
        self._insert += chunk[position : position + 5] + pid.to_bytes(4, "big") + chunk[position + 9 : end]
        return DROP

    def _on_parameter_status(self, chunk: bytes, position: int, end: int) -> int:
        name, value = messages.parameter_status_of(chunk[position + 5 : end])
        if self.connection is not None:
            self.connection.parameters[name] = value
        if self.expected and self.expected[0].kind == expect.INTERNAL:
            return DROP
        if name == "search_path" and not self.guard.has_own_path:  # the client's is in pgfaucet.search_path
            if value != FIXED_PARAMETERS[name] and self.pin is None:
                raise UnexpectedReply("a function moved the server's search_path")
            return DROP
        is_free = self.guard.forwards_everything or (self.guard.has_own_path and name in _FREE)
        if not is_free and value != FIXED_PARAMETERS.get(name, value):
            raise UnexpectedReply(f"a function moved {name}, under which texts are read")
        if name in MOVABLE or name == "client_encoding":  # by a statement, or by a function that it calls
            self.touched.add(name.lower())
        self.reported[name] = value
        return PASS
