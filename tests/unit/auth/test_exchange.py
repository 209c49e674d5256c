from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient

from pgfaucet.auth import tokens
from pgfaucet.auth.exchange import NO_ID, Exchange, Failure, Lookup, OauthOffer, Prove, Send, Step, Success
from pgfaucet.auth.principal import Principal
from pgfaucet.auth.scram import MECHANISM, MECHANISM_PLUS
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.auth.tokens import TokenRecord

NOW = 1_800_000_000.0
TOKEN, RECORD = tokens.mint("agent", "agent:1", {"tenant": "42"}, ttl=60, now=NOW, rng=random.Random(1).randbytes)
USER = f"fct_{RECORD.id}"
BINDING = b"\7" * 32


def exchange(user: str = "agent", **changes: object) -> Exchange:
    values: dict[str, object] = {
        "is_private": True,
        "channel_binding": None,
        "server_secret": b"secret",
        "rng": random.Random(2).randbytes,
        "now": lambda: NOW,
        "admit": lambda _: None,
    }
    return Exchange(user, **(values | changes))  # type: ignore[arg-type] # a builder


def password(text: bytes) -> bytes:
    return messages.frame(b"p", text + b"\0")


def log_in(token: str, record: TokenRecord | None, **changes: object) -> list[Step]:
    """Log in with a password; return every step."""
    login = exchange(**changes)
    steps = [login.start(), login.receive(password(token.encode()))]
    assert isinstance(steps[-1], Lookup)
    return [*steps, login.found(record)]


def log_in_with_scram(token: str, record: TokenRecord | None, **changes: object) -> list[Step]:
    login = exchange(f"fct_{token[4:16]}", **changes)
    client = ScramClient([MECHANISM], "any", token)
    steps = [login.start()]
    first = client.get_client_first().encode()
    steps.append(login.receive(initial_response(MECHANISM, first)))
    assert isinstance(steps[-1], Lookup)
    steps.append(login.found(record))
    assert isinstance(steps[-1], Send)
    client.set_server_first(steps[-1].data[9:].decode())
    steps.append(login.receive(messages.frame(b"p", client.get_client_final().encode())))
    return steps


def initial_response(mechanism: str, data: bytes) -> bytes:
    return messages.frame(b"p", mechanism.encode() + b"\0" + len(data).to_bytes(4, "big") + data)


def seen_by_client(step: Step) -> tuple[object, ...]:
    """Return all of a failure that reaches a client."""
    assert isinstance(step, Failure)
    error = step.error
    return (error.sqlstate, error.message, error.detail, error.hint, error.position)


