from __future__ import annotations

import random
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pgfaucet.auth import signed
from pgfaucet.auth.principal import NO_TERMS, Principal, Terms
from pgfaucet.auth.store import PURGE_AFTER_SECONDS
from pgfaucet.auth.tokens import Refusal

NOW = 1_800_000_000.0
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = signed.named([KEY.public_key()])
TERMS = Terms(("10.0.0.0/8",), 3)


def minted(key: Ed25519PrivateKey = KEY, **changes: Any) -> tuple[bytes, Principal]:
    wanted = {"ttl": 600.0, "now": NOW, "rng": random.Random(1).randbytes, "terms": TERMS} | changes
    text, principal = signed.mint("desk", "agent:1", {"tenant": "42"}, key=key, **wanted)
    return text.encode(), principal


def resigned(key: Any = KEY, algorithm: str = "EdDSA", **changes: Any) -> bytes:
    """Sign the claims of a token again; a claim that is None is left out."""
    said = jwt.decode(minted()[0], options={"verify_signature": False}) | changes
    held = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(held, key, algorithm=algorithm, headers={"kid": signed.key_id(KEY.public_key())}).encode()


def verified(password: bytes, now: float = NOW, max_ttl: float = 600.0) -> Principal | Refusal:
    return signed.verify(password, KEYS, now=now, max_ttl=max_ttl)


def test_a_token_proves_what_it_was_minted_for():
    text, principal = minted()
    assert verified(text) == principal
    assert (principal.role, principal.label, principal.claims) == ("desk", "agent:1", (("tenant", "42"),))
    assert (principal.terms, principal.is_stored, principal.expires_at) == (TERMS, False, NOW + 600)
    assert principal.public_name.startswith("fcs_")
    assert principal.issued_at == NOW - signed.LEEWAY
    assert verified(minted(terms=NO_TERMS)[0]) == minted(terms=NO_TERMS)[1]


def test_it_ends_when_its_time_is_over():
    text, _ = minted()
    assert isinstance(verified(text, NOW + 600 + signed.LEEWAY - 1), Principal)
    assert verified(text, NOW + 600 + signed.LEEWAY) == Refusal("signed token: expired")
    assert verified(text, NOW - signed.LEEWAY - 2) == Refusal("signed token: not valid yet")


def hmac_of_public_key() -> bytes:
    head = resigned().split(b".")[1]
    secret = KEY.public_key().public_bytes_raw()
    token = jwt.encode(jwt.decode(minted()[0], options={"verify_signature": False}), secret, algorithm="HS256")
    header = jwt.encode({}, secret, algorithm="HS256", headers={"kid": signed.key_id(KEY.public_key())}).split(".")[0]
    return b".".join([header.encode(), head, token.split(".")[2].encode()])


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (minted(OTHER)[0], "signed with a key that is not known"),
        (resigned(OTHER), "its signature does not hold"),
        (resigned(ec.generate_private_key(ec.SECP256R1()), "ES256"), "an algorithm that is not allowed"),
        (hmac_of_public_key(), "an algorithm that is not allowed"),
        (resigned(nbf=NOW), "says what this pgfaucet does not understand"),
        (resigned(hours="9-17"), "says what this pgfaucet does not understand"),
        (resigned(terms={"hours": "9-17"}), "malformed"),
        (resigned(terms={"one_time": True}), "malformed"),
        (resigned(terms=[]), "malformed"),
        (resigned(claims={"tenant": 42}), "malformed"),
        (resigned(claims=["tenant"]), "malformed"),
        (resigned(role=["desk"]), "malformed"),
        (resigned(terms=None), "it has no terms"),
        (resigned(aud="another"), "it is for another audience"),
        (resigned(exp=NOW + 602), "longer than server.tokens.max_ttl"),
        (resigned(exp="never"), "malformed"),
        (resigned(iat=NOW - PURGE_AFTER_SECONDS - 1), "issued too long ago"),
        (b"x.y.z", "signed with a key that is not known"),
    ],
)
def test_anything_else_proves_nothing(password: bytes, reason: str):
    verdict = verified(password)
    assert isinstance(verdict, Refusal)
    assert reason in verdict.reason
    assert verdict.reason.startswith("signed token: ")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"terms": Terms(is_one_time=True)}, "one session"),
        ({"ttl": 0.0}, "more than 0"),
        ({"ttl": -1.0}, "more than 0"),
    ],
)
def test_what_cannot_be_signed_is_an_error(changes: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        minted(**changes)


def test_keys_are_read_as_they_are_written():
    private, public = signed.new_key()
    key = signed.read_private(private)
    assert signed.read_public(public) == key.public_key()
    assert signed.new_key() != (private, public)


def test_keys_of_another_kind_are_refused():
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="no Ed25519 key"):
        signed.read_private(private)
    with pytest.raises(ValueError, match="no Ed25519 key"):
        signed.read_public(public)
    with pytest.raises(ValueError, match="PEM"):
        signed.read_public(b"no key")


@pytest.mark.parametrize(
    "changes",
    [{"jti": "8c1x0k2m4p7q"}, {"jti": "fcs_x"}, {"iat": float("nan")}, {"exp": float("inf")}, {"exp": 10**30}],
)
def test_an_id_that_is_not_ours_and_times_that_are_none_are_refused(changes: dict[str, Any]):
    assert verified(resigned(**changes)) == Refusal("signed token: malformed")
