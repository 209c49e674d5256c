from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.errors import FaucetError
from pgfaucet.wire import messages
from tests.kit import wire
from tests.kit.wire import Message

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
PARSERS = {
    "Q": messages.query_text,
    "P": messages.parse_message,
    "B": messages.bind_header,
    "D": messages.describe_target,
    "C": messages.describe_target,
    "E": messages.execute_target,
}


def refusal(read, data: bytes) -> FaucetError:
    with pytest.raises(FaucetError) as raised:
        read(data)
    return raised.value


def received(data: bytes) -> Message:
    """Take one backend message apart; its length word must be true."""
    assert int.from_bytes(data[1:5]) == len(data) - 1
    return Message(chr(data[0]), data[5:])


# -- from the client ---------------------------------------------------------------------------------------------------------------


@given(TEXT)
def test_a_query_is_read_as_it_was_written(text):
    assert messages.query_text(messages.query(text)) == text
    assert messages.query(text) == wire.query(text)


@given(TEXT, TEXT, st.lists(st.integers(0, 2**32 - 1), max_size=8))
def test_a_parse_is_read_as_it_was_written(name, text, types):
    assert messages.parse_message(messages.parse(name, text, types)) == (name, text, tuple(types))
    assert messages.parse(name, text, types) == wire.parse(text, name, tuple(types))


def test_a_parse_may_declare_more_types_than_a_signed_count_holds():
    types = (25,) * 65_535
    assert messages.parse_message(messages.parse("", "select 1", types)) == ("", "select 1", types)


@given(TEXT, TEXT, st.lists(st.none() | st.binary(max_size=8), max_size=4))
def test_a_bind_names_portal_and_statement_and_says_where_they_end(portal, statement, values):
    data = messages.bind(portal, statement, values)
    bound = messages.bind_header(data)
    assert (bound.portal, bound.statement) == (portal, statement)
    assert data[: bound.portal_end].endswith(portal.encode() + b"\0")
    assert data[bound.portal_end : bound.rest] == statement.encode() + b"\0"


@given(TEXT, TEXT, TEXT, st.lists(st.none() | st.binary(max_size=8), max_size=4))
def test_a_bind_to_another_statement_differs_in_nothing_else(portal, statement, other, values):
    data = messages.bind(portal, statement, values)
    assert messages.rename_bind(data, messages.bind_header(data), other.encode()) == messages.bind(
        portal, other, values
    )


def test_values_are_bound_with_their_lengths_and_null_without_one():
    assert messages.bind("", "s", ["é".encode(), None]) == wire.bind(("é", None), name="s")


@given(TEXT, st.integers(-(2**31), 2**31 - 1))
def test_an_execute_is_read_as_it_was_written(portal, limit):
    assert messages.execute_target(messages.execute(portal, limit)) == (portal, limit)
    assert messages.execute(portal, limit) == wire.execute(portal, limit)


@given(TEXT)
def test_a_describe_and_a_close_name_their_target(name):
    statement, portal = wire.describe("S", name), wire.close("P", name)
    assert messages.describe_target(statement) == (messages.STATEMENT, name)
    assert messages.describe_target(portal) == (messages.PORTAL, name)
    assert messages.describe_statement(name.encode()) == statement
    assert messages.close_statement(name.encode()) == wire.close("S", name)


@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=40))
def test_any_body_is_read_or_refused_and_never_breaks_the_reader(kind, body):
    try:
        PARSERS[kind](wire.message(kind, body))
    except FaucetError as error:
        assert error.sqlstate in ("08P01", "22021")  # noqa: PT017 - anything else raised fails the test


@pytest.mark.parametrize(
    "whole",
    [
        wire.query("select 1"),
        wire.parse("select $1", "s", (23,)),
        wire.execute("p", 7),
        wire.describe("S", "s"),
        wire.close("P", "p"),
    ],
    ids=lambda data: chr(data[0]),
)
def test_a_message_that_is_cut_short_or_has_a_tail_is_refused(whole):
    read = PARSERS[chr(whole[0])]
    read(whole)
    for broken in (*(whole[:end] for end in range(5, len(whole))), whole + b"\0", whole + b"x"):
        assert refusal(read, broken).sqlstate == "08P01", broken


@pytest.mark.parametrize("whole", [wire.query("café"), wire.parse("café"), wire.bind(name="café")])
def test_text_that_is_not_utf8_is_refused_as_the_server_refuses_it(whole):
    error = refusal(PARSERS[chr(whole[0])], whole.replace("é".encode(), b"\xe9"))
    assert error.sqlstate == "22021"
    assert error.message == 'invalid byte sequence for encoding "UTF8": 0xe9'


@pytest.mark.parametrize(("kind", "said"), [("D", "DESCRIBE"), ("C", "CLOSE")])
def test_a_target_is_a_statement_or_a_portal(kind, said):
    error = refusal(messages.describe_target, wire.message(kind, b"Xname\0"))
    assert (error.sqlstate, error.message) == ("08P01", f"invalid {said} message subtype 88")


