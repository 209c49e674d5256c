"""The hash chain: each line carries the hash of the line before it and its own. Pure.

`hash` is SHA-256 over the bytes of the line before `,"hash":`, which hold `prev`, so it stands for that record and all before it.
Every byte of a line is either hashed or fixed. The chain alone shows edits to those who hold a later hash; signed checkpoints
(`audit.checkpoint`) are such hashes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GENESIS: Final = "0" * 64
"""The `prev` of a chain's first record."""

MAX_LINE_BYTES: Final = 32 << 20

_LINE: Final = re.compile(
    rb'(\{"ts":"[^"]{1,64}","seq":([1-9][0-9]{0,17}),.*,"prev":"sha256:([0-9a-f]{64})"),"hash":"sha256:([0-9a-f]{64})"\}\n',
    re.DOTALL,
)


@dataclass(frozen=True)
class Link:
    """What the chain needs of a record: its number and hash, in hexadecimal digits."""

    sequence: int
    hash: str


START: Final = Link(0, GENESIS)


@dataclass(frozen=True)
class Break:
    """The first record that does not hold. `line` counts from 1; `sequence` is the record's own number, None if unreadable."""

    line: int
    sequence: int | None
    why: str


def seal(previous: str, timestamp: str, sequence: int, members: str) -> tuple[bytes, str]:
    """Close a record's members into a line that follows `previous` (a hash); return the line and its hash."""
    body = f'{{"ts":"{timestamp}","seq":{sequence},{members},"prev":"sha256:{previous}"'.encode()
    digest = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"sha256:%b"}\n' % (body, digest.encode()), digest


def follow(previous: Link, line: bytes) -> Link | str:
    """Check one line, with its newline, against the record before it; return its link, or why it does not hold."""
    found = _LINE.fullmatch(line)
    if found is None:
        return "changed: it is not a record" if line.endswith(b"\n") else "torn: the line is not whole"
    body, sequence, before, claimed = found[1], int(found[2]), found[3].decode(), found[4].decode()
    if hashlib.sha256(body).hexdigest() != claimed:
        return "changed: its content does not fit its hash"
    if sequence == previous.sequence + 1 and before == previous.hash:
        return Link(sequence, claimed)
    return _why_not_next(previous, sequence)


def _why_not_next(previous: Link, sequence: int) -> str:
    expected = previous.sequence + 1
    if sequence > expected:
        missing = f"record {expected} is" if sequence == expected + 1 else f"records {expected} to {sequence - 1} are"
        return f"out of place: {missing} missing before it, removed or moved"
    if sequence < expected:
        return f"out of place: it stands after record {previous.sequence}, repeated, moved or inserted"
    return f"replaced: it does not follow record {previous.sequence} as that stands now"


def verify(lines: Iterable[bytes], start: Link = START) -> Iterator[Link | Break]:
    """Give the link of each line, with its newline, in order; the first that does not hold gives a Break and ends."""
    previous = start
    for number, line in enumerate(lines, 1):
        link = follow(previous, line)
        if isinstance(link, str):
            yield Break(number, sequence_of(line), link)
            return
        yield link
        previous = link


def sequence_of(line: bytes) -> int | None:
    """Read the number that a line claims, if it can be read."""
    found = re.match(rb'\{"ts":"[^"]{1,64}","seq":([0-9]{1,18}),', line)
    return int(found[1]) if found is not None else None
