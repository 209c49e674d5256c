"""From the start-up packet to the first ReadyForQuery. Runs once per session, so it may wait.

Order (PROTOCOL A and B): version, user and database, authentication, role, settings, ParameterStatus, BackendKeyData, ReadyForQuery.
Until authentication has succeeded nothing tells which databases, roles or tokens exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import logging
import math
from typing import TYPE_CHECKING, Final

from pgfaucet.audit.record import SessionFields
from pgfaucet.auth.exchange import Exchange, Failure, Lookup, OauthOffer, Prove, Send, Success, password_failed
from pgfaucet.auth.principal import is_in
from pgfaucet.auth.store import StoreUnavailable
from pgfaucet.auth.tokens import without_secret
from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.session.recorder import Recorder
from pgfaucet.session.startup_settings import base_settings, requested_settings
from pgfaucet.session.state import Phase
from pgfaucet.sql.settings import format_search_path, search_path_setting
from pgfaucet.wire import messages
from pgfaucet.wire.startup import MAX_LENGTH, MIN_LENGTH, StartupPacket, major_version, parse_startup, unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.auth.principal import Principal
    from pgfaucet.policy.model import Role
    from pgfaucet.session.client import ClientSession

logger = logging.getLogger(__name__)

CATALOG_SECONDS: Final = 10.0
LONG_KEY: Final = 32  # bytes, protocol 3.2
SHORT_KEY: Final = 4


async def log_in(session: ClientSession) -> None:
    """Bring a session to READY, or end it with a FATAL error."""
    environment = session.environment
    try:
        async with asyncio.timeout(environment.authentication_timeout):
            packet = await _startup_packet(session)
            _check_open(session)
            _check_throttle(session)
            principal = await _authenticate(session, packet)
        await _open(session, packet, principal)
    except FaucetError as error:
        _count_refusal(session, error)
        _record_refusal(session, error)
        session.end_session(error)
    except (ConnectionError, TimeoutError) as problem:
        logger.debug("a client left during login: %s", type(problem).__name__)
        session.end_session(None)
    except Exception as problem:
        logger.exception("login failed unexpectedly")
        what = "internal error in pgfaucet during login"
        refusal = FaucetError(Sqlstate.INTERNAL_ERROR, what, reason=type(problem).__name__)
        _count_refusal(session, refusal)
        _record_refusal(session, refusal)
        session.end_session(refusal)


def _count_refusal(session: ClientSession, error: FaucetError) -> None:
    environment = session.environment
    is_wrong = error.sqlstate == Sqlstate.INVALID_PASSWORD
    environment.metrics.auth["refused" if is_wrong else "failed"] += 1
    if is_wrong:
        environment.throttle.failed(session.peer.ip, environment.clock())


def _check_throttle(session: ClientSession) -> None:
    environment = session.environment
    seconds = environment.throttle.seconds_left(session.peer.ip, environment.clock())
    if seconds:
        raise FaucetError(
            Sqlstate.INVALID_AUTHORIZATION,
            "too many failed logins from this address",
            hint=f"Try again in {math.ceil(seconds)} s.",
            reason="server.throttle",
        )


def _record_refusal(session: ClientSession, error: FaucetError) -> None:
    if session.fields is not None and session.environment.audit.is_healthy:
        Recorder(session.environment, session.fields).event("session_refused", "deny", error.reason, error.sqlstate)


# -- the start-up packet -----------------------------------------------------------------------------------------------------------


async def _startup_packet(session: ClientSession) -> StartupPacket:
    if session.peer.requires_alpn and session.alpn() != "postgresql":
        raise ConnectionResetError("direct TLS without ALPN")
    head = await _exactly(session, 4)
    length = int.from_bytes(head, "big")
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ConnectionResetError("not a start-up packet")
    body = await _exactly(session, length - 4)
    if major_version(body) < 3:
        session.answer(messages.error_of_protocol_2(unsupported(body)))
        raise ConnectionResetError("protocol 2")
    packet = parse_startup(body)
    session.enter(Phase.AUTHENTICATING)
    if packet.negotiates:
        session.answer(messages.negotiate_protocol_version(packet.negotiated, packet.unknown_options))
    if not packet.user:
        raise FaucetError(Sqlstate.INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet")
    session.fields = SessionFields(session.id, *_names(packet), session.peer.ip)
    _refuse_replication(packet.parameters.get("replication", "false"))
    return packet


def _refuse_replication(value: str) -> None:
    if value.lower() in ("false", "off", "no", "0"):
        return
    if value.lower() in ("true", "on", "yes", "1", "database"):
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, "replication connections are not supported")
    raise FaucetError(Sqlstate.INVALID_PARAMETER_VALUE, f'invalid value for parameter "replication": "{value}"')


def _names(packet: StartupPacket) -> tuple[str, str, str]:
    """Return database, user and application for the records: a token that stands there by mistake is no name."""
    given = (packet.database, packet.user, packet.parameters.get("application_name", ""))
    database, user, application = (without_secret(text) for text in given)
    return database, user, application


async def _exactly(session: ClientSession, count: int) -> bytes:
    while (data := session.frames.take_raw(count)) is None:
        await session.more()
    return data


async def _frame(session: ClientSession) -> bytes:
    while (frame := session.next_frame()) is None:
        await session.more()
    return frame


# -- who it is ---------------------------------------------------------------------------------------------------------------------


async def _authenticate(session: ClientSession, packet: StartupPacket) -> Principal:
    environment = session.environment
    peer = session.peer
    exchange = Exchange(
        packet.user,
        is_private=peer.is_private or peer.is_encrypted,
        channel_binding=environment.channel_binding if peer.is_encrypted else None,
        server_secret=environment.mock_secret,
        rng=environment.random_bytes,
        now=environment.now,
        admit=lambda principal: _why_not_here(session, packet, principal),
        oauth=_oauth_offer(session, packet.user),
    )
    step = exchange.start()
    while True:
        match step:
            case Send(data):
                session.answer(data)
                step = exchange.receive(await _frame(session))
            case Lookup(token_id):
                with _store_in_use():
                    step = exchange.found(await asyncio.to_thread(environment.tokens.get, token_id))
            case Prove(token):
                step = exchange.proved(
                    await environment.sso.verify(token, lambda name: _is_role_here(session, packet, name))
                )
            case Success(principal, data):
                await _spend(session, packet, principal)
                session.answer(data)
                return principal
            case Failure(error):
                raise error


@contextlib.contextmanager
def _store_in_use() -> Iterator[None]:
    """Turn away who comes while the store can't be asked."""
    try:
        yield
    except StoreUnavailable as problem:
        raise _unchecked(str(problem)) from None


