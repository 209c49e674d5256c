from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.auth import tokens
from pgfaucet.auth.principal import Principal
from pgfaucet.auth.tokens import Refusal, TokenRecord

NOW = 1_800_000_000.0


def mint(**changes: object) -> tuple[str, TokenRecord]:
    values: dict[str, object] = {"role": "agent", "label": "agent:1", "claims": {"tenant": "42"}, "ttl": 60.0}
    return tokens.mint(**(values | changes), now=NOW, rng=random.Random(1).randbytes)  # type: ignore[arg-type] # a builder


def secret_of(text: str) -> str:
    parsed = tokens.parse(text.encode())
    assert parsed is not None
    return parsed[1]


def test_a_token_is_its_prefix_its_public_id_and_a_secret():
    text, record = mint()
    assert re.fullmatch(r"fct_[0-9a-z]{12}_[0-9A-Za-z]{40}", text)
    assert tokens.parse(text.encode()) == (record.id, text[17:])


def test_the_secret_has_more_random_bits_than_the_contract_asks_for():
    assert len(tokens.SECRET_ALPHABET) ** tokens.SECRET_CHARACTERS > 2**192
    assert len(set(tokens.SECRET_ALPHABET)) == 62


def test_no_part_of_the_secret_is_in_the_record():
    text, record = mint()
    assert secret_of(text) not in repr(record)
    assert secret_of(text).encode() not in b"".join((record.secret_hash, *map(bytes, record.verifier[2:])))


def test_every_character_of_an_alphabet_is_equally_likely():
    every_byte = itertools.cycle(range(256))
    drawn = tokens._random_text(
        tokens.SECRET_ALPHABET, 248, lambda count: bytes(itertools.islice(every_byte, max(count, 256)))
    )
    assert {drawn.count(character) for character in tokens.SECRET_ALPHABET} == {4}


def test_a_minted_token_proves_its_principal():
    text, record = mint()
    assert tokens.verify_secret(record, secret_of(text), NOW) == Principal(
        record.id, "agent", "agent:1", (("tenant", "42"),), NOW + 60
    )


@pytest.mark.parametrize(("seconds", "status"), [(0, "valid"), (59.999, "valid"), (60, "expired"), (1e9, "expired")])
def test_a_token_is_valid_until_the_moment_it_expires(seconds: float, status: str):
    assert mint()[1].status(NOW + seconds) == status


def test_a_revoked_token_stays_revoked_when_it_has_expired_too():
    assert replace(mint()[1], revoked_at=NOW).status(NOW + 1e9) == "revoked"


def test_what_a_refused_token_was_is_known_to_the_audit():
    text, record = mint()
    secret, other = secret_of(text), "A" * 40

    def why(record: TokenRecord | None, secret: str, now: float = NOW) -> str:
        verdict = tokens.verify_secret(record, secret, now)
        assert isinstance(verdict, Refusal)
        return verdict.reason

    assert why(None, secret) == "token is unknown"
    assert why(record, other) == f"token {record.id}: wrong secret"
    assert why(record, secret, NOW + 60) == f"token {record.id} is expired"
    assert why(replace(record, revoked_at=NOW), secret) == f"token {record.id} is revoked"


def test_a_wrong_secret_does_not_tell_that_the_token_has_expired():
    _, record = mint()
    assert tokens.verify_secret(record, "A" * 40, NOW + 60) == Refusal(f"token {record.id}: wrong secret")


def test_the_record_that_stands_in_for_an_unknown_token_proves_nothing():
    assert isinstance(tokens.verify_secret(None, "no token", NOW), Refusal)


@given(st.binary(max_size=80) | st.from_regex(rb"fct_[0-9a-z]{11,13}_[0-9A-Za-z]{39,41}\n?"))
def test_bytes_are_a_token_or_malformed_and_never_an_error(raw: bytes):
    parsed = tokens.parse(raw)
    if parsed is not None:
        assert f"fct_{parsed[0]}_{parsed[1]}".encode() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"fct_",
        b"fct_abcdefghijkl_" + b"A" * 39,
        b"fct_abcdefghijkl_" + b"A" * 41,
        b"fct_abcdefghijkl_" + b"A" * 40 + b"\n",
        b"fct_ABCDEFGHIJKL_" + b"A" * 40,
        b" fct_abcdefghijkl_" + b"A" * 40,
        "fct_abcdefghijk\u0661_".encode() + b"A" * 40,
    ],
)
def test_what_is_not_written_as_a_token_is_malformed(raw: bytes):
    assert tokens.parse(raw) is None


def test_people_may_leave_the_prefix_of_an_id_away_but_users_may_not():
    assert tokens.parse_id("fct_abcdefghijkl") == tokens.parse_id("abcdefghijkl") == "abcdefghijkl"
    assert tokens.id_of_user("fct_abcdefghijkl") == "abcdefghijkl"
    assert tokens.id_of_user("abcdefghijkl") is None
    assert tokens.parse_id("fct_abcdefghijkl_" + "A" * 40) is None


@pytest.mark.parametrize("ttl", [0.0, -1.0, float("inf"), float("nan")])
def test_a_token_has_a_finite_time_to_live(ttl: float):
    with pytest.raises(ValueError, match="0 seconds"):
        mint(ttl=ttl)


@pytest.mark.parametrize("label", ["", "x" * 257, "two\nlines", "\x1b[2J", "é" * 129])
def test_a_label_is_short_and_printable(label: str):
    with pytest.raises(ValueError, match="label"):
        mint(label=label)


@pytest.mark.parametrize("claims", [{"": "x"}, {"a\n": "x"}, {"a": "x" * 4096}, {"a": "\0"}])
def test_a_claim_has_a_name_and_fits_a_setting_of_the_server(claims: dict[str, str]):
    with pytest.raises(ValueError, match="claim"):
        mint(claims=claims)


def test_a_token_has_a_bounded_number_of_claims():
    with pytest.raises(ValueError, match="64 claims"):
        mint(claims={str(number): "" for number in range(65)})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("agent", "agent"),
        ("fct_8c1x0k2m4p7q", "fct_8c1x0k2m4p7q"),
        (f"fct_8c1x0k2m4p7q_{'Zk3' * 13}x", "fct_8c1x0k2m4p7q..."),
        (f"for fct_8c1x0k2m4p7q_{'Zk3' * 13}x!", "for fct_8c1x0k2m4p7q...!"),
        ("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJpIn0xx.0123456789ab", "eyJh..."),
        ("host.internal.example.com", "host.internal.example.com"),
    ],
)
def test_a_token_that_stands_where_a_name_should_is_not_recorded(text: str, shown: str):
    assert tokens.without_secret(text) == shown
