"""The authentication conversation with a client, without I/O: messages in; what to send, look up or decide out.

Cleartext (the token is the password); when the user name is a token's public id (`fct_...`), SCRAM-SHA-256, so that a client that
refuses to send a cleartext password can log in; for the users that the configuration says, OAUTHBEARER. Every token that proves nothing gets the same FATAL 28P01 after the same steps; the
error's `reason`, which is for the audit only, says what it was. Sources: manual, protocol-flow and sasl-authentication; RFC 7628.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from pgfaucet.auth import sso, tokens
from pgfaucet.auth.principal import Principal
from pgfaucet.auth.scram import MECHANISM, MECHANISM_PLUS, ScramServer, mock_verifier
from pgfaucet.errors import BrokenFraming, FaucetError, Sqlstate
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.auth.tokens import Refusal, TokenRecord

MAX_MESSAGE: Final = 65_535  # bytes after the type; libpq/auth.h, PG_MAX_AUTH_TOKEN_LENGTH
NO_ID: Final = "-"  # looked up for a malformed token: never the id of one
OAUTHBEARER: Final = "OAUTHBEARER"
_BEARER_MESSAGE: Final = re.compile(rb"[ny],,\x01((?:[A-Za-z]+=[\x21-\x7e \t\r\n]*\x01)*)\x01", re.ASCII)
_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class OauthOffer:
    """What a client is told that comes without a bearer token, so that it can get one."""

    discovery: str  # the address of the provider's openid-configuration
    scope: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send this, then give the client's next message to `receive`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Lookup:
    """Get this token's record from the store, then call `found`."""

    token_id: str


@dataclass(frozen=True, slots=True)
class Prove:
    """Have this token of an identity provider verified, then call `proved`."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Success:
    """The client is who the principal says. Send `data`, which ends with AuthenticationOk."""

    principal: Principal
    data: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Send the error as FATAL and close. Its `reason` is for the audit record."""

    error: FaucetError


Step = Send | Lookup | Prove | Success | Failure


def password_failed(user: str, reason: str) -> FaucetError:
    """Make the one error for every token that is not accepted."""
    return FaucetError(Sqlstate.INVALID_PASSWORD, f'password authentication failed for user "{user}"', reason=reason)


