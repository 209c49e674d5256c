"""Checks audit logs offline: each file's hash chain, and its signed checkpoints. Needs the public key only.

What it finds: a record that was changed, removed, inserted, repeated or moved; a log that was cut off before a record that a checkpoint
stands for; a changed checkpoint; checkpoints that are missing altogether. Records behind the last checkpoint are held by the chain alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgfaucet.audit import checkpoint
from pgfaucet.audit.chain import MAX_LINE_BYTES, START, Break, follow, sequence_of
from pgfaucet.audit.keys import PUBLIC_SUFFIX, KeyUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from pgfaucet.audit.chain import Link
    from pgfaucet.audit.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one log: how many records hold, the last checkpoint they agree with, and what doesn't hold."""

    records: int
    checkpoints: int
    attested: int  # the record that the last checkpoint stands for; 0 if there is none
    broken: Break | None


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


def verify_log(log: Path, key: Ed25519PublicKey) -> Verdict:
    """Check one log with the checkpoints beside it. Raises OSError if the log can't be read."""
    attested, bad = _checkpoints(log, key)
    with log.open("rb") as file:
        return _walk(iter(lambda: file.readline(MAX_LINE_BYTES), b""), attested, bad)


def _checkpoints(log: Path, key: Ed25519PublicKey) -> tuple[list[Checkpoint], str | None]:
    path = log.with_name(log.name + checkpoint.SUFFIX)
    try:
        with path.open("rb") as file:
            found, bad = checkpoint.read(file, key)
    except FileNotFoundError:
        return [], f"{path.name}, the file of its signed checkpoints, is missing"
    return found, f"{path.name}:{bad.line}: {bad.why}" if bad is not None else None


def _walk(lines: Iterator[bytes], attested: list[Checkpoint], bad: str | None) -> Verdict:
    previous, offset, number, agreed = START, 0, 0, 0
    for number, line in enumerate(lines, 1):
        link = follow(previous, line)
        offset += len(line)
        if isinstance(link, str):
            return _verdict(previous, attested, agreed, Break(number, sequence_of(line), link))
        if agreed < len(attested) and attested[agreed].link.sequence == link.sequence:
            if attested[agreed].link != link or attested[agreed].offset != offset:
                why = "replaced: a signed checkpoint stands for another record of this number"
                return _verdict(previous, attested, agreed, Break(number, link.sequence, why))
            agreed += 1
        previous = link
    if agreed < len(attested):
        missing = previous.sequence + 1
        why = f"cut off: a signed checkpoint stands for record {attested[-1].link.sequence}"
        return _verdict(previous, attested, agreed, Break(number + 1, missing, why))
    if bad is not None and number:
        return _verdict(previous, attested, agreed, Break(number, None, bad))
    return _verdict(previous, attested, agreed, None)


def _verdict(last: Link, attested: list[Checkpoint], agreed: int, broken: Break | None) -> Verdict:
    return Verdict(last.sequence, agreed, attested[agreed - 1].link.sequence if agreed else 0, broken)
