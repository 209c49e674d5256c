"""What one client's session knows, shared by its two sides: requests (from the client) and replies (from the server)."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.wire.encodings import UTF8

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.guard import Guard
    from pgfaucet.session.environment import Environment
    from pgfaucet.session.expectation import Expectation
    from pgfaucet.session.output import ClientOutput
    from pgfaucet.session.recorder import Recorder
    from pgfaucet.session.statements import ClientStatement, Portal
    from pgfaucet.upstream.connection import UpstreamConnection
    from pgfaucet.upstream.pool import Pool

IDLE: Final = 73  # I
IN_TRANSACTION: Final = 84  # T
FAILED: Final = 69  # E


class Phase(Enum):
    """Where a session stands. LEGAL says which phase may follow which."""

    STARTUP = "startup"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    CLOSED = "closed"


LEGAL: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.STARTUP: frozenset({Phase.AUTHENTICATING, Phase.CLOSED}),
    Phase.AUTHENTICATING: frozenset({Phase.READY, Phase.CLOSED}),
    Phase.READY: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


class SessionState:
    """The state of a session, and the moves that both sides need."""

    output: ClientOutput
    guard: Guard
    pool: Pool
    recorder: Recorder
    environment: Environment

    def __init__(self) -> None:
        self.phase = Phase.STARTUP
        self.id = ""
        self.pid = 0  # as the client knows it
        self.status = IDLE  # the server's own status byte, never guessed
        self.connection: UpstreamConnection | None = None
        self.is_waiting_for_lease = False
        self.expected: deque[Expectation] = deque()
        self.to_upstream: list[bytes] = []
        self.statements: dict[str, ClientStatement] = {}
        self.portals: dict[str, Portal] = {}
        self.cursors: dict[
            str, list[ClientStatement]
        ] = {}  # opened by DECLARE under a name, in this transaction or for longer
        self.skips_to_sync = False  # an error of the extended protocol: drop messages until Sync
        self.is_copying_in = False
        self.copy_ends = 0  # CopyDone and CopyFail that the client has sent
        self.pin: str | None = None
        self.settings: dict[str, str] = {}  # in force for this client, by lower-case name
        self.base_settings: dict[str, str] = {}  # what RESET goes back to
        self.touched: set[str] = set()  # settings that this transaction may have changed
        self.resets: set[str] = (
            set()
        )  # settings that a statement has reset: what the session began with is to be put back
        self.codec = UTF8  # of the client's texts
        self.doubt = b""  # in names of prepared statements while a change of settings is under way
        self.search_path: tuple[str, ...] = ()
        self.reported: dict[str, str] = {}  # ParameterStatus as the client knows it
        self.row_limit = 0
        self.byte_limit = 0
        self.pending_cancels = 0
        self.intent = 0  # the audit record that must be durable before anything more is forwarded; `durability: strict`
        self._awaited_intent = 0
        self._is_running = False  # counted as such by the audit log
        self.resume: Callable[[], None] | None = None  # what to go on with when a lease comes

    def enter(self, phase: Phase) -> None:
        """Move to another phase, over LEGAL."""
        if phase not in LEGAL[self.phase]:
            raise FaucetError(Sqlstate.INTERNAL_ERROR, f"session cannot go from {self.phase.name} to {phase.name}")
        self.phase = phase

    def flush_upstream(self) -> None:
        """Send what was collected for the server, in one write."""
        pieces = self.to_upstream
        if pieces and self.connection is not None:
            if self.intent and not self._is_intent_durable():
                return
            self.connection.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            pieces.clear()
            self.note_running(is_running=True)

    def note_running(self, *, is_running: bool) -> None:
        """Let the audit log know for how many sessions the server works: their records will come soon."""
        if self._is_running != is_running:
            self._is_running = is_running
            self.environment.audit.running += 1 if is_running else -1

    def _is_intent_durable(self) -> bool:
        log = self.environment.audit
        if log.is_durable(self.intent):
            self.intent = 0
            return True
        if self._awaited_intent != self.intent:
            self._awaited_intent = self.intent
            log.call_when_durable(self.intent, self._intent_durable)
        return False

    def _intent_durable(self, error: FaucetError | None) -> None:
        if error is not None:
            self.end_session(error)
        else:
            self.flush_upstream()

    def end_session(self, error: FaucetError | None) -> None:
        """End the session, with a FATAL error or quietly."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether nothing is outstanding and no transaction is open."""
        return self.status == IDLE and not self.expected and not self.to_upstream
