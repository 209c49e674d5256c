"""Tokens that are proved by our own signature: minted where the private key is, verified without a store. Pure.

A signed token is a JSON Web Token (RFC 7519) under Ed25519 (RFC 8037). A claim that we don't know may be a restriction, so it is refused.
The store is asked for one thing only: whether the token was revoked.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pgfaucet.auth.principal import NO_TERMS, Principal, Terms
from pgfaucet.auth.sso import check_times, key_id_of, why
from pgfaucet.auth.tokens import Refusal, check, draw_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ISSUER: Final = "pgfaucet"
PREFIX: Final = "fcs_"
ALGORITHM: Final = "EdDSA"
LEEWAY: Final = 30.0  # seconds by which clocks may differ
KNOWN: Final = frozenset({"iss", "aud", "sub", "jti", "iat", "exp", "role", "claims", "terms"})

_ID: Final = re.compile(r"fcs_[0-9a-z]{12}", re.ASCII)

Keys = dict[str, Ed25519PublicKey]
"""By key id."""


def key_id(key: Ed25519PublicKey) -> str:
    """Name a key by a part of its hash."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_public(text: bytes) -> Ed25519PublicKey:
    """Read a public key in PEM. Raises ValueError."""
    key = serialization.load_pem_public_key(text)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("this is no Ed25519 key")  # noqa: TRY004 - what was read, not what was passed
    return key


def read_private(text: bytes) -> Ed25519PrivateKey:
    """Read a private key in PEM without a passphrase. Raises ValueError and TypeError."""
    key = serialization.load_pem_private_key(text, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("this is no Ed25519 key")  # noqa: TRY004 - as above
    return key


def new_key() -> tuple[bytes, bytes]:
    """Make a key pair; return both halves in PEM, the private one first."""
    key = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)


def named(keys: Iterable[Ed25519PublicKey]) -> Keys:
    """Return keys by their ids."""
    return {key_id(key): key for key in keys}


def mint(  # noqa: PLR0913 - everything that a token is
    role: str,
    label: str,
    claims: Mapping[str, str],
    *,
    ttl: float,
    now: float,
    rng: Callable[[int], bytes],
    key: Ed25519PrivateKey,
    terms: Terms = NO_TERMS,
) -> tuple[str, Principal]:
    """Make a token; return its text and whom it proves. Arguments as of `tokens.mint`. Raises ValueError."""
    check(label, claims, ttl)
    if terms.is_one_time:
        raise ValueError("a token for one session needs the store, so it can't be a signed one")
    issued = int(now)
    said = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": label,
        "jti": PREFIX + draw_id(rng),
        "iat": issued,
        "exp": now + ttl,
        "role": role,
        "claims": dict(claims),
        "terms": terms.as_dict(),
    }
    text = jwt.encode(said, key, algorithm=ALGORITHM, headers={"kid": key_id(key.public_key())})
    return text, _principal(said)


def verify(password: bytes, keys: Keys, *, now: float, max_ttl: float) -> Principal | Refusal:
    """Decide what a token proves under our keys; it is valid for `max_ttl` seconds from its issue at most."""
    key = keys.get(key_id_of(password) or "")
    if key is None:
        return Refusal("signed token: signed with a key that is not known")
    try:
        said: dict[str, Any] = jwt.decode(
            password,
            key,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=ISSUER,
            options={"require": sorted(KNOWN), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        check_times(said, now, LEEWAY)
        principal = _principal(said)
    except jwt.PyJWTError as problem:
        return Refusal(f"signed token: {why(problem)}")
    except (ValueError, TypeError, AttributeError, OverflowError):
        return Refusal("signed token: malformed")
    if said.keys() != KNOWN:
        return Refusal("signed token: it says what this pgfaucet does not understand")
    if said["exp"] - said["iat"] > max_ttl + 1.0:
        return Refusal("signed token: it is valid for longer than server.tokens.max_ttl")
    return principal


def _principal(said: Mapping[str, Any]) -> Principal:
    """Read whom claims prove. Raises ValueError, TypeError and AttributeError."""
    claims: Mapping[object, object] = said["claims"]
    texts = (said["role"], said["sub"], said["jti"], *claims, *claims.values())
    terms = Terms.of(said["terms"])
    if not all(isinstance(text, str) for text in texts) or terms.is_one_time or not _ID.fullmatch(said["jti"]):
        raise ValueError("not what we sign")
    carried = tuple(sorted((str(name), str(value)) for name, value in claims.items()))
    return Principal(
        token_id=said["jti"],
        role=said["role"],
        label=said["sub"],
        claims=carried,
        expires_at=float(said["exp"]),
        is_stored=False,
        terms=terms,
        issued_at=float(said["iat"]) - LEEWAY,
    )
