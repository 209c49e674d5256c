"""Checks audit logs offline: each file's hash chain, and its signed checkpoints. Needs the public key only.

A file that was begun by rotation holds from its first checkpoint on, which stands for its beginning; `follows` tells whether one file goes on
where another ends.

What it finds: a record that was changed, removed, inserted, repeated or moved; a log that was cut off before a record that a checkpoint
stands for; checkpoints that were changed or are missing; an end that no checkpoint stands for and that no crash leaves. Without
copies of the checkpoints it can't find: log and checkpoints both cut back to an earlier checkpoint, or both made anew by who has the key.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final

from pgfaucet.audit import checkpoint
from pgfaucet.audit.chain import MAX_LINE_BYTES, START, Break, Link, follow, sequence_of
from pgfaucet.audit.journal import ROTATED, TORN_SUFFIX
from pgfaucet.audit.keys import PUBLIC_SUFFIX, KeyUnusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from pgfaucet.audit.checkpoint import Checkpoint

WRITING_SECONDS: Final = 0.5  # until a line that a running proxy is just writing is whole
UNATTESTED_SECONDS: Final = 60.0  # a running proxy signs a checkpoint every 10 s

_HEAD: Final = re.compile(rb'\{"ts":"([^"]*)","seq":[0-9]+,"event":"([^"]*)"')


class ForeignCopies(Exception):
    """Copies of checkpoints that the key did not sign, or none at all. The text says which."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one log: how many records hold, the last checkpoint they agree with, and what doesn't hold."""

    records: int
    checkpoints: int
    attested: int  # the record that the last checkpoint stands for; 0 if there is none
    broken: Break | None
    start: Link = field(default=START, compare=False)  # what the first record follows
    end: Link = field(default=START, compare=False)  # the last record that holds


def public_key_beside(log: Path) -> Path:
    """Return the public key file in the log's directory. Raises KeyUnusable if there is none, or more than one."""
    usual = log.with_name(f"audit.key{PUBLIC_SUFFIX}")
    if usual.is_file():
        return usual
    found = sorted(log.parent.glob(f"*{PUBLIC_SUFFIX}"))
    if len(found) != 1:
        why = "there is no public key beside it" if not found else f"there are {len(found)} public keys beside it"
        raise KeyUnusable(f"{log}: {why}; name the right one with --public-key")
    return found[0]


def read_copies(lines: Iterable[bytes], key: Ed25519PublicKey) -> dict[int, str]:
    """Return record and hash of every checkpoint among lines that were kept elsewhere; torn ones are left out.

    A record that two of them say something else about has the hash "", which no record has. Raises ForeignCopies.
    """
    held: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        if b'"signature":' not in line:
            continue
        found = checkpoint.check(line, key)
        if isinstance(found, str):
            if checkpoint.is_one(line):
                raise ForeignCopies(f"line {number} is a checkpoint that was {found}")
            continue
        sequence, digest = found.link.sequence, found.link.hash
        held[sequence] = digest if held.get(sequence, digest) == digest else ""
    if not held:
        raise ForeignCopies("there is no checkpoint in it")
    return held


def missing_logs(paths: Iterable[Path]) -> list[Path]:
    """Return the logs that are not there though their checkpoints are among these files."""
    logs = [
        path.with_name(path.name.removesuffix(checkpoint.SUFFIX))
        for path in paths
        if path.name.endswith(checkpoint.SUFFIX)
    ]
    return [log for log in logs if not log.exists()]


def verify_log(log: Path, key: Ed25519PublicKey, copies: Mapping[int, str] = MappingProxyType({})) -> Verdict:
    """Check one log with the checkpoints beside it, and with copies of them; a proxy may be writing it.

    Raises OSError if the log can't be read.
    """
    attested, bad = _checkpoints(log, key)  # read first: what they stand for is in the log by now
    with log.open("rb") as file:
        return _walk(_lines(file), attested, bad, copies)


def in_order(logs: Iterable[Path]) -> list[Path]:
    """Return the logs among these files, those of one chain in the order in which they were written."""
    others = (checkpoint.SUFFIX, TORN_SUFFIX, PUBLIC_SUFFIX)
    found = {path for path in logs if not path.name.endswith(others)}
    return sorted(found, key=lambda path: (chain_name(path), path == chain_name(path), path.name))