UNKNOWN = "fct_000000000000_" + "0" * 40
BAD_TOKENS: list[tuple[str, TokenRecord | None, dict[str, object], str]] = [
    (UNKNOWN, None, {}, "unknown"),
    (TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1"), RECORD, {}, "wrong secret"),
    (TOKEN, replace(RECORD, expires_at=NOW), {}, "expired"),
    (TOKEN, replace(RECORD, revoked_at=NOW - 1), {}, "revoked"),
    (TOKEN, RECORD, {"admit": lambda _: "not for this database"}, "not for this database"),
]


@pytest.mark.parametrize(
    ("token", "record", "changes", "reason"), BAD_TOKENS, ids=[reason for *_, reason in BAD_TOKENS]
)
def test_every_bad_token_gets_the_same_answer_and_the_audit_the_reason(
    token: str, record: TokenRecord | None, changes: dict[str, object], reason: str
):
    steps = log_in(token, record, **changes)
    assert [type(step) for step in steps] == [Send, Lookup, Failure]
    assert seen_by_client(steps[-1]) == ("28P01", 'password authentication failed for user "agent"', None, None, None)
    assert isinstance(steps[-1], Failure)
    assert reason in steps[-1].error.reason
    assert token[17:] not in steps[-1].error.reason


@pytest.mark.parametrize("token", ["x", "postgres", TOKEN[:-1], TOKEN + "\n", "fct_" + "é" * 52])
def test_a_malformed_token_is_looked_up_and_refused_like_any_other(token: str):
    steps = log_in(token, None)
    assert steps[1] == Lookup(NO_ID)
    assert seen_by_client(steps[-1]) == seen_by_client(log_in(UNKNOWN, None)[-1])


def test_an_empty_password_is_named_as_the_server_names_it():
    login = exchange()
    login.start()
    step = login.receive(password(b""))
    assert seen_by_client(step)[:2] == ("28P01", "empty password returned by client")


def test_no_token_has_the_id_that_is_looked_up_for_a_malformed_one():
    assert tokens.parse_id(NO_ID) is None


@pytest.mark.parametrize(
    ("token", "record", "changes", "reason"), BAD_TOKENS, ids=[reason for *_, reason in BAD_TOKENS]
)
def test_every_bad_token_gets_the_same_answer_over_scram(
    token: str, record: TokenRecord | None, changes: dict[str, object], reason: str
):
    steps = log_in_with_scram(token, record, **changes)
    assert [type(step) for step in steps] == [Send, Lookup, Send, Failure]
    assert isinstance(steps[2], Send)
    assert len(steps[2].data) == len(log_in_with_scram(TOKEN, RECORD)[2].data)  # type: ignore[union-attr] # a Send
    user = f"fct_{token[4:16]}"
    assert seen_by_client(steps[-1]) == (
        "28P01",
        f'password authentication failed for user "{user}"',
        None,
        None,
        None,
    )
    assert isinstance(steps[-1], Failure)
    assert reason in steps[-1].error.reason


@pytest.mark.parametrize("log", [log_in, log_in_with_scram])
def test_a_good_token_logs_in(log: Callable[..., list[Step]]):
    last = log(TOKEN, RECORD)[-1]
    assert isinstance(last, Success)
    assert last.principal == Principal(RECORD.id, "agent", "agent:1", (("tenant", "42"),), NOW + 60)
    assert last.data.endswith(messages.AUTHENTICATION_OK)


def test_the_user_name_grants_nothing():
    assert isinstance(log_in(TOKEN, RECORD)[-1], Success)
    login = exchange("postgres")
    login.start()
    login.receive(password(TOKEN.encode()))
    assert isinstance(login.found(RECORD), Success)


def test_a_token_is_not_asked_for_where_others_can_listen():
    step = exchange(is_private=False).start()
    assert seen_by_client(step)[0] == "28000"
    assert isinstance(exchange(USER, is_private=False).start(), Send)  # SCRAM shows no secret


def test_channel_binding_is_offered_only_over_tls():
    plain, tls = exchange(USER).start(), exchange(USER, channel_binding=BINDING).start()
    assert isinstance(plain, Send)
    assert isinstance(tls, Send)
    assert MECHANISM_PLUS.encode() not in plain.data
    assert MECHANISM_PLUS.encode() in tls.data


def test_a_mechanism_that_was_not_offered_can_not_be_chosen():
    login = exchange(USER)
    login.start()
    assert seen_by_client(login.receive(initial_response(MECHANISM_PLUS, b"n,,n=,r=x")))[0] == "08P01"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"Q\0\0\0\6x\0",
        messages.frame(b"p", b""),
        messages.frame(b"p", b"no zero byte"),
        messages.frame(b"p", b"two\0zero\0"),
        messages.frame(b"p", b"x" * 70_000 + b"\0"),
    ],
)
def test_what_is_no_password_message_breaks_the_protocol(frame: bytes):
    login = exchange()
    login.start()
    assert seen_by_client(login.receive(frame))[0] == "08P01"


def test_a_second_password_is_not_read():
    login = exchange()
    login.start()
    login.receive(password(UNKNOWN.encode()))
    assert seen_by_client(login.receive(password(TOKEN.encode())))[0] == "08P01"


def test_a_token_that_expires_during_the_exchange_does_not_log_in():
    times = iter([NOW + 60])
    assert seen_by_client(log_in_with_scram(TOKEN, RECORD, now=lambda: next(times))[-1])[0] == "28P01"


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.sampled_from(["agent", USER]))
def test_no_bytes_of_a_client_log_in_or_crash(bodies: list[bytes], user: str):
    login = exchange(user)
    step = login.start()
    for body in bodies:
        if isinstance(step, Failure):
            break
        step = login.receive(messages.frame(b"p", body))
        if isinstance(step, Lookup):
            step = login.found(RECORD)
        assert not isinstance(step, Success)


OFFER = OauthOffer("https://idp/.well-known/openid-configuration", "openid")
BEARER = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJpIn0xx.0123456789ab"


def bearer(text: bytes, *, header: bytes = b"n,,", more: bytes = b"") -> bytes:
    return initial_response("OAUTHBEARER", header + b"\1auth=" + text + b"\1" + more + b"\1")