class Exchange:
    """One client's login."""

    def __init__(  # noqa: PLR0913 - everything that a login depends on
        self,
        user: str,
        *,
        is_private: bool,
        channel_binding: bytes | None,
        server_secret: bytes,
        rng: Callable[[int], bytes],
        now: Callable[[], float],
        admit: Callable[[Principal], str | None],
        oauth: OauthOffer | None = None,
    ) -> None:
        """Prepare a login.

        `is_private`: nobody can listen (TLS, loopback or a Unix-domain socket). `channel_binding`: the tls-server-end-point hash of
        our certificate if this connection is TLS. `server_secret`: the store's `mock_secret`. `rng`: secure random bytes. `now`: Unix
        seconds. `admit` is asked about a principal
        whose token is good, and returns why it may not log in here (another database, an unknown role), or None. `oauth`: ask for
        OAUTHBEARER, and offer this.
        """
        self._user = user
        self._is_private = is_private
        self._channel_binding = channel_binding
        self._server_secret = server_secret
        self._rng = rng
        self._now = now
        self._admit = admit
        self._oauth = oauth
        self._secret = ""
        self._is_malformed = False
        self._scram: ScramServer | None = None
        self._receive: Callable[[bytes], Step] = self._password

    def start(self) -> Step:
        """Return the first step."""
        if tokens.id_of_user(self._user) is not None:
            self._receive = self._sasl_initial
            return Send(messages.authentication_sasl(self._mechanisms()))
        if not self._is_private:  # else the token could be overheard
            return Failure(
                FaucetError(
                    Sqlstate.INVALID_AUTHORIZATION,
                    "a token is not accepted over an unencrypted connection",
                    hint="Connect with sslmode=require, or give the token's id (fct_...) as the user name.",
                    reason="cleartext login without TLS",
                )
            )
        if self._oauth is not None:
            self._receive = self._bearer
            return Send(messages.authentication_sasl((OAUTHBEARER,)))
        return Send(messages.AUTHENTICATION_CLEARTEXT)

    def receive(self, frame: bytes) -> Step:
        """Take the client's next message, type byte and length word included."""
        if frame[:1] != b"p":
            what = f"expected password response, got message type {frame[0] if frame else 0}"
            return Failure(FaucetError(Sqlstate.PROTOCOL_VIOLATION, what))
        if len(frame) > MAX_MESSAGE + 1:
            return Failure(BrokenFraming())
        try:
            return self._receive(frame[5:])
        except FaucetError as error:
            return Failure(error)

    def found(self, record: TokenRecord | None) -> Step:
        """Go on with what the store holds under the id that was asked for."""
        if self._scram is not None:
            return self._sasl_continue(self._scram, record)
        return self._finish(tokens.verify_secret(record, self._secret, self._now()), b"")

    def proved(self, verdict: Principal | Refusal) -> Step:
        """Go on with what is known of a token of an identity provider."""
        if self._oauth is not None and not isinstance(verdict, Principal):
            return self._not_this_bearer(password_failed(self._user, verdict.reason), self._oauth)
        return self._finish(verdict, b"")

    # -- cleartext ---------------------------------------------------------------------------------------------------------------

    def _password(self, body: bytes) -> Step:
        if not body or body.find(b"\0") != len(body) - 1:
            raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "invalid password packet size")
        if body == b"\0":
            raise FaucetError(Sqlstate.INVALID_PASSWORD, "empty password returned by client")
        self._receive = self._nothing_more
        if sso.is_jwt(body[:-1]):
            return Prove(body[:-1])
        parsed = tokens.parse(body[:-1])
        if parsed is None:
            self._is_malformed = True
            return Lookup(NO_ID)
        token_id, self._secret = parsed
        return Lookup(token_id)

    # -- OAUTHBEARER -------------------------------------------------------------------------------------------------------------

    def _bearer(self, body: bytes) -> Step:
        mechanism, separator, rest = body.partition(b"\0")
        if not separator or mechanism != OAUTHBEARER.encode():
            raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "client selected an invalid SASL authentication mechanism")
        message = _BEARER_MESSAGE.fullmatch(rest[4:]) if int.from_bytes(rest[:4], "big") == len(rest) - 4 else None
        given = [each[5:] for each in message[1].split(b"\1") if each.startswith(b"auth=")] if message else []
        if len(given) != 1 or self._oauth is None:
            raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "malformed OAUTHBEARER message")
        self._receive = self._nothing_more
        if not given[0]:
            what = f'OAuth bearer authentication failed for user "{self._user}"'
            asked = FaucetError(Sqlstate.INVALID_AUTHORIZATION, what, reason="asked where to get a bearer token")
            return self._not_this_bearer(asked, self._oauth)
        bearer = _BEARER.fullmatch(given[0])
        if bearer is None or not sso.is_jwt(bearer[1]):
            return self._not_this_bearer(password_failed(self._user, "SSO token is malformed"), self._oauth)
        return Prove(bearer[1])

    def _not_this_bearer(self, error: FaucetError, offer: OauthOffer) -> Step:
        """Say where to get a token; the client answers with one byte, then the login fails (RFC 7628 section 3.2.3)."""
        said = {"status": "invalid_token", "openid-configuration": offer.discovery, "scope": offer.scope}

        def fail(_: bytes) -> Step:
            return Failure(error)

        self._receive = fail
        return Send(messages.authentication_sasl_continue(orjson.dumps(said)))

    # -- SCRAM -------------------------------------------------------------------------------------------------------------------

    def _mechanisms(self) -> tuple[str, ...]:
        return (MECHANISM_PLUS, MECHANISM) if self._channel_binding is not None else (MECHANISM,)

    def _sasl_initial(self, body: bytes) -> Step:
        mechanism, separator, rest = body.partition(b"\0")
        if not separator or mechanism.decode("latin-1") not in self._mechanisms():
            raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "client selected an invalid SASL authentication mechanism")
        if len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
            raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "invalid SASL initial response")
        nonce = base64.b64encode(self._rng(18)).decode()
        self._scram = ScramServer(mechanism.decode(), self._channel_binding, nonce)
        self._scram.client_first(rest[4:])
        self._receive = self._nothing_more
        return Lookup(tokens.id_of_user(self._user) or NO_ID)

    def _sasl_continue(self, scram: ScramServer, record: TokenRecord | None) -> Step:
        mock = mock_verifier(self._server_secret, self._user)
        self._receive = lambda body: self._sasl_final(scram, record, body)
        return Send(
            messages.authentication_sasl_continue(scram.server_first(record.verifier if record is not None else mock))
        )

    def _sasl_final(self, scram: ScramServer, record: TokenRecord | None, body: bytes) -> Step:
        self._receive = self._nothing_more
        is_proved = scram.client_final(body)
        verdict = tokens.judge(record, is_proved=is_proved, now=self._now())
        return self._finish(verdict, messages.authentication_sasl_final(scram.server_final()))

    # -- the end -----------------------------------------------------------------------------------------------------------------

    def _nothing_more(self, _: bytes) -> Step:
        raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "unexpected password response")

    def _finish(self, verdict: Principal | Refusal, data: bytes) -> Step:
        if self._is_malformed:
            return Failure(password_failed(self._user, "token is malformed"))
        if not isinstance(verdict, Principal):
            return Failure(password_failed(self._user, verdict.reason))
        refused = self._admit(verdict)
        if refused is not None:
            return Failure(password_failed(self._user, f"token {verdict.token_id}: {refused}"))
        return Success(verdict, data + messages.AUTHENTICATION_OK)
