"""The file of signed checkpoints beside a log: read and healed when the log is opened, appended to while it is written. Blocking."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from pgfaucet.audit import checkpoint
from pgfaucet.audit.checkpoint import BadCheckpoint, Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from pgfaucet.audit.chain import Link


class CheckpointFile:
    """The checkpoints of one log file. `first` and `last` are None while there are none."""

    def __init__(self, path: Path, key: Ed25519PrivateKey) -> None:
        """Use `load` before anything else."""
        self.path = path
        self.first: Checkpoint | None = None
        self.last: Checkpoint | None = None
        self._key = key
        self._size = 0
        self._tried = b""  # a line that may be there, in part

    def load(self) -> BadCheckpoint | None:
        """Read the file, cut a torn last line off; return what is wrong with the first or the last line, if anything is."""
        self.first = self.last = None
        self._size = 0
        try:
            with self.path.open("r+b") as file:
                lines = _heal(file)
        except FileNotFoundError:
            return None
        self._size = sum(map(len, lines))
        if lines:
            held = [checkpoint.check(lines[place], self._key.public_key()) for place in (0, -1)]
            for place, each in zip((1, len(lines)), held, strict=True):
                if isinstance(each, str):
                    return BadCheckpoint(place, each)
            self.first, self.last = (each for each in held if isinstance(each, Checkpoint))
        return None

    def append(self, link: Link, offset: int, timestamp: str) -> bytes:
        """Sign a checkpoint and wait until it is on disk; return its line. After an OSError it may be tried again."""
        after = self.last.link.sequence if self.last is not None else 0 if offset else link.sequence
        made = Checkpoint(link, offset, after)
        line = checkpoint.sign(made, timestamp, self._key)
        self._take_back()
        self._tried = line
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            is_whole = os.write(descriptor, line) == len(line)
            if is_whole:
                os.fdatasync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        finally:
            os.close(descriptor)
        if not is_whole:
            self._take_back()
            raise OSError("no room for a checkpoint")
        self._tried = b""
        self._size += len(line)
        self.first = self.first or made
        self.last = made
        return line

    def _take_back(self) -> None:
        """Cut off what a failed attempt has left. Raises OSError when the file is not as this process left it."""
        try:
            held = self.path.stat().st_size
        except FileNotFoundError:
            held = 0
        if held == self._size:
            return
        with self.path.open("r+b") as file:
            file.seek(self._size)
            if held < self._size or not self._tried.startswith(file.read()):
                raise OSError(f"{self.path} was changed by somebody else")
            file.truncate(self._size)


def _heal(file: BinaryIO) -> list[bytes]:
    """Return whole lines; cut a torn last one off: one that does not end, or has holes that a power cut left."""
    lines = file.readlines()
    if lines and (not lines[-1].endswith(b"\n") or b"\0" in lines[-1]):
        file.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    return lines
