"""The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: verifiers, and the two messages of each side. Pure.

Not the library scramp, which upstream uses: libpq sends an empty user name (`n=,r=...`), and scramp's server refuses that.
Sources: RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point); src/backend/libpq/auth-scram.c for what PostgreSQL refuses and how.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final, NamedTuple

from pgfaucet.errors import FaucetError, Sqlstate

ITERATIONS: Final = 4096
MECHANISM: Final = "SCRAM-SHA-256"
MECHANISM_PLUS: Final = "SCRAM-SHA-256-PLUS"
MAX_NONCE: Final = 256  # characters; clients send 18 to 44
MAX_MESSAGE: Final = 4096  # bytes; a client's messages are about 200

_CLIENT_FIRST: Final = re.compile(
    r"(y|n|p=([A-Za-z0-9.-]+)),(a=[^,\0]*)?,(n=[^,\0]*,r=([!-+\--~]+)(?:,[A-Za-z]=[^,\0]+)*)"
)
_CLIENT_FINAL: Final = re.compile(r"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,\0]+)*),p=([A-Za-z0-9+/=]+)")
_BINDING: Final = "tls-server-end-point"


class Verifier(NamedTuple):
    """What a server keeps of a SCRAM password: enough to check a proof, not enough to make one."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def make_verifier(password: bytes, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
    """Make the verifier of an ASCII password, which SASLprep leaves as it is (RFC 5802 section 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return Verifier(salt, iterations, stored_key, hmac.digest(salted, b"Server Key", "sha256"))


def mock_verifier(server_secret: bytes, name: str) -> Verifier:
    """Make a verifier for a name that does not exist: the same salt each time it is asked for, and no password fits."""
    salt = hmac.digest(server_secret, b"salt\0" + name.encode(), "sha256")[:16]
    return Verifier(salt, ITERATIONS, hmac.digest(server_secret, b"key\0" + name.encode(), "sha256"), bytes(32))


def _malformed(detail: str) -> FaucetError:
    return FaucetError(Sqlstate.PROTOCOL_VIOLATION, "malformed SCRAM message", detail=detail)


class ScramServer:
    """One conversation. The caller looks the verifier up between the client's first message and the server's."""

    def __init__(self, mechanism: str, channel_binding: bytes | None, server_nonce: str) -> None:
        """`channel_binding` is the hash of our certificate if the PLUS mechanism was offered, else None."""
        self._mechanism = mechanism
        self._channel_binding = channel_binding
        self._server_nonce = server_nonce
        self._gs2_header = ""
        self._client_first_bare = ""
        self._server_first = ""
        self._nonce = ""
        self._auth_message = b""
        self._verifier = Verifier(b"", 0, b"", b"")

    def client_first(self, data: bytes) -> None:
        """Take client-first-message. Raises FaucetError: 08P01 if it is malformed, 28000 for a channel binding downgrade."""
        found = _CLIENT_FIRST.fullmatch(_text(data))
        if found is None:
            raise _malformed("The client's first message is not what RFC 5802 describes.")
        flag, binding, authorization_id, self._client_first_bare, nonce = found.groups()
        if authorization_id:
            raise FaucetError(
                Sqlstate.FEATURE_NOT_SUPPORTED, "client uses authorization identity, but it is not supported"
            )
        self._check_binding_flag(flag, binding)
        if len(nonce) > MAX_NONCE:
            raise _malformed("The client's nonce is too long.")
        self._gs2_header = f"{flag},,"
        self._nonce = nonce + self._server_nonce

    def _check_binding_flag(self, flag: str, binding: str | None) -> None:
        if self._mechanism == MECHANISM_PLUS:
            if binding is None:
                raise _malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data."
                )
            if binding != _BINDING:
                raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "unsupported SCRAM channel-binding type")
        elif binding is not None:
            raise _malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data."
            )
        elif flag == "y" and self._channel_binding is not None:
            raise FaucetError(
                Sqlstate.INVALID_AUTHORIZATION,
                "SCRAM channel binding negotiation error",
                detail="The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
            )

    def server_first(self, verifier: Verifier) -> bytes:
        """Return server-first-message."""
        self._verifier = verifier
        self._server_first = f"r={self._nonce},s={_base64(verifier.salt)},i={verifier.iterations}"
        return self._server_first.encode()

    def client_final(self, data: bytes) -> bool:
        """Take client-final-message; return whether the client has proved the password. Raises FaucetError as `client_first`."""
        found = _CLIENT_FINAL.fullmatch(_text(data))
        if found is None:
            raise _malformed("The client's final message is not what RFC 5802 describes.")
        without_proof, binding, nonce, proof = found.groups()
        if not hmac.compare_digest(nonce, self._nonce):
            raise FaucetError(Sqlstate.PROTOCOL_VIOLATION, "invalid SCRAM response", detail="Nonce does not match.")
        if not hmac.compare_digest(binding, _base64(self._binding_input())):
            raise FaucetError(Sqlstate.INVALID_AUTHORIZATION, "SCRAM channel binding check failed")
        self._auth_message = f"{self._client_first_bare},{self._server_first},{without_proof}".encode()
        return self._is_proof(_from_base64(proof))

    def _binding_input(self) -> bytes:
        bound = self._channel_binding if self._mechanism == MECHANISM_PLUS else None
        return self._gs2_header.encode() + (bound or b"")

    def _is_proof(self, proof: bytes) -> bool:
        if len(proof) != 32:
            raise _malformed("The client's proof has a wrong length.")
        signature = hmac.digest(self._verifier.stored_key, self._auth_message, "sha256")
        client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
        return hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key)

    def server_final(self) -> bytes:
        """Return server-final-message, which proves to the client that we know the verifier. Only after a proof that holds."""
        return b"v=" + _base64(hmac.digest(self._verifier.server_key, self._auth_message, "sha256")).encode()


def _text(data: bytes) -> str:
    if len(data) > MAX_MESSAGE:
        raise _malformed("The message is too long.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _malformed("The message is not UTF-8.") from None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _malformed("The client's proof is not base64.") from None
