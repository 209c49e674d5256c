from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pgfaucet.auth.principal import Principal
from pgfaucet.auth.sso import is_jwt, issuer_of, key_id_of, read_keys, verify
from pgfaucet.auth.tokens import Refusal
from pgfaucet.config import SsoConfig

NOW = 1_800_000_000.0
RSA = rsa.generate_private_key(65_537, 2048)
SHORT_RSA = rsa.generate_private_key(65_537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SIGNERS: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}
CLAIMS = {
    "iss": "https://idp/",
    "aud": "pgfaucet",
    "sub": "ann",
    "exp": NOW + 600,
    "iat": NOW - 1,
    "groups": ["staff", "analysts"],
    "org_id": 42,
}
CONFIG = SsoConfig(
    "https://idp/",
    ("pgfaucet", "other"),
    "https://idp/jwks.json",
    "groups",
    {"nobody": "none", "analysts": "desk", "staff": "clerk"},
    {"tenant": "org_id", "team": "team"},
)


def jwk(key: Any, key_id: str | None, **more: str) -> dict[str, Any]:
    """Write the public half of a key as a JSON Web Key."""
    algorithm = {rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm, ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm}
    kind = next((made for base, made in algorithm.items() if isinstance(key, base)), jwt.algorithms.ECAlgorithm)
    written = json.loads(kind.to_jwk(key.public_key()))
    return written | ({"kid": key_id} if key_id is not None else {}) | more


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


KEYS = read_keys(key_set(jwk(RSA, "RS256"), jwk(EC, "ES256"), jwk(ED, "EdDSA")))


def token(algorithm: str = "ES256", key: Any = None, key_id: str | None = "", **changes: Any) -> bytes:
    """Sign a token; a claim that is None is left out."""
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    headers = {"kid": algorithm if key_id == "" else key_id} if key_id is not None else {}
    return jwt.encode(claims, key or SIGNERS[algorithm], algorithm=algorithm, headers=headers).encode()


def proved(password: bytes, keys: Any = None, config: SsoConfig = CONFIG, **changes: Any) -> Principal | Refusal:
    return verify(
        password, KEYS if keys is None else keys, config, **{"now": NOW, "may_use": lambda _: True, **changes}
    )


def why(password: bytes, *arguments: Any, **changes: Any) -> str:
    verdict = proved(password, *arguments, **changes)
    assert isinstance(verdict, Refusal), verdict
    return verdict.reason.removeprefix("SSO token of https://idp/: ")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_the_issuer_proves_its_bearer(algorithm: str):
    password = token(algorithm)
    verdict = proved(password)
    assert isinstance(verdict, Principal)
    assert (verdict.role, verdict.label, verdict.claims) == ("desk", "sso:ann", (("tenant", "42"),))
    assert (verdict.expires_at, verdict.is_stored) == (NOW + 600, False)
    assert verdict.public_name == verdict.token_id
    assert verdict.token_id.startswith("jwt_")
    assert is_jwt(password)
    assert (issuer_of(password), key_id_of(password)) == ("https://idp/", algorithm)


