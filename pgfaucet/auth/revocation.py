"""Ends live sessions when their token expires or is revoked, within half a second; never blocks the event loop.

Expiry is a timer. Revocation is found by asking the store every POLL_SECONDS in a thread; that costs one look at its version as long as
nothing has changed. While the store can't be asked, sessions go on for GRACE_SECONDS, then end: their tokens can't be known to be good.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgfaucet.auth.principal import Principal
    from pgfaucet.auth.store import Denial, Mark, TokenStore

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
GRACE_SECONDS: Final = 60.0
LONGEST_TIMER: Final = 60.0  # seconds; by then a clock that was set is noticed


class Session(Protocol):
    """What is ended."""

    def token_ended(self, reason: str) -> None:
        """Cancel what runs and end. `reason` is expired, revoked, or why validity is unknown."""


class TokenWatcher:
    """Knows the token of every live session. Use it in the event loop only."""

    def __init__(self, store: TokenStore, *, clock: Callable[[], float], poll_seconds: float = POLL_SECONDS) -> None:
        """`clock` gives Unix seconds. Raises StoreUnavailable."""
        self._store = store
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._sessions: dict[str, set[Session]] = {}  # by token id
        self._tokens: dict[Session, str] = {}
        self._expiries: list[tuple[float, str]] = []  # heap
        self._timed: set[str] = set()  # the tokens in it; those without a session are left to run out
        self._unchecked: set[str] = set()  # registered since the store was asked last
        self._signed: dict[str, Principal] = {}  # live tokens that the store does not know, by id
        self._denials: Sequence[Denial] = store.denials()  # what ends those
        self._timer: asyncio.TimerHandle | None = None
        self._mark: Mark | None = None
        self._asked_at = clock()
        self._is_reachable = True

    @property
    def is_reachable(self) -> bool:
        """Whether the store answered the last time."""
        return self._is_reachable

    @property
    def knows_denials(self) -> bool:
        """Whether what ends signed tokens is known, or was a short time ago."""
        return self._is_reachable or self._clock() - self._asked_at <= GRACE_SECONDS

    def is_denied(self, principal: Principal) -> bool:
        """Whether a signed token was revoked."""
        return any(denial.ends(principal) for denial in self._denials)

    def connections(self, token_id: str) -> int:
        """Count the live sessions of a token in this process."""
        return len(self._sessions.get(token_id, ()))

    def register(self, session: Session, principal: Principal) -> None:
        """Watch a session's token, from now until `unregister`. What happened to it since it was looked up is noticed too."""
        sessions = self._sessions.get(principal.token_id)
        if sessions is None:
            sessions = self._sessions[principal.token_id] = set()
            self._time(principal)
        if principal.is_stored:
            self._unchecked.add(principal.token_id)
        else:
            self._signed[principal.token_id] = principal
        sessions.add(session)
        self._tokens[session] = principal.token_id
        if not principal.is_stored and self.is_denied(principal):  # since it was proved
            asyncio.get_running_loop().call_soon(self._end, principal.token_id, "revoked")

    def unregister(self, session: Session) -> None:
        """Stop watching; a session that is not watched is no error."""
        token_id = self._tokens.pop(session, None)
        if token_id is None:
            return
        sessions = self._sessions[token_id]
        sessions.discard(session)
        if not sessions:
            del self._sessions[token_id]
            self._signed.pop(token_id, None)

    async def run(self) -> None:
        """Ask the store again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "pgfaucet-revocation") as executor:
            while True:
                unchecked, self._unchecked = self._unchecked, set()
                try:
                    stored = tuple(self._sessions.keys() - self._signed.keys())
                    self._mark, ended, denials = await loop.run_in_executor(
                        executor, self._ask, self._mark, unchecked, stored
                    )
                except Exception as problem:  # noqa: BLE001 - if this loop ended, revocation would fail open
                    self._unchecked |= unchecked
                    self._unreachable(problem)
                else:
                    self._reached()
                    if denials is not None:
                        self._denials = denials
                        ended.update(name for name, each in self._signed.items() if self.is_denied(each))
                    for token_id in ended:
                        self._end(token_id, "revoked")
                await asyncio.sleep(self._poll_seconds)

    def _ask(
        self, mark: Mark | None, unchecked: set[str], live: tuple[str, ...]
    ) -> tuple[Mark, set[str], Sequence[Denial] | None]:
        """Find stored tokens that have ended, and what ends signed ones if that has changed. In the executor's thread."""
        moved, revoked = self._store.revoked_since(mark)
        suspects = set(live) if revoked is None else unchecked.union(revoked).intersection(live)
        ended = self._store.ended_among(suspects) if suspects else set()
        return moved, ended, self._store.denials() if moved != mark else None

    # -- ending ------------------------------------------------------------------------------------------------------------------

    def _end(self, token_id: str, reason: str) -> None:
        for session in tuple(self._sessions.get(token_id, ())):
            self.unregister(session)
            try:
                session.token_ended(reason)
            except Exception:
                logger.exception("a session whose token has ended did not end in order")

    def _reached(self) -> None:
        if not self._is_reachable:
            logger.warning("the token store is reachable again")
        self._is_reachable = True
        self._asked_at = self._clock()

    def _unreachable(self, problem: Exception) -> None:
        if self._is_reachable:
            logger.error("revocation is not noticed; sessions end in %.0f s: %s", GRACE_SECONDS, problem)
        self._is_reachable = False
        if self._clock() - self._asked_at > GRACE_SECONDS:
            for token_id in tuple(self._sessions):
                self._end(token_id, "can't be checked: the token store is unreachable")

    # -- expiry ------------------------------------------------------------------------------------------------------------------

    def _time(self, principal: Principal) -> None:
        if principal.token_id not in self._timed:
            self._timed.add(principal.token_id)
            heapq.heappush(self._expiries, (principal.expires_at, principal.token_id))
            if self._expiries[0][1] == principal.token_id:
                self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._expiries:
            delay = max(0.0, self._expiries[0][0] - self._clock())
            self._timer = asyncio.get_running_loop().call_later(min(delay, LONGEST_TIMER), self._expire)

    def _expire(self) -> None:
        now = self._clock()
        while self._expiries and self._expiries[0][0] <= now:
            token_id = heapq.heappop(self._expiries)[1]
            self._timed.discard(token_id)
            self._end(token_id, "expired")
        self._set_timer()
