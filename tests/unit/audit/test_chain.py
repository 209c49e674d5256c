from __future__ import annotations

import hashlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.audit.chain import GENESIS, START, Break, Link, follow, seal, sequence_of, verify
from pgfaucet.audit.record import to_json

TS = "2026-05-05T14:32:18.412Z"


def chain(*texts: str) -> list[bytes]:
    lines, previous = [], GENESIS
    for number, text in enumerate(texts, 1):
        line, previous = seal(previous, TS, number, f'"event":"x","query":{to_json(text)}')
        lines.append(line)
    return lines


def test_a_line_is_a_json_object_that_ends_with_its_hash():
    line, digest = seal(GENESIS, TS, 1, '"event":"x"')
    record = orjson.loads(line)
    assert list(record) == ["ts", "seq", "event", "prev", "hash"]
    assert record["hash"] == f"sha256:{digest}"
    assert record["prev"] == f"sha256:{'0' * 64}"
    assert line.endswith(b"\n")


def test_the_hash_can_be_computed_with_other_tools():
    line, digest = seal(GENESIS, TS, 1, '"event":"x"')
    assert hashlib.sha256(line.partition(b',"hash":')[0]).hexdigest() == digest


@given(st.lists(st.text(), max_size=5))
def test_a_chain_holds_whatever_the_records_say(texts: list[str]):
    links = list(verify(chain(*texts)))
    assert all(isinstance(link, Link) for link in links)
    assert len(links) == len(texts)


def test_each_record_stands_for_all_before_it():
    assert chain("a", "b", "c")[2] != chain("x", "b", "c")[2]


def why(lines: list[bytes]) -> tuple[int, int | None, str]:
    last = list(verify(lines))[-1]
    assert isinstance(last, Break)
    return last.line, last.sequence, last.why


def test_a_break_says_what_happened():
    one, two, three, four = chain("a", "b", "c", "d")
    other = chain("a", "B", "c", "d")
    assert why([one, two.replace(b'"b"', b'"x"'), three]) == (2, 2, "changed: its content does not fit its hash")
    assert why([one, three]) == (2, 3, "out of place: record 2 is missing before it, removed or moved")
    assert why([one, four]) == (2, 4, "out of place: records 2 to 3 are missing before it, removed or moved")
    assert why([two]) == (1, 2, "out of place: record 1 is missing before it, removed or moved")
    assert why([one, two, two]) == (3, 2, "out of place: it stands after record 2, repeated, moved or inserted")
    assert why([one, other[1], three]) == (3, 3, "replaced: it does not follow record 2 as that stands now")
    assert why([one, b"no record\n"]) == (2, None, "changed: it is not a record")
    assert why([one, two[:-1]]) == (2, 2, "torn: the line is not whole")


def test_nothing_is_read_behind_the_first_break():
    lines = iter([b"x\n", b"y\n"])
    assert len(list(verify(lines))) == 1
    assert list(lines) == [b"y\n"]


def test_a_chain_can_be_followed_from_its_middle():
    lines = chain("a", "b", "c")
    link = follow(START, lines[0])
    assert isinstance(link, Link)
    assert list(verify(lines[1:], link)) == list(verify(lines))[1:]


@given(st.binary(max_size=200))
def test_no_bytes_follow_by_chance_or_crash(line: bytes):
    assert isinstance(follow(START, line), str)
    sequence_of(line)


@pytest.mark.parametrize(("line", "sequence"), [(b'{"ts":"x","seq":7,', 7), (b'{"ts":"x","seq":x,', None), (b"", None)])
def test_the_number_a_line_claims_is_read_if_it_can_be(line: bytes, sequence: int | None):
    assert sequence_of(line) == sequence