def unsigned(header: dict[str, str], signature: bytes = b"0123456789") -> bytes:
    parts = [json.dumps(header).encode(), json.dumps(CLAIMS).encode(), signature]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def signed_with_public_key() -> bytes:
    """Algorithm confusion: HMAC with the public key, which everybody has."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = unsigned({"alg": "HS256", "typ": "JWT", "kid": "RS256"}).rpartition(b".")[0]
    return head + b"." + base64.urlsafe_b64encode(hmac.digest(pem, head, "sha256")).rstrip(b"=")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (token(key=OTHER_EC), "its signature does not hold"),
        (token()[:-6] + b"AAAAAA", "its signature does not hold"),
        (unsigned({"alg": "none", "kid": "ES256"}), "signed with an algorithm that is not allowed for its key"),
        (signed_with_public_key(), "signed with an algorithm that is not allowed for its key"),
        (token("RS256", key_id="ES256"), "signed with an algorithm that is not allowed for its key"),
        (token("ES256", key_id="unknown"), "signed with a key that is not known"),
        (token("ES256", key_id=None), "signed with a key that is not known"),
        (token(aud="somebody"), "it is for another audience"),
        (token(aud=["a", "b"]), "it is for another audience"),
        (token(aud=None), "it has no aud"),
        (token(iss="https://evil/"), "it is of another issuer"),
        (token(iss=None), "it has no iss"),
        (token(exp=None), "it has no exp"),
        (token(sub=None), "it has no sub"),
        (token(sub=""), "malformed"),
        (token(exp=NOW - 31), "expired"),
        (token(nbf=NOW + 31), "not valid yet"),
        (token(iat=NOW + 31), "not valid yet"),
        (token(exp="tomorrow"), "malformed"),
        (token(exp=True), "malformed"),
        (token(groups=["strangers"]), "no role here belongs to its groups"),
        (token(groups=None), "no role here belongs to its groups"),
        (token(groups={"analysts": 1}), "no role here belongs to its groups"),
        (token(org_id="x" * 5000), "a claim is too long"),
        (token(org_id="a\0b"), "a claim is too long"),
        (b"AAAAAAAAAAA.BBBBBBBBBBB.CCCCCCCCCCC", "signed with a key that is not known"),
    ],
)
def test_every_other_token_is_refused_with_a_reason(password: bytes, reason: str):
    assert why(password) == reason


def test_an_algorithm_that_is_not_configured_is_refused():
    config = SsoConfig("https://idp/", ("pgfaucet",), "", "groups", {"analysts": "desk"}, {}, algorithms=("EdDSA",))
    assert why(token("ES256"), KEYS, config) == "signed with a key that is not known"
    assert isinstance(proved(token("EdDSA"), KEYS, config), Principal)


def test_clocks_may_differ_a_little():
    for password in (token(exp=NOW - 29), token(nbf=NOW + 29), token(iat=NOW + 29)):
        assert isinstance(proved(password), Principal)


def test_a_session_lasts_no_longer_than_the_configuration_says():
    verdict = proved(token(exp=NOW + 1_000_000))
    assert isinstance(verdict, Principal)
    assert verdict.expires_at == NOW + CONFIG.max_ttl


def test_the_first_role_that_may_be_used_here_is_taken():
    verdict = proved(token(), may_use=lambda role: role == "clerk")
    assert isinstance(verdict, Principal)
    assert verdict.role == "clerk"
    one = proved(token(groups="staff"))
    assert isinstance(one, Principal)
    assert one.role == "clerk"


def test_claims_are_carried_as_text():
    verdict = proved(token(org_id=True, team=["a", "b"]))
    assert isinstance(verdict, Principal)
    assert verdict.claims == (("team", '["a","b"]'), ("tenant", "true"))


def test_a_label_is_printable_and_bounded():
    verdict = proved(token(sub="ann\n" + "ü" * 300))
    assert isinstance(verdict, Principal)
    assert verdict.label.startswith("sso:ann?ü")
    assert len(verdict.label.encode()) <= 256


def test_the_only_key_serves_tokens_that_name_none():
    keys = read_keys(key_set(jwk(EC, None)))
    assert isinstance(proved(token(key_id=None), keys), Principal)
    assert why(token(), keys) == "signed with a key that is not known"


def test_keys_that_are_of_no_use_are_left_out():
    keys = read_keys(
        key_set(
            jwk(EC, "enc", use="enc"),
            jwk(SHORT_RSA, "short"),
            jwk(ec.generate_private_key(ec.SECP384R1()), "p384"),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
            {"kty": "strange", "kid": "strange"},
            jwk(ED, "good", use="sig"),
        )
    )
    assert list(keys) == ["good"]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', b"\xff"])
def test_what_is_no_key_set_is_told(text: bytes):
    with pytest.raises(ValueError, match="no JSON Web Key Set"):
        read_keys(text)


@pytest.mark.parametrize("password", [b"", b"fct_abc_def", b"a.b.c", b"secret", b"AAAAAAAAAAA.BBBBBBBBBBB", b"A" * 40])
def test_other_passwords_are_no_tokens_of_that_kind(password: bytes):
    assert not is_jwt(password)
    assert issuer_of(password) is None
    assert key_id_of(password) is None


def test_another_signature_that_holds_does_not_make_another_token():
    """Of an ECDSA signature (r, s) anybody can make (r, n - s)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    password = token("ES256")
    head, _, written = password.rpartition(b".")
    raw = base64.urlsafe_b64decode(written + b"==")
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    other = head + b"." + base64.urlsafe_b64encode(twin).rstrip(b"=")
    first, second = proved(password), proved(other)
    assert other != password
    assert isinstance(first, Principal)
    assert isinstance(second, Principal)
    assert first.token_id == second.token_id


@pytest.mark.parametrize("changes", [{"iat": float("nan")}, {"exp": 1e300}, {"exp": 10**30}, {"iat": float("-inf")}])
def test_a_time_that_cannot_be_counted_with_is_refused(changes: dict[str, Any]):
    assert why(token(**changes)) == "malformed"
