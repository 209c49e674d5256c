"""Who a JSON Web Token of an identity provider proves: signature, issuer, audience and times are checked, its claims become a role's.

Pure: the keys and the time are arguments. Only asymmetric signatures are accepted, each by the kind of key that it needs, so that no header can
choose another way. Sources: RFC 7515, 7517, 7519, 8725 (best practices).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pgfaucet.auth.principal import Principal
from pgfaucet.auth.store import PURGE_AFTER_SECONDS
from pgfaucet.auth.tokens import MAX_CLAIM_BYTES, MAX_LABEL_BYTES, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgfaucet.config import SsoConfig

REQUIRED: Final = ("exp", "iat", "iss", "aud", "sub")
LATEST: Final = 253_402_300_800.0  # the end of the year 9999, in Unix seconds
MIN_RSA_BITS: Final = 2048
_SHAPE: Final = re.compile(rb"[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", re.ASCII)

Key: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
Keys: TypeAlias = dict[str | None, Key]
"""By key id; None for a key without one."""


def is_jwt(password: bytes) -> bool:
    """Whether a password looks like a signed JSON Web Token."""
    return _SHAPE.fullmatch(password) is not None


def issuer_of(password: bytes) -> str | None:
    """Return the issuer that a token claims, unproved: it only tells whose keys to look for."""
    try:
        claims = jwt.decode(password, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def key_id_of(password: bytes) -> str | None:
    """Return the id of the key that a token says it was signed with; None if it names none."""
    try:
        key_id = jwt.get_unverified_header(password).get("kid")
    except jwt.PyJWTError:
        return None
    return key_id if isinstance(key_id, str) else None


def read_keys(text: bytes) -> Keys:
    """Read a JSON Web Key Set; keys that are of no use here are left out. Raises ValueError if it is none."""
    try:
        listed = orjson.loads(text)["keys"]
        found = [(each.get("kid"), _public_key(each)) for each in listed if each.get("use", "sig") == "sig"]
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"this is no JSON Web Key Set: {type(problem).__name__}") from None
    return {key_id: key for key_id, key in found if key is not None and isinstance(key_id, str | None)}


def _public_key(written: dict[str, Any]) -> Key | None:
    try:
        key = jwt.PyJWK(written).key
    except (jwt.PyJWTError, ValueError):
        return None
    return key if _algorithm_of(key) is not None else None


def _algorithm_of(key: object) -> str | None:
    """Return the one algorithm that a key is used with; None for a key that is not used."""
    match key:
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return "RS256"
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return "ES256"
        case ed25519.Ed25519PublicKey():
            return "EdDSA"
        case _:
            return None


def verify(
    password: bytes, keys: Keys, config: SsoConfig, *, now: float, may_use: Callable[[str], bool]
) -> Principal | Refusal:
    """Decide what a token proves under the keys of its issuer. `may_use` says whether a role may be used here."""
    try:
        return _proved(password, keys, config, now=now, may_use=may_use)
    except jwt.PyJWTError as problem:
        return Refusal(f"SSO token of {config.issuer}: {why(problem)}")
    except (ValueError, TypeError, OverflowError):
        return Refusal(f"SSO token of {config.issuer}: malformed")


def _proved(
    password: bytes, keys: Keys, config: SsoConfig, *, now: float, may_use: Callable[[str], bool]
) -> Principal | Refusal:
    """Do what `verify` does. Raises jwt.PyJWTError, ValueError, TypeError, OverflowError."""
    claims = _checked(password, keys, config, now)
    role = _role_of(claims, config, may_use)
    if role is None:
        return Refusal(f"SSO token of {config.issuer}: no role here belongs to its {config.role_claim}")
    carried = tuple(sorted((name, _text(claims[source])) for name, source in config.claims.items() if source in claims))
    if any(len(f"{name}{value}".encode()) > MAX_CLAIM_BYTES or "\0" in value for name, value in carried):
        return Refusal(f"SSO token of {config.issuer}: a claim is too long")
    expires = min(float(claims["exp"]), now + config.max_ttl)
    issued = float(claims["iat"]) - config.leeway
    return Principal(_id_of(password), role, _label(claims["sub"]), carried, expires, is_stored=False, issued_at=issued)


def _checked(password: bytes, keys: Keys, config: SsoConfig, now: float) -> dict[str, Any]:
    """Check signature and registered claims; return the claims. Raises jwt.PyJWTError."""
    key_id = key_id_of(password)
    key = keys.get(key_id) if key_id is not None or len(keys) != 1 else next(iter(keys.values()))
    algorithm = _algorithm_of(key)
    if key is None or algorithm is None or algorithm not in config.algorithms:
        raise jwt.InvalidKeyError("signed with a key that is not known")
    claims: dict[str, Any] = jwt.decode(
        password,
        key,
        algorithms=[algorithm],
        issuer=config.issuer,
        audience=list(config.audience),
        options={"require": list(REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise jwt.DecodeError("its sub is no text")
    check_times(claims, now, config.leeway)
    return claims


def check_times(claims: Mapping[str, Any], now: float, leeway: float) -> None:
    """Check against our clock, which tests can set; a time that is no number is refused."""
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if not all(_is_time(value) for value in times.values()):
        raise jwt.DecodeError("a time in it is no number")
    if not now < times["exp"] + leeway:
        raise jwt.ExpiredSignatureError("expired")
    if any(times.get(name, now) > now + leeway for name in ("nbf", "iat")):
        raise jwt.ImmatureSignatureError("not valid yet")
    if times["iat"] < now - PURGE_AFTER_SECONDS:  # what ended it may have been forgotten
        raise jwt.ExpiredSignatureError("issued too long ago")


def _is_time(value: object) -> bool:
    """Whether a claim is a time that can be counted with: neither NaN nor beyond all years."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LATEST


def why(problem: jwt.PyJWTError) -> str:
    """Word a refusal; the texts of the library name claims and algorithms, never values of the token."""
    match problem:
        case jwt.InvalidAlgorithmError():
            return "signed with an algorithm that is not allowed for its key"
        case jwt.InvalidSignatureError():
            return "its signature does not hold"
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "it is of another issuer"
        case jwt.MissingRequiredClaimError():
            return f"it has no {problem.claim}"
        case jwt.ExpiredSignatureError() | jwt.ImmatureSignatureError() | jwt.InvalidKeyError():
            return str(problem)
        case _:
            return "malformed"


def _role_of(claims: Mapping[str, Any], config: SsoConfig, may_use: Callable[[str], bool]) -> str | None:
    """Return the first role of the mapping whose value the token has, and that may be used here."""
    held = claims.get(config.role_claim)
    values: Sequence[object] = held if isinstance(held, list) else [held]
    return next((role for value, role in config.roles.items() if value in values and may_use(role)), None)


def _text(value: object) -> str:
    """Write a claim as text: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _label(subject: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in f"sso:{subject}")
    return shown.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")


def _id_of(password: bytes) -> str:
    """Name a token that has no id of ours: the same token has the same name, and cannot be found from it.

    By what is signed: of an ECDSA signature anybody can make another one that holds.
    """
    return f"jwt_{hashlib.sha256(password.rpartition(b'.')[0]).hexdigest()[:24]}"
