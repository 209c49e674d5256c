"""`idle_session_timeout` of one client: the server counts it for its connection, which is nobody's while a client is idle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.policy.units import parse_duration

if TYPE_CHECKING:
    import asyncio

    from pgfaucet.session.client import ClientSession


def seconds_of(value: str) -> float:
    """Read a time-out as the server shows it (`1500ms`, `5s`); without a unit it is in milliseconds. 0 for none."""
    try:
        return parse_duration(f"{value}ms" if value.isdigit() else value)
    except ValueError:
        return 0.0


class IdleTimer:
    """Ends a session that has asked for nothing for so long; looks at it once in that time, and costs a statement nothing."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._value = ""
        self._seconds = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def follow(self, value: str) -> None:
        """Take the setting's value."""
        if value == self._value:
            return
        self._value, self._seconds = value, seconds_of(value)
        self.stop()
        if self._seconds:
            self._wait(self._seconds)

    def stop(self) -> None:
        """Count no longer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wait(self, seconds: float) -> None:
        self._handle = self._session.environment.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        session = self._session
        now = session.environment.clock()
        if not session.is_idle:
            session.heard_at = now
        left = session.heard_at + self._seconds - now
        if left > 0:
            self._wait(left)
        elif not session.is_closed:
            session.end_session(
                FaucetError(Sqlstate.IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout")
            )
