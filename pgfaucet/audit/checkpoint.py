"""Signed checkpoints: which hash the chain had at which record. Pure; the files are `audit.journal`'s and `audit.verify`'s.

A checkpoint is one JSON object a line in a file beside the log. Whoever edits the log can compute new hashes, but no new signatures. Each names
the record of the checkpoint before it, so that none can be taken out. A log file that continues another one has a checkpoint for its very
beginning: offset 0.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature

from pgfaucet.audit.chain import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SUFFIX: Final = ".checkpoints"
_DOMAIN: Final = b"pgfaucet audit checkpoint 1\n"  # so that no other text signed with the key is a checkpoint
_LINE: Final = re.compile(
    rb'(\{"ts":"[0-9TZ:.-]{1,64}","seq":([1-9][0-9]{0,17}),"offset":([0-9]{1,18}),"after":([0-9]{1,18}),"hash":"sha256:([0-9a-f]{64})"),"signature":"ed25519:([A-Za-z0-9+/=]{88})"\}\n'
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was signed: the link, the size of the log file behind that record, and the record of the checkpoint before it (0: none)."""

    link: Link
    offset: int
    after: int = 0

    @property
    def is_beginning(self) -> bool:
        """Whether it stands for the beginning of a file, and so for the end of the file before."""
        return self.offset == 0


@dataclass(frozen=True, slots=True)
class BadCheckpoint:
    """A line of a checkpoint file that does not hold; `line` counts from 1."""

    line: int
    why: str


def sign(checkpoint: Checkpoint, timestamp: str, key: Ed25519PrivateKey) -> bytes:
    """Write a checkpoint as a line."""
    link = checkpoint.link
    body = (
        f'{{"ts":"{timestamp}","seq":{link.sequence},"offset":{checkpoint.offset},"after":{checkpoint.after},'
        f'"hash":"sha256:{link.hash}"'
    ).encode()
    signature = base64.b64encode(key.sign(_DOMAIN + body))
    return b'%b,"signature":"ed25519:%b"}\n' % (body, signature)


def read(lines: Iterable[bytes], key: Ed25519PublicKey) -> tuple[list[Checkpoint], BadCheckpoint | None]:
    """Check all lines of a file, each with its newline; return those before the first that does not hold, and that one."""
    found: list[Checkpoint] = []
    for number, line in enumerate(lines, 1):
        checkpoint = check(line, key)
        why = checkpoint if isinstance(checkpoint, str) else _why_not_next(found, checkpoint)
        if isinstance(checkpoint, str) or why is not None:
            return found, BadCheckpoint(number, str(why))
        found.append(checkpoint)
    return found, None


def _why_not_next(before: Sequence[Checkpoint], checkpoint: Checkpoint) -> str | None:
    if before and (checkpoint.link.sequence <= before[-1].link.sequence or checkpoint.offset <= before[-1].offset):
        return "out of place: it is not later than the one before it"
    after = before[-1].link.sequence if before else checkpoint.link.sequence if checkpoint.is_beginning else 0
    if checkpoint.after != after:
        return f"out of place: the one before it, for record {checkpoint.after}, is missing"
    return None


def is_one(line: bytes) -> bool:
    """Whether a line is written as a checkpoint is, whoever signed it."""
    return _LINE.fullmatch(line) is not None


def check(line: bytes, key: Ed25519PublicKey) -> Checkpoint | str:
    """Check one line by itself; return the checkpoint, or why it does not hold."""
    parts = _LINE.fullmatch(line)
    if parts is None:
        return "changed: it is not a checkpoint" if line.endswith(b"\n") else "torn: the line is not whole"
    body, sequence, offset, after, digest, signature = parts.groups()
    try:
        key.verify(base64.b64decode(signature, validate=True), _DOMAIN + body)
    except (InvalidSignature, binascii.Error):
        return "changed, or signed with another key: its signature does not hold"
    if base64.b64encode(base64.b64decode(signature)) != signature:
        return "changed: its signature is not written as it was"
    return Checkpoint(Link(int(sequence), digest.decode()), int(offset), int(after))