def _unchecked(reason: str) -> FaucetError:
    return FaucetError(Sqlstate.CANNOT_CONNECT_NOW, "tokens cannot be checked at the moment", reason=reason)


async def _spend(session: ClientSession, packet: StartupPacket, principal: Principal) -> None:
    """Use a token that opens one session: of two clients who come at once, one gets in."""
    environment = session.environment
    if not principal.terms.is_one_time:
        return
    with _store_in_use():
        is_first = await asyncio.to_thread(environment.tokens.spend, principal.token_id, environment.now())
    if not is_first:
        raise password_failed(packet.user, f"token {principal.token_id} is used")


def _oauth_offer(session: ClientSession, user: str) -> OauthOffer | None:
    for config in session.environment.oauth:
        if any(fnmatch.fnmatchcase(user, glob) for glob in config.oauth_users):
            return OauthOffer(config.discovery, config.oauth_scope)
    return None


def _is_role_here(session: ClientSession, packet: StartupPacket, name: str) -> bool:
    role = session.environment.policy.roles.get(name)
    return role is not None and role.database == packet.database


def _why_not_here(session: ClientSession, packet: StartupPacket, principal: Principal) -> str | None:
    role = session.environment.policy.roles.get(principal.role)
    if role is None:
        return f"its role {principal.role} is not defined"
    if role.database != packet.database:
        return f"its role belongs to database {role.database}"
    if principal.terms.networks and not is_in(session.peer.ip, principal.terms.networks):
        return "it is not for clients at this address"
    return None if principal.is_stored else _why_ended(session, principal)