def chain_name(log: Path) -> Path:
    """Return the file that a log's newest records are in: its own name, or that which it had before it was rotated."""
    return log.with_suffix("") if ROTATED.fullmatch(log.suffix[1:]) else log


def why_not_next(before: Verdict | None, verdict: Verdict) -> str | None:
    """Say why a file that holds does not go on where the one `before` it, of the same chain, ends; None if it does."""
    if before is None or before.end == verdict.start:
        return None
    if verdict.start == START:
        return f"it begins a chain of its own, and does not go on where the file before it ends, at record {before.end.sequence}"
    if before.end.sequence < verdict.start.sequence:
        return f"records {before.end.sequence + 1} to {verdict.start.sequence}, of a file before it, are missing"
    return f"it does not follow record {verdict.start.sequence} as the file before it has it"


def _checkpoints(log: Path, key: Ed25519PublicKey) -> tuple[list[Checkpoint], str | None]:
    path = log.with_name(log.name + checkpoint.SUFFIX)
    try:
        with path.open("rb") as file:
            found, bad = checkpoint.read(_lines(file), key)
    except FileNotFoundError:
        return [], f"{path.name}, the file of its signed checkpoints, is missing"
    if bad is not None:
        return found, f"{path.name}:{bad.line}: {bad.why}"
    return found, None if found else f"{path.name} holds no signed checkpoint"


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Give the lines that are there now, the last of them whole if it becomes so."""
    left = os.fstat(file.fileno()).st_size
    while left > 0 and (line := file.readline(MAX_LINE_BYTES)):
        left -= len(line)
        if left <= 0 and not line.endswith(b"\n"):
            time.sleep(WRITING_SECONDS)
            line += file.readline(MAX_LINE_BYTES)
        yield line


def _walk(
    lines: Iterable[bytes], attested: Sequence[Checkpoint], bad: str | None, copies: Mapping[int, str]
) -> Verdict:
    start = attested[0].link if attested and attested[0].is_beginning else START
    previous, offset, number, agreed = start, 0, 0, int(start != START)
    first = last = b""  # behind the last checkpoint

    def verdict(broken: Break | None) -> Verdict:
        records = previous.sequence - start.sequence
        return Verdict(
            records, agreed, attested[agreed - 1].link.sequence if agreed else 0, broken, start=start, end=previous
        )

    for number, line in enumerate(lines, 1):
        link = follow(previous, line)
        offset += len(line)
        if isinstance(link, str):
            return verdict(Break(number, sequence_of(line), link))
        if copies.get(link.sequence, link.hash) != link.hash:
            why = "replaced: a copy of a signed checkpoint stands for another record of this number"
            return verdict(Break(number, link.sequence, why))
        if agreed == len(attested) or link.sequence < attested[agreed].link.sequence:
            first, last = first or line, line
        elif (attested[agreed].link, attested[agreed].offset) == (link, offset):
            agreed, first = agreed + 1, b""
        else:
            why = "replaced: a signed checkpoint stands for another record of this number"
            return verdict(Break(number, link.sequence, why))
        previous = link
    if agreed < len(attested):
        why = f"cut off: a signed checkpoint stands for record {attested[-1].link.sequence}"
        return verdict(Break(number + 1, previous.sequence + 1, why))
    why_not = bad or _why_unattested(first, last)
    return verdict(Break(number, None, why_not) if why_not is not None else None)


def _why_unattested(first: bytes, last: bytes) -> str | None:
    """Say what is wrong with an end that no checkpoint stands for. A crash leaves some seconds of it; a log that was closed has none."""
    if not first:
        return None
    heads = _HEAD.match(first), _HEAD.match(last)
    try:
        began, ended = (datetime.fromisoformat(head[1].decode()) for head in heads if head is not None)
        seconds = abs((ended - began).total_seconds())
    except (ValueError, TypeError):
        return "the last records, which no signed checkpoint stands for, have no time"
    if heads[1] is not None and heads[1][2] == b"log_closed":
        return "the signed checkpoint of its end is missing: removed, or the proxy was killed before it was written"
    if seconds > UNATTESTED_SECONDS:
        return f"no signed checkpoint stands for its last {seconds:.0f} s: removed, or they could not be written"
    return None
