"""The start-up conversation with the server, without I/O: what it sends in, what we send out.

Methods: trust, password, md5, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS. SCRAM is the library scramp's.
Source: manual, protocol-flow "Start-up" and "SASL Authentication".
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from scramp import ScramClient, ScramException

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.wire import messages

if TYPE_CHECKING:
    import ssl

MAX_ITERATIONS: Final = 1_000_000
MAX_SASL_BYTES: Final = 16_384


def failed(reason: str) -> FaucetError:
    """Make the error for a server that can't be logged in to; only the operator's log tells why."""
    return FaucetError(Sqlstate.CONNECTION_FAILURE, "could not log in to the server", reason=reason)


class Authentication:
    """Answers the server's Authentication messages."""

    def __init__(
        self, user: str, password: str | None, *, channel_binding: str, tls: ssl.SSLObject | None, is_private: bool
    ) -> None:
        """`is_private`: the password may be sent in clear (TLS, a Unix socket, or loopback)."""
        self.is_done = False
        self._user = user
        self._password = password
        self._channel_binding = channel_binding
        self._tls = tls
        self._is_private = is_private
        self._scram: ScramClient | None = None
        self._is_scram_verified = False
        self._is_bound = False

    def answer(self, body: bytes) -> bytes:
        """Take the body of an Authentication message; return what to send, maybe nothing. Raises FaucetError."""
        if len(body) < 4:
            raise failed("the server sends an authentication message without a method")
        code = int.from_bytes(body[:4], "big")
        handler = self._HANDLERS.get(code)
        if handler is None:
            raise failed(f"the server asks for authentication method {code}, which is not supported")
        try:
            return handler(self, body[4:])
        except (ScramException, UnicodeDecodeError, ValueError) as problem:
            raise failed(f"SCRAM exchange failed: {type(problem).__name__}") from None

    def _secret(self) -> str:
        if self._password is None:
            raise failed("the server asks for a password and none is configured")
        return self._password

    def _check_bound(self) -> None:
        """Called before anything made from the password is sent: a server in the middle gets none of it."""
        if self._channel_binding == "require" and not self._is_bound:
            raise failed("channel binding is required, but the server did not offer it")

    def _ok(self, _: bytes) -> bytes:
        if self._scram is not None and not self._is_scram_verified:
            raise failed("the server did not prove that it knows the password")
        self._check_bound()
        self.is_done = True
        return b""

    def _cleartext(self, _: bytes) -> bytes:
        self._check_bound()
        if not self._is_private:
            raise failed("the server asks for the password in clear over a connection without TLS")
        return messages.password_message(self._secret().encode())

    def _md5(self, salt: bytes) -> bytes:
        self._check_bound()
        inner = hashlib.md5((self._secret() + self._user).encode(), usedforsecurity=False).hexdigest()
        outer = hashlib.md5(inner.encode() + salt[:4], usedforsecurity=False).hexdigest()
        return messages.password_message(b"md5" + outer.encode())

    def _sasl(self, data: bytes) -> bytes:
        offered = [name.decode() for name in data.split(b"\0") if name]
        binding = None
        if self._tls is not None and self._channel_binding != "disable" and "SCRAM-SHA-256-PLUS" in offered:
            binding = ("tls-server-end-point", self._tls)
            self._is_bound = True
        self._check_bound()
        mechanisms = [
            name
            for name in offered
            if name == "SCRAM-SHA-256" or (binding is not None and name == "SCRAM-SHA-256-PLUS")
        ]
        if not mechanisms:
            raise failed(f"the server offers only {', '.join(offered) or 'nothing'}")
        self._scram = ScramClient(mechanisms, self._user, self._secret(), channel_binding=binding)
        first = self._scram.get_client_first().encode()
        return messages.sasl_initial_response(self._scram.mechanism_name, first)

    def _sasl_continue(self, data: bytes) -> bytes:
        if self._scram is None or len(data) > MAX_SASL_BYTES:
            raise failed("unexpected SASL message")
        text = data.decode()
        rounds = next((part[2:] for part in text.split(",") if part.startswith("i=")), "")
        if not rounds.isdigit() or not 0 < int(rounds) <= MAX_ITERATIONS:
            raise failed("the server asks for an unreasonable SCRAM iteration count")
        self._scram.set_server_first(text)
        return messages.sasl_response(self._scram.get_client_final().encode())

    def _sasl_final(self, data: bytes) -> bytes:
        if self._scram is None or len(data) > MAX_SASL_BYTES:
            raise failed("unexpected SASL message")
        self._scram.set_server_final(data.decode())
        self._is_scram_verified = True
        return b""

    _HANDLERS = {0: _ok, 3: _cleartext, 5: _md5, 10: _sasl, 11: _sasl_continue, 12: _sasl_final}  # noqa: RUF012 - constant
