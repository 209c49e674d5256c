"""The errors a client can be given: SQLSTATE, message, detail, hint, position.

`reason` is for the audit record and `pgfaucet explain` only; it never reaches a client.
SQLSTATEs: PostgreSQL manual, appendix A.
"""

from __future__ import annotations

from typing import Final


class Sqlstate:
    """The SQLSTATEs that pgfaucet itself raises."""

    SUCCESSFUL: Final = "00000"
    CONNECTION_FAILURE: Final = "08006"
    PROTOCOL_VIOLATION: Final = "08P01"
    FEATURE_NOT_SUPPORTED: Final = "0A000"
    CHARACTER_NOT_IN_REPERTOIRE: Final = "22021"
    INVALID_PARAMETER_VALUE: Final = "22023"
    IN_FAILED_TRANSACTION: Final = "25P02"
    INVALID_STATEMENT_NAME: Final = "26000"
    INVALID_AUTHORIZATION: Final = "28000"
    INVALID_PASSWORD: Final = "28P01"  # noqa: S105 - a code
    INVALID_CURSOR_NAME: Final = "34000"
    INVALID_CATALOG_NAME: Final = "3D000"
    SYNTAX_ERROR: Final = "42601"
    INSUFFICIENT_PRIVILEGE: Final = "42501"
    AMBIGUOUS_COLUMN: Final = "42702"
    UNDEFINED_COLUMN: Final = "42703"
    UNDEFINED_OBJECT: Final = "42704"
    DUPLICATE_ALIAS: Final = "42712"
    UNDEFINED_FUNCTION: Final = "42883"
    UNDEFINED_TABLE: Final = "42P01"
    DUPLICATE_PREPARED_STATEMENT: Final = "42P05"
    TOO_MANY_CONNECTIONS: Final = "53300"
    CONFIGURATION_LIMIT_EXCEEDED: Final = "53400"
    PROGRAM_LIMIT_EXCEEDED: Final = "54000"
    STATEMENT_TOO_COMPLEX: Final = "54001"
    QUERY_CANCELED: Final = "57014"
    ADMIN_SHUTDOWN: Final = "57P01"
    IDLE_SESSION_TIMEOUT: Final = "57P05"
    CANNOT_CONNECT_NOW: Final = "57P03"
    IO_ERROR: Final = "58030"
    INTERNAL_ERROR: Final = "XX000"


class FaucetError(Exception):
    """An error worded for a client, as PostgreSQL would word it."""

    def __init__(  # noqa: PLR0913 - the fields of an ErrorResponse
        self,
        sqlstate: str,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        position: int | None = None,
        routine: str | None = None,
        reason: str | None = None,
    ) -> None:
        """`position` counts characters of the client's text from 1 (protocol field P); `routine` is field R, which drivers know errors by."""
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position
        self.routine = routine
        self.reason = reason if reason is not None else message

    def settled(self) -> FaucetError:
        """Let go of the frames that raised it, so that it can be kept; return itself."""
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self

    def without_position(self) -> FaucetError:
        """Return the same error for a text in which the position means nothing."""
        return self.moved_by(-1)

    def moved_by(self, characters: int) -> FaucetError:
        """Return the same error for a text that has so many characters before this one; without a position where that is below 0."""
        return FaucetError(
            self.sqlstate,
            self.message,
            detail=self.detail,
            hint=self.hint,
            position=self.position + characters if self.position is not None and characters >= 0 else None,
            routine=self.routine,
            reason=self.reason,
        )


class BrokenFraming(FaucetError):
    """A message length that no client may send: the server hangs up without a word (pqcomm.c, pq_getmessage)."""

    def __init__(self) -> None:
        super().__init__(Sqlstate.PROTOCOL_VIOLATION, "invalid message length")


class AuditUnavailable(FaucetError):
    """The audit record cannot be written, so nothing may run (58030)."""

    def __init__(self, reason: str) -> None:
        super().__init__(Sqlstate.IO_ERROR, "could not write the audit record", reason=reason)
