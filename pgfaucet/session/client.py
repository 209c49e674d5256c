"""One client's session: the asyncio protocol that the two sides hang on, and its beginning and end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import BrokenFraming, FaucetError, Sqlstate
from pgfaucet.session import expectation as expect
from pgfaucet.session.idle import IdleTimer
from pgfaucet.session.login import log_in
from pgfaucet.session.output import ClientOutput
from pgfaucet.session.requests import RequestSide
from pgfaucet.session.settings import IDLE_TIMEOUT
from pgfaucet.session.state import IDLE, Phase
from pgfaucet.upstream.cancel import send_cancel
from pgfaucet.wire import messages
from pgfaucet.wire.framing import FrameBuffer

if TYPE_CHECKING:
    import asyncio

    from pgfaucet.audit.record import SessionFields
    from pgfaucet.auth.principal import Principal
    from pgfaucet.database import Database
    from pgfaucet.guard import Guard
    from pgfaucet.listener import Peer
    from pgfaucet.plan import QueryPlan
    from pgfaucet.policy.model import Role
    from pgfaucet.session.environment import Environment
    from pgfaucet.upstream.connection import UpstreamConnection

logger = logging.getLogger(__name__)

HALF_CLOSED_SECONDS: Final = 1.0
MAX_BUFFERED_EARLY: Final = 128 << 10  # the same before it is logged in: no message may be so long then
MAX_BUFFERED: Final = 1 << 20  # bytes of a client that waits; beyond, its socket is not read


class ClientSession(RequestSide):
    """A connected client."""

    principal: Principal
    role: Role
    database: Database

    def __init__(self, environment: Environment, peer: Peer) -> None:
        super().__init__()
        self.environment = environment
        self.peer = peer
        self.frames = FrameBuffer()
        self.id = environment.random_bytes(8).hex()
        self.fields: SessionFields | None = None
        self.is_counted = False
        self.transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_at_end = False
        self._borrowed: asyncio.Future[None] | None = None
        self._is_client_paused = False
        self._is_output_full = False
        self._tokens_left = 0.0
        self._tokens_at = 0.0
        self._fatal_seen = False
        self.heard_at = 0.0  # when the client's last bytes came
        self.idle_timer = IdleTimer(self)
        self._end_reason = "client disconnected"
        self._unfinished_sqlstate = Sqlstate.CONNECTION_FAILURE

    # -- the client's socket -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin: the start-up packet is next."""
        self.transport = transport
        self.output = ClientOutput(transport, self.environment.audit, self._audit_lost)
        self.environment.sessions.add(self)
        self.environment.spawn(log_in(self))

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        self.frames.feed(data)
        if self.phase is Phase.READY:
            self.heard_at = began = self.environment.clock()
            self.pump()
            self.spent += self.environment.clock() - began
            if not self._is_client_paused and self._has_enough() and self.transport is not None:
                self._is_client_paused = True
                self.transport.pause_reading()
            return
        is_much = self.frames.buffered > MAX_BUFFERED_EARLY
        if is_much and not self._is_client_paused and self.transport is not None:
            self._is_client_paused = True  # until it is logged in
            self.transport.pause_reading()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def pump(self) -> None:
        """Handle the client's messages, and read on when there is room again."""
        if self._borrowed is not None:
            self._check_borrowed()
        if self.phase is not Phase.READY:
            return
        try:
            super().pump()
        except BrokenFraming as broken:  # what was asked before is answered first
            self._is_at_end = True
            self.flush_upstream()
            if self.is_copying_in or not self._is_busy():
                self.end_session(broken)
        except FaucetError as error:
            self.end_session(error)
        if self._is_client_paused and not self._has_enough() and self.transport is not None:
            self._is_client_paused = False
            self.transport.resume_reading()
        if self.environment.is_draining and self.is_idle and self.phase is Phase.READY:
            self.shut_down()
        elif self._is_at_end and not self._is_busy():
            self._close()

    def _has_enough(self) -> bool:
        """Whether the client has to wait before it sends more; never while the rest of a message is all that is missing."""
        is_waiting = self._frame is not None or not self._may_go_on()
        return is_waiting and self.frames.buffered > MAX_BUFFERED

    def eof_received(self) -> bool:
        """A client that closes its half still gets the answers in flight.

        One that has gone looks the same, so what takes longer is cancelled.
        """
        self._is_at_end = True
        self._wake_with_end()
        if self.phase is not Phase.READY or not self._is_busy():
            return False
        self.environment.loop.call_later(HALF_CLOSED_SECONDS, self._close)
        return True

    def _is_busy(self) -> bool:
        """Whether an answer will come without another message of the client's."""
        if self.is_waiting_for_lease or self._is_planning or self.to_upstream:
            return True
        return any(entry.kind in (expect.QUERY, expect.SYNC, expect.INTERNAL) for entry in self.expected)

    def pause_writing(self) -> None:
        """The client does not read: stop reading from the server."""
        self._is_output_full = True
        self.pause_upstream()

    def resume_writing(self) -> None:
        """The client has read: go on reading from the server."""
        self._is_output_full = False
        self.resume_upstream()

    def connection_lost(self, _problem: Exception | None) -> None:
        """The client is gone."""
        self._is_at_end = True
        self._wake_with_end()
        self._close()

    def _wake_with_end(self) -> None:
        for waiter in (self._waiter, self._borrowed):
            if waiter is not None and not waiter.done():
                waiter.set_exception(ConnectionResetError("client closed the connection"))

    def alpn(self) -> str | None:
        """Return the protocol that the TLS handshake agreed on."""
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        return tls.selected_alpn_protocol() if tls is not None else None

    # -- start-up ----------------------------------------------------------------------------------------------------------------

    async def more(self) -> None:
        """Wait for more bytes from the client, before READY. Raises ConnectionResetError at the end of file."""
        if self._is_at_end:
            raise ConnectionResetError("client closed the connection")
        self._waiter = self.environment.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def count_connection(self) -> None:
        """Count the session. Raises FaucetError 53300 when there are too many."""
        self.environment.connections.take(self.role, self.principal)
        self.is_counted = True

    def take_cancel_key(self, key: bytes) -> None:
        """Take a process id that no other session has, and the key that goes with it.

        It is the server's own where the connection stays with the client, so that pg_backend_pid() agrees.
        """
        keys = self.environment.cancel_keys
        if self.connection is not None and self.environment.workers == 1:
            self.pid = self.connection.backend_pid
        while self.pid == 0 or self.pid in keys:
            drawn = (int.from_bytes(self.environment.random_bytes(4), "big") & 0x7FFFFFFF) // self.environment.workers
            self.pid = max(drawn - 1, 1) * self.environment.workers + self.environment.worker
        keys[self.pid] = (key, self)
        if self.connection is not None:
            self.connection.client_pid = self.pid

    async def borrow_once(self) -> None:
        """Hold a connection for a moment: the server is there, takes the settings, and says what it is. Raises FaucetError."""
        self._borrowed = self.environment.loop.create_future()
        connection = self.pool.acquire(self)
        if connection is not None:
            self.lease_granted(connection)
        else:
            self.is_waiting_for_lease = True
        try:
            await self._borrowed
        finally:
            self._borrowed = None

    def _check_borrowed(self) -> None:
        """During login: once the settings are in force, take what the server reports, and give the connection back."""
        if self.connection is None or self.expected or self._borrowed is None:
            return
        self.reported.update(self.connection.parameters)
        self.release()
        if not self._borrowed.done():
            self._borrowed.set_result(None)

    def begin(self) -> None:
        """The client is logged in: handle what it sent meanwhile."""
        self.enter(Phase.READY)
        self.heard_at = self.environment.clock()
        self.follow_idle_timeout()
        self.environment.token_watcher.register(self, self.principal)
        self.pump()

    def next_frame(self) -> bytes | None:
        """Return the client's next whole message."""
        return self.frames.next_frame()

    # -- the end -----------------------------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether the session has ended."""
        return self.phase is Phase.CLOSED

    def end_session(self, error: FaucetError | None) -> None:
        """End with a FATAL error, or quietly when the client asked for it."""
        if self.phase is Phase.CLOSED:
            return
        if error is not None:
            self._end_reason = error.reason
            self._unfinished_sqlstate = error.sqlstate
            if not self._streaming and not self._fatal_seen:
                self._say_why(error)
        self._close()

    def _say_why(self, error: FaucetError) -> None:
        if not isinstance(error, BrokenFraming):
            self.answer(messages.error_response("FATAL", error))
        elif self.is_copying_in:
            self.answer(messages.OUT_OF_STEP)

    def token_ended(self, reason: str) -> None:
        """The token was revoked or has expired: cancel what runs and end, now."""
        self.end_session(
            FaucetError(
                Sqlstate.ADMIN_SHUTDOWN,
                "terminating connection: the token is no longer valid",
                hint="Ask for a new token.",
                reason=f"token {reason}",
            )
        )

    def shut_down(self) -> None:
        """The proxy is stopping."""
        self.end_session(FaucetError(Sqlstate.ADMIN_SHUTDOWN, "terminating connection due to administrator command"))

    def _audit_lost(self, error: FaucetError) -> None:
        self.end_session(error)

    def _close(self) -> None:
        if self.phase is Phase.CLOSED:
            return
        was_ready = self.phase is Phase.READY
        if was_ready:
            self._record_unfinished()
        self.enter(Phase.CLOSED)
        self.idle_timer.stop()
        self.note_running(is_running=False)
        self.environment.sessions.discard(self)
        if self.is_waiting_for_lease:
            self.pool.cancel_wait(self)
        self._give_back_connection()
        if was_ready:
            self.environment.token_watcher.unregister(self)
            self.environment.cancel_keys.pop(self.pid, None)
            self.recorder.event("session_closed", None, self._end_reason)
        if self.is_counted:
            self.environment.connections.give_back(self.role, self.principal)
        if self.transport is not None:
            self.output.close()

    def _record_unfinished(self) -> None:
        """Record statements that were forwarded and whose end nobody will see."""
        if not self.recorder.is_healthy:
            return
        for entry in self.expected:
            if entry.kind in (expect.QUERY, expect.EXECUTE) and entry.index < len(entry.plans):
                plan = entry.plans[entry.index]
                if plan.error is None:
                    self.recorder.statement(plan, entry, None, 0, self._unfinished_sqlstate, None)

    def _give_back_connection(self) -> None:
        connection = self.connection
        if connection is None:
            return
        self.connection = None
        if any(entry.kind != expect.LOCAL for entry in self.expected):
            self.environment.spawn(self._cancel_and_discard(connection))
        elif self._is_clean() and self.database.pool.mode == "transaction":
            self.pool.release(connection)
        else:
            self.pool.discard(connection, "client left an open transaction or session state behind")

    def _is_clean(self) -> bool:
        """Whether somebody else may have the connection: a cancel that is under way would hit whoever runs a statement there."""
        return self.status == IDLE and self.pin is None and not self.pending_cancels

    async def _cancel_and_discard(self, connection: UpstreamConnection) -> None:
        connection.lessee = None
        try:
            await send_cancel(connection)
        finally:
            self.pool.discard(connection, "client left while a statement ran")

    # -- the upstream connection -------------------------------------------------------------------------------------------------

    def lease_granted(self, connection: UpstreamConnection) -> None:
        """Take the connection that the session waited for."""
        self.is_waiting_for_lease = False
        self.connection = connection
        self.take_over()
        self.flush_upstream()
        self.pump()

    def lease_failed(self, error: FaucetError) -> None:
        """There is no connection: tell whoever waits for it."""
        if self._borrowed is not None:
            self.is_waiting_for_lease = False
            if not self._borrowed.done():
                self._borrowed.set_exception(error)
            return
        super().lease_failed(error)

    def release(self) -> None:
        """Give the connection back at the end of a transaction, unless it has to stay."""
        connection = self.connection
        if connection is None or self.pin is not None or self.pool.mode == "session" or self.pending_cancels:
            return
        if IDLE_TIMEOUT in connection.settings and not self.stop_idle_clock(connection):
            return
        self.connection = None
        self.pool.release(connection)

    def upstream_lost(self, reason: str) -> None:
        """The server closed the connection."""
        self.connection = None
        if self._borrowed is not None and not self._borrowed.done():
            self._borrowed.set_exception(
                FaucetError(Sqlstate.CONNECTION_FAILURE, "server closed the connection unexpectedly")
            )
            return
        if self._fatal_seen:
            self._close()
        else:
            self.end_session(
                FaucetError(Sqlstate.CONNECTION_FAILURE, "server closed the connection unexpectedly", reason=reason)
            )

    def lose_connection(self, reason: str) -> None:
        """Give the upstream connection up: it can't be trusted any more."""
        connection = self.connection
        self.connection = None
        if connection is not None:
            self.pool.discard(connection, reason)
        if self._borrowed is not None and not self._borrowed.done():
            self._borrowed.set_exception(
                FaucetError(Sqlstate.CONNECTION_FAILURE, "connection to the server was lost", reason=reason)
            )
            return
        self.end_session(FaucetError(Sqlstate.CONNECTION_FAILURE, "connection to the server was lost", reason=reason))

    def settings_refused(self, error: FaucetError) -> None:
        """The server does not take a setting: at login the client hears what it says."""
        if self._borrowed is None or self.connection is None:
            super().settings_refused(error)
            return
        connection, self.connection = self.connection, None
        self.pool.discard(connection, "settings were refused at login")
        if not self._borrowed.done():
            self._borrowed.set_exception(error)

    def note_fatal(self, sqlstate: str) -> None:
        """The server has said why it will close: nothing is to be added."""
        self._fatal_seen = True
        self._end_reason = f"server ended the session ({sqlstate})"

    def pause_upstream(self) -> None:
        """Stop reading from the server."""
        if self.connection is not None:
            self.connection.pause_reading()

    def resume_upstream(self) -> None:
        """Read from the server again."""
        if self.connection is not None and not self._is_output_full:
            self.connection.resume_reading()

    def upstream_can_write(self, *, can: bool) -> None:
        """The server does not read (False) or reads again (True): do the same to the client."""
        if self.transport is None or self.transport.is_closing():
            return
        if can:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def follow_idle_timeout(self) -> None:
        """Count anew when the client's idle_session_timeout has changed."""
        self.idle_timer.follow(self.settings.get(IDLE_TIMEOUT, ""))

    def pin_connection(self, reason: str) -> None:
        """Keep the connection for this client until the session ends."""
        self.pin = reason
        logger.info("session %s keeps its connection: %s", self.id, reason)
        self.environment.metrics.pins[reason] += 1

    def forget_everything(self) -> None:
        """Do what DISCARD ALL does to the proxy's own state."""
        self.statements.clear()
        self.portals.clear()
        self.reset_to_base()
        self.note_resets(("*",))
        if self.connection is not None:
            self.connection.settings = {}
            self.connection.forget_statements()

    # -- cancelling --------------------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Do what a CancelRequest asks."""
        if self.is_waiting_for_lease:
            self.pool.cancel_wait(self)
            self.lease_failed(FaucetError(Sqlstate.QUERY_CANCELED, "canceling statement due to user request"))
        else:
            self.cancel_running()

    def cancel_running(self) -> None:
        """Cancel what runs upstream; the connection stays leased until the server has taken the request."""
        connection = self.connection
        if connection is None or not any(entry.kind not in (expect.LOCAL, expect.INTERNAL) for entry in self.expected):
            return
        self.pending_cancels += 1
        self.environment.spawn(self._cancel(connection))

    async def _cancel(self, connection: UpstreamConnection) -> None:
        try:
            await send_cancel(connection)
        finally:
            self.pending_cancels -= 1
            if self.connection is connection and self.is_idle:
                self.release()

    # -- deciding ----------------------------------------------------------------------------------------------------------------

    def plan_in_thread(self, guard: Guard, text: str, types: tuple[int, ...]) -> None:
        """Decide a long text away from the event loop."""
        self.environment.spawn(self._plan_in_thread(guard, text, types))

    async def _plan_in_thread(self, guard: Guard, text: str, types: tuple[int, ...]) -> None:
        path = self.search_path
        plan: QueryPlan = await self.environment.loop.run_in_executor(None, guard.decide, text, path, types)
        guard.remember((text, path, types), plan)
        if not self.is_closed:
            self.planned(guard, text, types, plan)

    def check_rate(self) -> None:
        """Let `limits.rate` statements a second through, and as many at once."""
        rate = self.role.limits.rate
        if rate is None:
            return
        now = self.environment.clock()
        self._tokens_left = (
            min(max(rate, 1.0), self._tokens_left + (now - self._tokens_at) * rate)
            if self._tokens_at
            else max(rate, 1.0)
        )
        self._tokens_at = now
        if self._tokens_left < 1.0:
            raise FaucetError(
                Sqlstate.CONFIGURATION_LIMIT_EXCEEDED,
                f"more than {rate:g} statements a second",
                hint="Wait and try again.",
                reason=f"limits.rate: {rate:g}/s",
            )
        self._tokens_left -= 1.0
