from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.errors import FaucetError
from pgfaucet.wire.framing import FrameBuffer, OversizedStatement
from tests.kit import wire

LIMIT = 40
MEGABYTE = 1 << 20
MESSAGES = st.one_of(
    st.builds(wire.query, st.sampled_from(["", "select 1", "x" * LIMIT, "x" * (LIMIT + 1), "x" * 500])),
    st.builds(wire.message, st.sampled_from("BFd"), st.binary(max_size=60)),
    st.sampled_from([wire.SYNC, wire.FLUSH, wire.parse("select 1"), wire.execute()]),
)


def ready(limit: int = LIMIT) -> FrameBuffer:
    frames = FrameBuffer()
    frames.limit_statements(limit)
    return frames


def taken(frames: FrameBuffer) -> list[bytes | str]:
    """Take all there is; a statement that is too long counts as its type."""
    found: list[bytes | str] = []
    while True:
        try:
            frame = frames.next_frame()
        except OversizedStatement as error:
            found.append(f"too long: {chr(error.kind)}")
            continue
        if frame is None:
            return found
        found.append(frame)


def refusal(frames: FrameBuffer, data: bytes) -> FaucetError:
    frames.feed(data)
    with pytest.raises(FaucetError) as raised:
        frames.next_frame()
    return raised.value


def head(kind: str, length: int) -> bytes:
    return kind.encode() + length.to_bytes(4, signed=length < 0)


# -- splitting ---------------------------------------------------------------------------------------------------------------------


@given(st.lists(MESSAGES, max_size=8), st.data())
def test_the_frames_do_not_depend_on_how_the_stream_was_cut(sent, data):
    stream = b"".join(sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    frames = ready()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames.feed(stream[start:end])
        if data.draw(st.booleans()):  # whoever feeds need not look every time
            found += taken(frames)
    found += taken(frames)
    assert found == ["too long: Q" if message[:1] == b"Q" and len(message) > LIMIT + 6 else message for message in sent]
    assert frames.buffered == 0


@given(st.lists(MESSAGES, min_size=1, max_size=6))
def test_frames_come_byte_by_byte_too_and_never_early(sent):
    stream = b"".join(message for message in sent if len(message) < LIMIT)
    frames = ready()
    seen = b""
    for position in range(len(stream)):
        frames.feed(stream[position : position + 1])
        seen += b"".join(taken(frames))
        assert stream[: position + 1].startswith(seen)
        assert len(seen) + frames.buffered == position + 1
    assert seen == stream


def test_bytes_before_the_first_message_are_taken_by_count():
    frames = FrameBuffer()
    frames.feed(b"\0\0")
    assert frames.take_raw(4) is None
    frames.feed(b"\0\x08rest" + wire.message("p", b"secret\0"))
    assert frames.take_raw(4) == b"\0\0\0\x08"
    assert frames.take_raw(4) == b"rest"
    assert frames.next_frame() == wire.message("p", b"secret\0")


def test_no_bytes_change_nothing():
    frames = ready()
    for part in (b"", wire.SYNC[:3], b"", wire.SYNC[3:], b""):
        frames.feed(part)
    assert taken(frames) == [wire.SYNC]


# -- lengths -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list("QPBFdDECHSXcf"))
@pytest.mark.parametrize("length", [-(2**31), -1, 0, 3, (256 << 20) + 1, 2**31 - 1])
def test_a_length_that_no_message_has_ends_the_session_at_its_head(kind, length):
    error = refusal(ready(), head(kind, length))
    assert (error.sqlstate, error.message) == ("08P01", "invalid message length")
    assert not isinstance(error, OversizedStatement)


@pytest.mark.parametrize("kind", list("DECHSXcf"))
def test_messages_that_are_always_short_must_be_short(kind):
    frames = ready()
    frames.feed(head(kind, 10_000))
    assert frames.next_frame() is None
    assert refusal(ready(), head(kind, 10_001)).sqlstate == "08P01"


@pytest.mark.parametrize("kind", [*"pRZ1\0", "\x16", "G"])
def test_a_type_that_no_client_sends_ends_the_session(kind):
    error = refusal(ready(), head(kind, 8))
    assert (error.sqlstate, error.message) == ("08P01", f"invalid frontend message type {ord(kind)}")


@pytest.mark.parametrize("kind", list("QPBSX"))
def test_before_login_only_a_password_is_taken(kind):
    assert refusal(FrameBuffer(), wire.message(kind)).sqlstate == "08P01"


def test_before_login_a_message_is_small():
    frames = FrameBuffer()
    frames.feed(head("p", 65_535))
    assert frames.next_frame() is None
    assert refusal(FrameBuffer(), head("p", 65_536)).message == "invalid message length"


# -- statements over the limit -----------------------------------------------------------------------------------------------------


def test_a_query_may_be_as_long_as_the_limit_and_no_longer():
    frames = ready()
    frames.feed(wire.query("x" * LIMIT) + wire.query("x" * (LIMIT + 1)) + wire.SYNC)
    assert taken(frames) == [wire.query("x" * LIMIT), "too long: Q", wire.SYNC]


def test_a_parse_of_a_text_as_long_as_the_limit_passes_with_any_number_of_types():
    longest = wire.message("P", b"\0" + b"x" * LIMIT + b"\0" + b"\xff\xff" + b"\0\0\0\x19" * 65_535)
    frames = ready()
    frames.feed(longest)
    assert taken(frames) == [longest]


def test_a_parse_that_must_be_over_the_limit_is_refused_at_its_head():
    frames = ready()
    frames.feed(head("P", MEGABYTE))
    assert taken(frames) == ["too long: P"]


def test_a_refused_statement_says_the_limit_and_what_to_do():
    error = refusal(ready(), wire.query("x" * (LIMIT + 1)))
    assert error.sqlstate == "54000"
    assert str(LIMIT) in error.message
    assert error.hint


def test_the_limit_is_for_statements_and_not_for_values():
    frames = ready()
    frames.feed(wire.bind(("x" * 500,)))
    assert taken(frames) == [wire.bind(("x" * 500,))]


# -- memory ------------------------------------------------------------------------------------------------------------------------


def test_the_body_of_a_refused_statement_is_never_held():
    frames = ready()
    chunk = b"x" * 65_536
    frames.feed(head("Q", 4 + 64 * len(chunk)))
    assert taken(frames) == ["too long: Q"]
    for _ in range(64):
        frames.feed(chunk)
        assert frames.buffered == 0
        assert taken(frames) == []
    frames.feed(wire.SYNC)
    assert taken(frames) == [wire.SYNC]


def test_a_bad_head_is_refused_before_its_body_comes():
    frames = ready()
    assert refusal(frames, head("S", 2**31 - 1)).sqlstate == "08P01"
    assert frames.buffered <= 5


def test_no_more_is_held_than_the_frame_and_what_came_with_it():
    frames = ready()
    frame = wire.message("d", b"x" * 300_000)
    held = 0
    for start in range(0, len(frame), 1000):
        frames.feed(frame[start : start + 1000])
        held = max(held, frames.buffered)
        if start + 1000 < len(frame):
            assert taken(frames) == []
    assert held == len(frame)
    assert taken(frames) == [frame]
    assert frames.buffered == 0
