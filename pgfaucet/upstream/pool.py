"""Upstream connections shared by sessions: leases, limits, waiting.

Synchronous: a lease is granted or queued in the caller's own turn of the event loop; only making and closing connections takes
tasks. A connection is in one state at a time, and changes it in one method, over LEGAL.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from pgfaucet.upstream.connection import Lessee, UpstreamConnection

logger = logging.getLogger(__name__)

JANITOR_SECONDS: Final = 0.25
FAILURE_MEMORY_SECONDS: Final = 1.0  # so long a failed connect speaks for the next


class State(IntEnum):
    """Where a connection of the pool stands. Numbers: other members of an enumeration are hashed by Python code."""

    IDLE = 0
    LEASED = 1
    CLOSED = 2


LEGAL: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.LEASED, State.CLOSED}),
    State.LEASED: frozenset({State.IDLE, State.CLOSED}),
    State.CLOSED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """What a pool holds at one moment."""

    idle: int
    active: int
    waiting: int
    wait_seconds: float


MAX_PARSED: Final = 10_000


class Pool:
    """The connections to one database under one service user."""

    def __init__(  # noqa: PLR0913 - the settings of a pool
        self,
        connect: Callable[[], Awaitable[UpstreamConnection]],
        *,
        mode: str,
        size: int,
        min_size: int,
        idle_timeout: float,
        max_lifetime: float,
        wait_timeout: float,
        clock: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`connect` makes a connection ready for use; times are seconds of `clock`."""
        self.mode = mode
        self.size = size
        self.parameters: dict[str, str] = {}  # ParameterStatus of the last connection made
        self.parsed: set[bytes] = set()  # names of statements that the server has parsed, on whichever connection
        self._connect = connect
        self._min_size = min_size
        self._idle_timeout = idle_timeout
        self._max_lifetime = max_lifetime
        self._wait_timeout = wait_timeout
        self._clock = clock
        self._spawn = spawn
        self._states: dict[UpstreamConnection, State] = {}
        self._idle: list[tuple[UpstreamConnection, float]] = []  # with since when; the last one is lent first
        self._waiting: deque[tuple[Lessee, float]] = deque()  # with since when
        self._connecting = 0
        self._wait_seconds = 0.0
        self._failure: tuple[FaucetError, float] | None = None
        self._is_closed = False

    # -- leases ------------------------------------------------------------------------------------------------------------------

    def note_parsed(self, name: bytes) -> None:
        """The server has taken a Parse. The name tells text, types, settings and catalog: it would take it again."""
        if len(self.parsed) >= MAX_PARSED:
            self.parsed.clear()
        self.parsed.add(name)

    def acquire(self, lessee: Lessee) -> UpstreamConnection | None:
        """Lend an idle connection, or queue the lessee and return None; it is told later, in order."""
        if not self._waiting:
            connection = self._take_idle()
            if connection is not None:
                connection.lessee = lessee
                return connection
        self._waiting.append((lessee, self._clock()))
        self._grow()
        return None

    def cancel_wait(self, lessee: Lessee) -> None:
        """Forget a lessee that waits."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not lessee)

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection that is clean: outside a transaction, with nothing outstanding."""
        connection.lessee = None
        if not connection.is_reusable or self._is_closed or self._is_old(connection):
            self.discard(connection, "not to be used again")
            return
        self._enter(connection, State.IDLE)
        connection.resume_reading()
        self._idle.append((connection, self._clock()))
        self._serve()

    def discard(self, connection: UpstreamConnection, reason: str) -> None:
        """Close a connection instead of taking it back."""
        connection.lessee = None
        if self._states.get(connection) is None:
            return
        self._enter(connection, State.CLOSED)
        self._idle = [entry for entry in self._idle if entry[0] is not connection]
        connection.close(reason)
        self._grow()

    def connection_lost(self, connection: UpstreamConnection, reason: str) -> None:
        """A connection closed by itself."""
        self.discard(connection, reason)

    # -- inside ------------------------------------------------------------------------------------------------------------------

    def _enter(self, connection: UpstreamConnection, state: State) -> None:
        """Change a connection's state: the one door."""
        before = self._states[connection]
        if state not in LEGAL[before]:
            raise FaucetError(Sqlstate.INTERNAL_ERROR, f"connection cannot go from {before.name} to {state.name}")
        if state is State.CLOSED:
            del self._states[connection]
        else:
            self._states[connection] = state

    def _take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_reusable:
                self._enter(connection, State.LEASED)
                return connection
            self.discard(connection, "died while idle")
        return None

    def _serve(self) -> None:
        """Give idle connections to who waits, first come first served."""
        while self._waiting and self._idle:
            connection = self._take_idle()
            if connection is None:
                break
            lessee, since = self._waiting.popleft()
            self._wait_seconds += self._clock() - since
            connection.lessee = lessee
            lessee.lease_granted(connection)
        self._grow()

    def _grow(self) -> None:
        """Connect for those who wait, within the size."""
        if self._is_closed:
            return
        wanted = max(len(self._waiting), self._min_size - len(self._states)) - self._connecting
        while wanted > 0 and len(self._states) + self._connecting < self.size:
            wanted -= 1
            self._connecting += 1
            self._spawn(self._connect_one())

    async def _connect_one(self) -> None:
        try:
            connection = await self._connect()
        except FaucetError as error:
            self._connecting -= 1
            self._failed(error)
            return
        except BaseException:
            self._connecting -= 1
            raise
        self._connecting -= 1
        self._failure = None
        if self._is_closed:
            connection.close("the pool is closed")
            return
        connection.pool = self
        self.parameters = dict(connection.parameters)
        self._states[connection] = State.IDLE
        self._idle.append((connection, self._clock()))
        self._serve()

    def _failed(self, error: FaucetError) -> None:
        """A connect failed: if nothing else can serve those who wait, tell them why."""
        self._failure = (error, self._clock())
        logger.warning("cannot connect upstream: %s", error.reason)
        if self._states or self._connecting:
            return
        waiting, self._waiting = self._waiting, deque()
        for lessee, _ in waiting:
            lessee.lease_failed(error)

    def _is_old(self, connection: UpstreamConnection) -> bool:
        return self._max_lifetime > 0 and self._clock() - connection.made_at > self._max_lifetime

    # -- upkeep ------------------------------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Do what is due: fail those who waited too long, close what was idle or alive too long, keep the minimum."""
        now = self._clock()
        while self._waiting and now - self._waiting[0][1] > self._wait_timeout:
            lessee, since = self._waiting.popleft()
            self._wait_seconds += now - since
            lessee.lease_failed(self._why_none(now))
        for connection, since in tuple(self._idle):
            is_spare = len(self._states) > self._min_size
            if (
                self._is_old(connection)
                or (is_spare and now - since > self._idle_timeout)
                or not connection.is_reusable
            ):
                self.discard(connection, "idle or alive for too long")
        self._grow()

    def _why_none(self, now: float) -> FaucetError:
        if self._failure is not None and now - self._failure[1] < self._wait_timeout + FAILURE_MEMORY_SECONDS:
            return self._failure[0]
        return FaucetError(
            Sqlstate.CANNOT_CONNECT_NOW,
            f"no connection to the server became free within {self._wait_timeout:g} seconds",
            hint="Too many transactions are open at once; try again, or ask the operator for a larger pool.",
            reason="pool.wait_timeout",
        )

    def client_pid(self, backend_pid: int) -> int:
        """Return the process id that the client of a connection knows; 0 when no connection here has that process."""
        found = (connection.client_pid for connection in self._states if connection.backend_pid == backend_pid)
        return next(found, 0)

    def counts(self) -> PoolCounts:
        """Count what there is."""
        idle = len(self._idle)
        return PoolCounts(idle, len(self._states) - idle, len(self._waiting), self._wait_seconds)

    def close(self) -> None:
        """Close every connection and lend no more."""
        self._is_closed = True
        waiting, self._waiting = self._waiting, deque()
        for lessee, _ in waiting:
            lessee.lease_failed(FaucetError(Sqlstate.ADMIN_SHUTDOWN, "the proxy is shutting down"))
        for connection in tuple(self._states):
            self.discard(connection, "the pool is closed")