def _why_ended(session: ClientSession, principal: Principal) -> str | None:
    """Say whether a signed token was revoked. Raises FaucetError 57P03 while that is not known."""
    watcher = session.environment.token_watcher
    if not watcher.knows_denials:
        raise _unchecked("the token store is unreachable, so nobody knows what was revoked")
    return "it is revoked" if watcher.is_denied(principal) else None


# -- the session -------------------------------------------------------------------------------------------------------------------


async def _open(session: ClientSession, packet: StartupPacket, principal: Principal) -> None:
    """Give the session what its role says, and tell the client about the server."""
    environment = session.environment
    role = _role_now(session, packet, principal)
    session.principal, session.role = principal, role
    session.database = environment.databases[role.database]
    session.pool = session.database.pool
    session.fields = _fields(session, packet, principal)
    session.recorder = Recorder(environment, session.fields)
    _check_open(session)
    if environment.is_draining:
        raise FaucetError(Sqlstate.CANNOT_CONNECT_NOW, "the database system is shutting down")
    if not session.recorder.is_healthy:
        raise session.recorder.unavailable()
    _check_still_here(session)
    session.count_connection()
    await session.database.wait_for_catalog(CATALOG_SECONDS)
    _check_still_here(session)
    role = session.role = _role_now(session, packet, principal)  # the policy may have changed meanwhile
    session.guard = session.database.guard_for(role, dict(principal.claims))
    session.take_limits()
    session.search_path = session.guard.world.search_path
    session.base_settings = base_settings(
        session.guard.world, requested_settings(packet.parameters), is_full=session.guard.forwards_everything
    )
    session.reset_to_base()
    await session.borrow_once()
    _check_still_here(session)
    _check_not_ended(session, packet, principal)
    session.recorder.event("session_opened", "allow", None)
    environment.metrics.auth["ok"] += 1
    _greet(session, packet)


def _role_now(session: ClientSession, packet: StartupPacket, principal: Principal) -> Role:
    """Return the role as the policy in force has it."""
    role = session.environment.policy.roles.get(principal.role)
    if role is None or role.database != packet.database:
        raise password_failed(packet.user, f"its role {principal.role} was changed or removed meanwhile")
    return role


def _check_not_ended(session: ClientSession, packet: StartupPacket, principal: Principal) -> None:
    """Refuse a token that has ended since it was proved: nothing may run under it."""
    if session.environment.now() >= principal.expires_at:
        raise password_failed(packet.user, f"token {principal.token_id} is expired")
    if not principal.is_stored and (why := _why_ended(session, principal)) is not None:
        raise password_failed(packet.user, f"token {principal.token_id}: {why}")


def _fields(session: ClientSession, packet: StartupPacket, principal: Principal) -> SessionFields:
    return SessionFields(
        session.id,
        *_names(packet),
        session.peer.ip,
        principal.public_name,
        principal.label,
        principal.role,
        principal.claims,
    )


def _check_open(session: ClientSession) -> None:
    if session.environment.is_shut:
        message = "connections are not accepted at the moment"
        raise FaucetError(Sqlstate.CANNOT_CONNECT_NOW, message, reason="shut by its operator (SIGUSR1)")


def _check_still_here(session: ClientSession) -> None:
    """Raise ConnectionResetError when the client left while we waited: nothing may be counted or kept for it any more."""
    if session.is_closed:
        raise ConnectionResetError("client closed the connection")


def _greet(session: ClientSession, packet: StartupPacket) -> None:
    reported = session.reported
    if not session.guard.forwards_everything:
        reported["session_authorization"] = session.guard.world.user
        reported["is_superuser"] = "off"
        setting = search_path_setting(session.guard.world)
        reported["search_path"] = session.settings.get(setting) or format_search_path(session.search_path)
    key = session.environment.random_bytes(LONG_KEY if packet.version == messages.PROTOCOL_3_2 else SHORT_KEY)
    session.take_cancel_key(key)
    greeting = b"".join(messages.parameter_status(name, value) for name, value in reported.items())
    session.answer(greeting + messages.backend_key_data(session.pid, key) + messages.ready_for_query(session.status))
    session.begin()