def asked(**changes: object) -> Exchange:
    login = exchange(oauth=OFFER, **changes)
    start = login.start()
    assert isinstance(start, Send)
    assert start.data == messages.authentication_sasl(("OAUTHBEARER",))
    return login


@pytest.mark.parametrize(
    "message",
    [
        bearer(b"Bearer " + BEARER),
        bearer(b"bearer   " + BEARER),
        bearer(b"Bearer " + BEARER, header=b"y,,"),
        bearer(b"Bearer " + BEARER, more=b"host=db\1port=5432\1"),
    ],
)
def test_a_bearer_token_is_proved_like_a_password(message: bytes):
    login = asked()
    assert login.receive(message) == Prove(BEARER)
    who = Principal("jwt_1", "agent", "sso:ann", (), NOW + 60, is_stored=False)
    assert login.proved(who) == Success(who, messages.AUTHENTICATION_OK)


def test_a_client_without_a_bearer_token_is_told_where_to_get_one():
    login = asked()
    told = login.receive(bearer(b""))
    assert isinstance(told, Send)
    assert told.data == messages.authentication_sasl_continue(
        b'{"status":"invalid_token","openid-configuration":"https://idp/.well-known/openid-configuration","scope":"openid"}'
    )
    assert seen_by_client(login.receive(messages.frame(b"p", b"\1")))[:2] == (
        "28000",
        'OAuth bearer authentication failed for user "agent"',
    )


@pytest.mark.parametrize("text", [b"Bearer " + BEARER, b"Bearer nonsense", b"Basic YTpi", b"Bearer " + TOKEN.encode()])
def test_a_bearer_token_that_proves_nothing_gets_the_same_answer(text: bytes):
    login = asked()
    step = login.receive(bearer(text))
    if isinstance(step, Prove):
        step = login.proved(tokens.Refusal("SSO token of https://idp/: expired"))
    assert isinstance(step, Send)
    end = login.receive(messages.frame(b"p", b"\1"))
    assert seen_by_client(end)[:2] == ("28P01", 'password authentication failed for user "agent"')


def test_a_bearer_that_is_not_for_here_is_refused():
    login = asked(admit=lambda _: "not for this database")
    login.receive(bearer(b"Bearer " + BEARER))
    end = login.proved(Principal("jwt_1", "agent", "sso:ann", (), NOW + 60, is_stored=False))
    assert seen_by_client(end)[0] == "28P01"


@pytest.mark.parametrize(
    "message",
    [
        initial_response("SCRAM-SHA-256", b"n,,n=,r=abc"),
        initial_response("OAUTHBEARER", b""),
        initial_response("OAUTHBEARER", b"n,,\1\1"),
        initial_response("OAUTHBEARER", b"p=tls-unique,,\1auth=Bearer x\1\1"),
        initial_response("OAUTHBEARER", b"n,a=admin,\1auth=Bearer x\1\1"),
        initial_response("OAUTHBEARER", b"n,,\1auth=\1auth=Bearer x\1\1"),
        initial_response("OAUTHBEARER", b"n,,\1auth=Bearer x\1"),
        initial_response("OAUTHBEARER", b"n,,\1auth=Bearer x\1\1\1"),
        initial_response("OAUTHBEARER", b"n,,\1auth=Bearer \xff\1\1"),
        messages.frame(b"p", b"OAUTHBEARER\0\xff\xff\xff\xff"),
        messages.frame(b"p", b"OAUTHBEARER\0\0\0\0\5n,,\1auth=\1\1"),
        messages.frame(b"p", b"OAUTHBEARER"),
    ],
)
def test_a_malformed_bearer_message_is_a_protocol_violation(message: bytes):
    assert seen_by_client(asked().receive(message))[0] == "08P01"


@pytest.mark.parametrize("answer", [b"", b"\1\1", b"x", BEARER])
def test_whatever_follows_a_bearer_token_that_proves_nothing_it_is_refused(answer: bytes):
    login = asked()
    login.receive(bearer(b""))
    assert seen_by_client(login.receive(messages.frame(b"p", answer)))[0] == "28000"


def test_a_bearer_token_does_not_cross_a_network_in_the_clear():
    assert seen_by_client(exchange(oauth=OFFER, is_private=False).start())[0] == "28000"


def test_a_token_of_the_store_needs_no_identity_provider():
    assert exchange(USER, oauth=OFFER).start() == Send(messages.authentication_sasl((MECHANISM,)))
