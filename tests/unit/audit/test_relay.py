from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from pgfaucet.audit import relay
from pgfaucet.audit.outlets import Rejected
from pgfaucet.audit.relay import Relay, Relays
from pgfaucet.config import SinkConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Place:
    """Takes lines, or fails, or hangs."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.batches = 0
        self.problem: Exception | None = None
        self.attempts = 0
        self.closed = threading.Event()

    async def send(self, lines: Sequence[bytes]) -> None:
        self.attempts += 1
        if self.problem is not None:
            raise self.problem
        self.batches += 1
        self.taken += lines

    async def close(self) -> None:
        self.closed.set()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place()
    monkeypatch.setattr(relay, "open_outlet", lambda *_: made)
    monkeypatch.setattr(relay, "FIRST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(relay, "LONGEST_PAUSE_SECONDS", 0.01)
    return made


def started(**changes: str) -> Relays:
    return Relays([SinkConfig("stdout", **changes)], "audit.jsonl")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_lines_arrive_in_order_and_in_batches(place: Place):
    relays = started()
    lines = [b"%d\n" % number for number in range(2000)]
    for start in range(0, 2000, 250):
        relays.records(lines[start : start + 250])
    until(lambda: len(place.taken) == 2000)
    assert place.taken == lines
    assert place.batches < 50
    assert (relays.relays[0].counts.sent, relays.relays[0].counts.dropped) == (2000, 0)
    relays.close()
    assert place.closed.is_set()


@pytest.mark.parametrize(
    ("what", "taken"), [("all", [b"r\n", b"c\n"]), ("records", [b"r\n"]), ("checkpoints", [b"c\n"])]
)
def test_a_place_gets_what_it_is_for(place: Place, what: str, taken: list[bytes]):
    relays = started(what=what)
    relays.records([b"r\n"])
    relays.checkpoint(b"c\n")
    relays.close()
    assert place.taken == taken


def test_a_place_that_fails_is_tried_again_and_loses_nothing(place: Place, caplog: pytest.LogCaptureFixture):
    relays = started()
    place.problem = OSError("gone")
    relays.records([b"1\n", b"2\n"])
    until(lambda: place.attempts > 3)
    assert relays.relays[0].counts.is_failing
    place.problem = None
    relays.records([b"3\n"])
    until(lambda: len(place.taken) == 3)
    assert place.taken == [b"1\n", b"2\n", b"3\n"]
    assert not relays.relays[0].counts.is_failing
    relays.close()
    assert [record.getMessage() for record in caplog.records] == [
        "audit records do not reach stdout: gone",
        "audit records reach stdout again; 0 were dropped so far",
    ]


def test_what_a_dead_place_keeps_waiting_is_bounded_and_counted(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relay, "BUFFER_BYTES", 1000)
    relays = started()
    place.problem = OSError("gone")
    relays.records([b"first\n"])
    until(lambda: place.attempts > 0)
    for number in range(100):
        relays.records([b"%099d\n" % number])
    counts = relays.relays[0].counts
    assert (counts.dropped, counts.waiting) == (90, 10)
    place.problem = None
    until(lambda: len(place.taken) == 11)
    assert place.taken[-1] == b"%099d\n" % 99
    relays.close()


def test_what_waits_is_sent_when_the_log_is_closed(place: Place):
    relays = started()
    place.problem = OSError("gone")
    relays.records([b"1\n"])
    until(lambda: place.attempts > 2)
    place.problem = None
    relays.records([b"2\n"])
    relays.close()
    assert place.taken == [b"1\n", b"2\n"]


def test_closing_does_not_wait_for_a_dead_place(place: Place, caplog: pytest.LogCaptureFixture):
    relays = started()
    place.problem = OSError("gone")
    relays.records([b"1\n"])
    began = time.monotonic()
    relays.close()
    assert time.monotonic() - began < 2
    assert "the last audit records did not reach stdout" in caplog.text


def test_a_bug_costs_its_batch_only(place: Place, caplog: pytest.LogCaptureFixture):
    relays = started()
    place.problem = KeyError("bug")
    relays.records([b"1\n"])
    until(lambda: relays.relays[0].counts.dropped == 1)
    place.problem = None
    relays.records([b"2\n"])
    until(lambda: place.taken == [b"2\n"])
    relays.close()
    assert "cannot be sent to stdout" in caplog.text


def test_without_places_nothing_is_started():
    before = threading.active_count()
    relays = Relays([], "audit.jsonl")
    relays.records([b"1\n"])
    relays.checkpoint(b"2\n")
    relays.close()
    assert threading.active_count() == before


def test_a_place_is_named_without_its_password():
    names = {
        "postgresql://audit:hidden@db.internal/audit?sslmode=require": "postgresql://db.internal/audit",
        "https://user:hidden@siem.internal/in?key=hidden": "https://siem.internal/in",
        "syslog:tcp://siem:601": "syslog:tcp://siem:601",
        "stdout": "stdout",
    }
    for to, name in names.items():
        assert Relay(SinkConfig(to), "audit.jsonl", Place()).name == name
        assert "hidden" not in repr(SinkConfig(to))


def test_a_line_that_a_place_never_takes_is_left_out_and_the_others_arrive(
    place: Place, caplog: pytest.LogCaptureFixture
):
    async def send(lines: Sequence[bytes]) -> None:
        if b"bad\n" in lines:
            raise Rejected("it is too long")
        place.taken += lines

    place.send = send  # type: ignore[method-assign]
    relays = started()
    relays.records([b"1\n", b"2\n", b"bad\n", b"3\n"])
    until(lambda: b"3\n" in place.taken)
    relays.close()
    assert place.taken == [b"1\n", b"2\n", b"3\n"]
    (counts,) = [each.counts for each in relays.relays]
    assert (counts.sent, counts.dropped) == (3, 1)
    assert "an audit record is left out at stdout: it is too long" in caplog.text
