from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.errors import FaucetError
from pgfaucet.wire import messages
from pgfaucet.wire.startup import parse_startup
from tests.kit.wire import startup_packet

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NAMES = TEXT.filter(lambda name: name and not name.startswith("_pq_."))
VERSION_3 = (196608).to_bytes(4)


def packet(version: int = messages.PROTOCOL_3_0, **parameters: str):
    return parse_startup(startup_packet({"user": "agent", **parameters}, version)[4:])


def refused(body: bytes) -> str:
    with pytest.raises(FaucetError) as raised:
        parse_startup(body)
    return raised.value.sqlstate


@given(st.dictionaries(NAMES, TEXT, max_size=5))
def test_parameters_are_read_as_they_were_written(parameters):
    assert parse_startup(messages.startup_packet(parameters)[4:]).parameters == parameters
    assert messages.startup_packet(parameters) == startup_packet(parameters)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: VERSION_3 + tail))
def test_any_bytes_are_a_packet_or_are_refused(body):
    try:
        found = parse_startup(body)
    except FaucetError as error:
        assert error.sqlstate in ("08P01", "0A000")  # noqa: PT017 - anything else raised fails the test
    else:
        assert found.version in (messages.PROTOCOL_3_0, messages.PROTOCOL_3_2)


def test_the_database_is_the_user_unless_it_is_named():
    assert packet(database="shop").database == "shop"
    assert packet(database="").database == "agent"
    assert packet().database == "agent"


def test_a_packet_without_a_user_has_an_empty_one():
    found = parse_startup(startup_packet({"database": "shop"})[4:])
    assert (found.user, found.database) == ("", "shop")


@pytest.mark.parametrize(
    ("asked", "spoken", "negotiates"),
    [(0, 0, False), (1, 0, False), (2, 2, False), (3, 2, True), (9999, 2, True)],
)
def test_the_newest_version_that_both_speak_is_spoken(asked, spoken, negotiates):
    found = packet(196608 + asked)
    assert found.version == 196608 + spoken
    assert found.negotiates is negotiates
    assert found.negotiated == found.version


def test_protocol_options_are_told_apart_from_parameters():
    found = packet(**{"_pq_.future": "1", "application_name": "x"})
    assert found.unknown_options == ("_pq_.future",)
    assert found.negotiates
    assert found.parameters == {"user": "agent", "application_name": "x"}


@pytest.mark.parametrize("version", [2 << 16, (4 << 16) + 7, 0, 80877103])
def test_another_major_version_is_refused(version):
    assert refused(version.to_bytes(4) + b"user\0agent\0\0") == "0A000"


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"user\0agent\0",
        b"user\0agent",
        b"user\0\0",
        b"user\0agent\0\0\0",
        b"\0agent\0\0",
        b"user\0agent\0\0x",
        b"user\0ag\xffent\0\0",
    ],
    ids=["empty", "no terminator", "cut short", "no value", "two terminators", "no name", "a tail", "not UTF-8"],
)
def test_a_broken_layout_is_refused(rest):
    assert refused(VERSION_3 + rest) == "08P01"


def test_a_packet_may_have_no_parameters():
    assert parse_startup(VERSION_3 + b"\0").parameters == {}


def test_the_last_of_two_equal_names_wins():
    assert parse_startup(VERSION_3 + b"user\0a\0user\0b\0\0").user == "b"
