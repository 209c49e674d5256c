"""Tokens: how they are minted, written, and proved. Pure: time and randomness are arguments, nothing is stored here.

A token is `fct_` + public id + `_` + secret. What is kept of it is a SHA-256 of the secret and a SCRAM-SHA-256 verifier of the whole
token text. A plain hash is right because the secret is 238 random bits: there is no dictionary to try, so neither salt nor stretching
adds anything, and checking stays cheap enough for every login. (The verifier's salt and 4,096 iterations are what the protocol asks.)
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgfaucet.auth.principal import NO_TERMS, Principal, Terms
from pgfaucet.auth.scram import Verifier, make_verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX: Final = "fct_"
ID_CHARACTERS: Final = 12  # 62 bits: ids are names, not secrets
SECRET_CHARACTERS: Final = 40  # 238 bits
ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
SECRET_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # noqa: S105 - an alphabet
MAX_LABEL_BYTES: Final = 256
MAX_CLAIMS: Final = 64
MAX_CLAIM_BYTES: Final = 4096

_TOKEN: Final = re.compile(rb"fct_([0-9a-z]{12})_([0-9A-Za-z]{40})", re.ASCII)
_ID: Final = re.compile(r"(?:fct_)?([0-9a-z]{12})", re.ASCII)
_SIGNED_ID: Final = re.compile(r"fcs_[0-9a-z]{12}|jwt_[0-9a-f]{24}", re.ASCII)
_SECRETS: Final = re.compile(
    r"(fct_[0-9a-z]{12})_[0-9A-Za-z]+|([A-Za-z0-9_-]{4})[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    re.ASCII,
)
_USER: Final = re.compile(r"fct_([0-9a-z]{12})", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is stored of a token. Times are Unix seconds."""

    id: str
    role: str
    label: str
    claims: tuple[tuple[str, str], ...]  # sorted by key
    created_at: float
    expires_at: float
    revoked_at: float | None
    secret_hash: bytes
    verifier: Verifier
    terms: Terms = NO_TERMS
    used_at: float | None = None  # of a token for one session: when that began

    @property
    def public_name(self) -> str:
        """The token's id as people see it."""
        return f"{PREFIX}{self.id}"

    def status(self, now: float) -> str:
        """Return valid, expired, revoked, or used."""
        if self.revoked_at is not None:
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        return "valid" if self.used_at is None else "used"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a token proves nothing. For the audit record only: a client must not learn which it was."""

    reason: str


DUMMY: Final = TokenRecord(
    "-",
    "",
    "",
    (),
    0.0,
    0.0,
    None,
    hashlib.sha256(b"no token").digest(),
    Verifier(b"\0" * 16, 4096, b"\0" * 32, b"\0" * 32),
)
"""Stands in for a token that is not in the store, so that refusing it takes the same work."""


def mint(  # noqa: PLR0913 - everything that a token is
    role: str,
    label: str,
    claims: Mapping[str, str],
    *,
    ttl: float,
    now: float,
    rng: Callable[[int], bytes],
    terms: Terms = NO_TERMS,
) -> tuple[str, TokenRecord]:
    """Make a token; return its text, which is shown once, and what is stored.

    `ttl` is seconds, `rng` a cryptographic source of bytes. Raises ValueError for a label or claim that is too long or not printable.
    """
    check(label, claims, ttl)
    public_id, secret = draw_id(rng), _random_text(SECRET_ALPHABET, SECRET_CHARACTERS, rng)
    text = f"{PREFIX}{public_id}_{secret}"
    record = TokenRecord(
        id=public_id,
        role=role,
        label=label,
        claims=tuple(sorted(claims.items())),
        created_at=now,
        expires_at=now + ttl,
        revoked_at=None,
        secret_hash=hashlib.sha256(secret.encode()).digest(),
        verifier=make_verifier(text.encode(), rng(16)),
        terms=terms,
    )
    return text, record


def check(label: str, claims: Mapping[str, str], ttl: float) -> None:
    """Check what a token shall say. Raises ValueError."""
    if not 0 < ttl < float("inf"):
        raise ValueError("a token is valid for more than 0 seconds")
    if not label or len(label.encode()) > MAX_LABEL_BYTES or not label.isprintable():
        raise ValueError(f"a label is 1 to {MAX_LABEL_BYTES} bytes of printable text")
    if len(claims) > MAX_CLAIMS:
        raise ValueError(f"a token has at most {MAX_CLAIMS} claims")
    for key, value in claims.items():
        if not key or not key.isprintable() or len(f"{key}{value}".encode()) > MAX_CLAIM_BYTES or "\0" in value:
            raise ValueError(f"a claim has a printable name, and at most {MAX_CLAIM_BYTES} bytes without a zero byte")


def draw_id(rng: Callable[[int], bytes]) -> str:
    """Draw a public id, without its prefix."""
    return _random_text(ID_ALPHABET, ID_CHARACTERS, rng)


def _random_text(alphabet: str, length: int, rng: Callable[[int], bytes]) -> str:
    """Draw characters with equal chances: bytes beyond the last multiple of the alphabet's size are thrown away."""
    bound = 256 - 256 % len(alphabet)
    drawn = ""
    while len(drawn) < length:
        drawn += "".join(alphabet[byte % len(alphabet)] for byte in rng(length) if byte < bound)
    return drawn[:length]


def parse(raw_token: bytes) -> tuple[str, str] | None:
    """Split a token into public id and secret; None if it is malformed."""
    found = _TOKEN.fullmatch(raw_token)
    return (found[1].decode(), found[2].decode()) if found is not None else None


def parse_id(text: str) -> str | None:
    """Return the public id that a person wrote: of a stored token without `fct_`, of a signed one whole; None if it is none."""
    if _SIGNED_ID.fullmatch(text):
        return text
    found = _ID.fullmatch(text)
    return found[1] if found is not None else None


def is_signed_id(public_id: str) -> bool:
    """Whether an id names a token that is proved by a signature: one that the store does not know."""
    return _SIGNED_ID.fullmatch(public_id) is not None


def without_secret(text: str) -> str:
    """Return a text with the secrets of tokens cut out of it."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2]}...", text)


def id_of_user(user: str) -> str | None:
    """Return the public id that a client gave as its user name, asking for SCRAM; None for an ordinary name."""
    found = _USER.fullmatch(user)
    return found[1] if found is not None else None


def verify_secret(record: TokenRecord | None, secret: str, now: float) -> Principal | Refusal:
    """Decide what a secret proves. `record` is what the store holds under the token's id, or None.

    The comparison takes the same time whether the id is known, and comes before the look at expiry and revocation.
    """
    known = record if record is not None else DUMMY
    is_proved = hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), known.secret_hash)
    return judge(record, is_proved=is_proved, now=now)


def judge(record: TokenRecord | None, *, is_proved: bool, now: float) -> Principal | Refusal:
    """Decide about a token whose secret has been checked."""
    if record is None:
        return Refusal("token is unknown")
    if not is_proved:
        return Refusal(f"token {record.id}: wrong secret")
    status = record.status(now)
    if status != "valid":
        return Refusal(f"token {record.id} is {status}")
    return Principal(record.id, record.role, record.label, record.claims, record.expires_at, terms=record.terms)
