"""The log file and its checkpoint file: opened by one writer, continued after a crash, written so that a failed write can be tried again.

Blocking; used by the writer's thread of `audit.sink`, and when it starts.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from pgfaucet.audit import checkpoint
from pgfaucet.audit.chain import MAX_LINE_BYTES, START, follow, sequence_of
from pgfaucet.audit.checkpoint import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from pgfaucet.audit.chain import Link

TORN_SUFFIX: Final = ".torn"
_COPY_BYTES: Final = 1 << 20
_HASH_END: Final = 3  # bytes behind the hash at the end of a line: "}\n


class AuditUnusable(Exception):
    """The log cannot be continued. The text says what is wrong; what to do."""


class Journal:
    """An open log. `link` and `offset` are those of the last record that is known to be in the file."""

    def __init__(self, path: Path, public_key: Ed25519PublicKey) -> None:
        """Open and lock the log, check what follows its last checkpoint, set a torn end aside.

        Raises AuditUnusable if another process writes it or the chain is broken, OSError if it can't be opened.
        """
        self.path = path
        self.link = START
        self.offset = 0
        self.torn_bytes = 0  # set aside
        self._public_key = public_key
        self._checkpoints = path.with_name(path.name + checkpoint.SUFFIX)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = self._open(os.O_CREAT)
        self._is_regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        if self._is_regular:
            try:
                self._recover()
            except BaseException:
                os.close(self._file)
                raise

    def write(self, data: bytes) -> None:
        """Write behind the last record. After an OSError the same call may be made again: it writes to the same place."""
        if self._is_regular:
            self._stay_in_place()
        view = memoryview(data)
        position = self.offset
        while view:
            written = os.pwrite(self._file, view, position)
            view = view[written:]
            position += written

    def advance(self, link: Link, size: int) -> None:
        """Take what was written as part of the log: `size` bytes that end with the record of `link`."""
        self.link = link
        self.offset += size

    def sync(self) -> None:
        """Wait until what was written is on disk. After an OSError everything since the last `advance` must be written again."""
        os.fdatasync(self._file)

    def write_checkpoint(self, line: bytes) -> None:
        """Append a signed checkpoint, once the log itself is on disk."""
        if not self._is_regular:
            return
        self.sync()
        descriptor = os.open(self._checkpoints, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError("no room for a checkpoint")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def reopen(self) -> None:
        """Open the same file again, after an error that the old descriptor may not recover from.

        Raises AuditUnusable if it does not end with the last record that was written, OSError if it can't be opened.
        """
        with suppress(OSError):
            os.close(self._file)
        self._file = -1
        self._file = self._open()
        try:
            self._check_same()
        except BaseException:
            self.close()  # and let go of its lock
            raise

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # -- opening -----------------------------------------------------------------------------------------------------------------

    def _open(self, create: int = 0) -> int:
        is_device = self.path.is_char_device()
        if self.path.exists() and not is_device and not self.path.is_file():
            raise AuditUnusable(f"{self.path}: this is no file; name one")
        descriptor = os.open(self.path, (os.O_WRONLY if is_device else os.O_RDWR) | create | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AuditUnusable(
                f"{self.path}: another process writes this log; give each proxy a file of its own"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _stay_in_place(self) -> None:
        """Refuse to write a file that is no longer where people look for it."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            raise OSError(f"{self.path} was moved or removed") from None
        held = os.fstat(self._file)
        if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            raise OSError(f"{self.path} was replaced by another file")
        if held.st_size < self.offset:
            raise OSError(f"{self.path} was cut off")

    def _check_same(self) -> None:
        """Refuse a file that was put in the place of this one."""
        if not self._is_regular:
            return
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise OSError(f"{self.path} was replaced by a device")
        if self.link != START:
            with open(self._file, "rb", closefd=False) as file:
                self._check_record(file, Checkpoint(self.link, self.offset), "was written")

    # -- continuing --------------------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        attested = self._last_checkpoint()
        with open(self._file, "rb", closefd=False) as file:
            if attested is not None:
                self._check_record(file, attested, "a signed checkpoint stands for")
                self.link, self.offset = attested.link, attested.offset
            file.seek(self.offset)
            self._check_rest(file)
        if self.torn_bytes:
            os.ftruncate(self._file, self.offset)
        os.fsync(self._file)  # what a crash left in the page cache counts as written

    def _check_record(self, file: BinaryIO, known: Checkpoint, what: str) -> None:
        """Compare the record at a known place with what is known of it; `what` says why it is known."""
        size = os.fstat(self._file).st_size
        sequence, digest = known.link.sequence, known.link.hash.encode()
        if size < known.offset:
            raise self._broken(f"cut off: record {sequence}, that {what}, is not there")
        file.seek(known.offset - len(digest) - _HASH_END)
        if file.read(len(digest) + _HASH_END) != digest + b'"}\n':
            raise self._broken(f"record {sequence} is not the one that {what}")

    def _check_rest(self, file: BinaryIO) -> None:
        while line := file.readline(MAX_LINE_BYTES):
            link = follow(self.link, line)
            if isinstance(link, str):
                self._set_aside(file, line, link)
                return
            self.advance(link, len(line))

    def _set_aside(self, file: BinaryIO, line: bytes, why: str) -> None:
        """Copy a torn end to a file beside the log. An end is torn if its line is not whole, or has holes that a power cut left."""
        if line.endswith(b"\n") and b"\0" not in line:
            raise self._broken(f"record {sequence_of(line) or self.link.sequence + 1}: {why}")
        file.seek(self.offset)
        with open(f"{self.path}{TORN_SUFFIX}", "ab") as aside:  # noqa: PTH123 - a name made of a name
            while part := file.read(_COPY_BYTES):
                aside.write(part)
                self.torn_bytes += len(part)
            aside.flush()
            os.fsync(aside.fileno())

    def _last_checkpoint(self) -> Checkpoint | None:
        try:
            with self._checkpoints.open("r+b") as file:
                whole = _heal(file)
                found, bad = checkpoint.read(whole[-1:], self._public_key)
        except FileNotFoundError:
            return None
        if bad is not None:
            raise self._broken(f"the last line of {self._checkpoints} was {bad.why}")
        return found[0] if found else None

    def _broken(self, why: str) -> AuditUnusable:
        what_to_do = (
            "see `pgfaucet audit verify`; keep it as evidence: move it and its checkpoints away, and a new chain begins"
        )
        return AuditUnusable(f"{self.path}: {why}; {what_to_do}")


def _heal(file: BinaryIO) -> list[bytes]:
    """Return whole lines; cut a torn last one off."""
    lines = file.readlines()
    if lines and not lines[-1].endswith(b"\n"):
        file.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    return lines