# -- to the client -----------------------------------------------------------------------------------------------------------------


def test_an_error_carries_what_is_for_the_client_and_not_the_reason():
    error = FaucetError("42501", "no", detail="d", hint="h", position=3, reason="a secret of the policy")
    answer = received(messages.error_response("ERROR", error))
    assert answer.tag == "E"
    assert answer.fields == {"S": "ERROR", "V": "ERROR", "C": "42501", "M": "no", "D": "d", "H": "h", "P": "3"}
    assert answer.body.endswith(b"\0\0")


def test_an_error_has_no_field_that_it_says_nothing_in():
    fields = received(messages.error_response("FATAL", FaucetError("57P01", "bye"))).fields
    assert fields == {"S": "FATAL", "V": "FATAL", "C": "57P01", "M": "bye"}


@given(st.dictionaries(st.sampled_from("SVCMDHPWstcdn"), TEXT, max_size=6))
def test_the_fields_of_an_error_survive_a_round_trip(fields):
    assert messages.error_fields(received(messages.response_from_fields(b"N", fields)).body) == fields


@given(TEXT, TEXT)
def test_a_parameter_status_survives_a_round_trip(name, value):
    assert messages.parameter_status_of(received(messages.parameter_status(name, value)).body) == (name, value)


@given(st.binary(max_size=40))
def test_fields_and_parameters_of_any_bytes_are_readable(body):
    assert all(len(key) == 1 for key in messages.error_fields(body))
    name, value = messages.parameter_status_of(body)
    assert "\0" not in name
    assert not value.endswith("\0")


def test_the_short_messages_are_those_of_the_manual():
    assert received(messages.ready_for_query(ord("T"))) == Message("Z", b"T")
    assert received(messages.command_complete("UPDATE 3")) == Message("C", b"UPDATE 3\0")
    assert received(messages.backend_key_data(-5, b"k" * 32)) == Message("K", b"\xff\xff\xff\xfb" + b"k" * 32)
    assert received(messages.AUTHENTICATION_OK) == Message("R", bytes(4))
    assert received(messages.AUTHENTICATION_CLEARTEXT) == Message("R", b"\0\0\0\3")
    for constant, tag in (("PARSE", "1"), ("BIND", "2"), ("CLOSE", "3")):
        assert received(getattr(messages, f"{constant}_COMPLETE")) == Message(tag, b"")
    assert received(messages.NO_DATA) == Message("n", b"")
    assert received(messages.EMPTY_QUERY_RESPONSE) == Message("I", b"")
    assert (messages.SYNC, messages.FLUSH, messages.TERMINATE) == (wire.SYNC, wire.FLUSH, wire.TERMINATE)


def test_the_sasl_messages_are_those_of_the_manual():
    assert received(messages.authentication_sasl(["A", "B"])) == Message("R", b"\0\0\0\x0aA\0B\0\0")
    assert received(messages.authentication_sasl_continue(b"r=")) == Message("R", b"\0\0\0\x0br=")
    assert received(messages.authentication_sasl_final(b"v=")) == Message("R", b"\0\0\0\x0cv=")
    assert received(messages.sasl_initial_response("A", b"n,,")) == Message("p", b"A\0\0\0\0\3n,,")
    assert received(messages.sasl_response(b"c=")) == Message("p", b"c=")
    assert received(messages.password_message(b"secret")) == Message("p", b"secret\0")


def test_a_version_that_is_negotiated_names_what_is_not_spoken():
    answer = received(messages.negotiate_protocol_version(messages.PROTOCOL_3_2, ["_pq_.a", "_pq_.b"]))
    assert answer == Message("v", b"\0\3\0\2\0\0\0\2_pq_.a\0_pq_.b\0")


@pytest.mark.parametrize("key", [b"4444", b"k" * 256], ids=["3.0", "3.2"])
def test_a_cancel_request_has_the_whole_key(key):
    data = messages.cancel_request(7, key)
    assert data == (12 + len(key)).to_bytes(4) + (80877102).to_bytes(4) + (7).to_bytes(4) + key


def test_tls_is_asked_for_in_eight_bytes():
    assert messages.ssl_request() == b"\0\0\0\x08\x04\xd2\x16\x2f"


# -- from the server ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "value"),
    [
        (b"\0\1\0\0\0\2ok", b"ok"),
        (b"\0\2\0\0\0\2ok\0\0\0\1x", b"ok"),
        (b"\0\1\0\0\0\0", b""),
        (b"\0\1\xff\xff\xff\xff", None),
    ],
    ids=["one column", "two columns", "empty", "null"],
)
def test_the_first_value_of_a_row_is_read(row, value):
    assert messages.first_value(row) == value


@pytest.mark.parametrize("row", [b"", b"\0\0", b"\0\1\0\0", b"\0\1\0\0\0\5ok"], ids=len)
def test_a_row_without_a_whole_first_value_is_refused(row):
    assert refusal(messages.first_value, row).sqlstate == "08P01"
