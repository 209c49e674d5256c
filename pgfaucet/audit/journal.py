"""The log file and its checkpoint file: opened by one writer, continued after a crash, written so that a failed write can be tried again.

A file that is full is given the number of its first record as a suffix (`audit.jsonl.000000001041`, its checkpoints with it), and a new one
goes on with the chain: its first checkpoint stands for where it begins. A crash in between is mended when the log is opened.

Blocking; used by the writer's thread of `audit.group_commit`, and when it starts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from pgfaucet.audit import checkpoint
from pgfaucet.audit.chain import MAX_LINE_BYTES, START, follow, sequence_of
from pgfaucet.audit.checkpoint import Checkpoint
from pgfaucet.audit.checkpoint_file import CheckpointFile

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from pgfaucet.audit.chain import Link

TORN_SUFFIX: Final = ".torn"
ROTATED: Final = re.compile(r"\d{12,18}", re.ASCII)
"""The suffix of a file that is full: the number of its first record."""
LOCK_SECONDS: Final = 5.0
LOCK_PAUSE_SECONDS: Final = 0.02
_COPY_BYTES: Final = 1 << 20
_HASH_END: Final = 3  # bytes behind the hash at the end of a line: "}\n
_HEAD: Final = re.compile(rb'\{"ts":"([^"]{1,64})"')


class AuditUnusable(Exception):
    """The log cannot be continued. The text says what is wrong; what to do."""


class AuditInUse(AuditUnusable):
    """Another process writes the log."""


class Journal:
    """An open log. `link` and `offset` are those of the last record that is known to be in the file."""

    def __init__(self, path: Path, key: Ed25519PrivateKey, timestamp: str) -> None:
        """Open and lock the log, check what follows its last checkpoint, set a torn end aside.

        `key` signs checkpoints, `timestamp` is the time now as records write it.

        Raises AuditUnusable if another process writes it or the chain is broken, OSError if it can't be opened.
        """
        self.path = path
        self.link = START
        self.offset = 0
        self.torn_bytes = 0  # set aside
        self.began = ""  # the time of the file's first record
        self.is_between_files = False  # a rotation has begun and failed: only `rotate` may be called
        self._file = -1
        self.opened = 0  # how often: each time there is another descriptor
        self._synced = 0  # up to there it is on disk
        self._lost_from: int | None = None  # from there on pages may be lost, though the kernel takes them for written
        self._name = str(path)
        self._identity = (0, 0)  # device and inode of the open file
        self._key = key
        self._checkpoints = CheckpointFile(path.with_name(path.name + checkpoint.SUFFIX), key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._is_regular = not path.exists() or path.is_file()
        if self._is_regular and not path.exists():
            self._continue_rotated(timestamp)
        self._file = self._open(os.O_CREAT)
        if self._is_regular:
            try:
                self._recover()
            except BaseException:
                self.close()
                raise

    def write(self, data: bytes) -> None:
        """Write behind the last record. After an OSError the same call may be made again: it writes to the same place."""
        self.check_place()
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
        if self._file < 0:
            raise OSError(errno.EBADF, "it is not open")
        try:
            if self._lost_from is not None:
                self._write_again(self._lost_from)
            os.fdatasync(self._file)
        except OSError:  # once told, the kernel takes the pages for written
            self._lost_from = self._synced if self._lost_from is None else self._lost_from
            raise
        self._lost_from = None
        self._synced = self.offset

    def _write_again(self, position: int) -> None:
        """Write what is in the file from a position to the last record once more. Raises AuditUnusable if that is not what was written."""
        self._check_same()
        while position < self.offset:
            part = os.pread(self._file, min(_COPY_BYTES, self.offset - position), position)
            position += os.pwrite(self._file, part, position)

    @property
    def attested(self) -> int:
        """The record that the last checkpoint stands for; 0 if there is none."""
        return self._checkpoints.last.link.sequence if self._checkpoints.last is not None else 0

    def attest(self, timestamp: str) -> bytes:
        """Append a signed checkpoint for the last record, once the log itself is on disk; return its line."""
        if not self._is_regular:
            return b""
        self.sync()
        return self._checkpoints.append(self.link, self.offset, timestamp)

    def rotate(self, timestamp: str) -> None:
        """Give the file, which holds records, the name of its own, and begin a new one. After an OSError it may be tried again."""
        if not self.is_between_files:
            self.check_place()
            os.ftruncate(self._file, self.offset)  # what a failed write has left
            os.fsync(self._file)
            if self.attested != self.link.sequence:
                self.attest(timestamp)
            first = self._checkpoints.first
            number = first.link.sequence + 1 if first is not None and first.is_beginning else 1
            rotated = self.path.with_name(f"{self.path.name}.{number:012d}")
            if rotated.exists():
                raise OSError(f"{rotated} exists")
            self.path.rename(rotated)
            self.is_between_files = True
            self.close()
        if not self.path.exists():
            self._continue_rotated(timestamp)
        self._file = self._open(os.O_CREAT)
        self._recover()
        self.is_between_files = False

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
            _lock(descriptor, self.path)
        except BaseException:
            os.close(descriptor)
            raise
        held = os.fstat(descriptor)
        self._identity = (held.st_dev, held.st_ino)
        self.opened += 1
        return descriptor

    @property
    def descriptor(self) -> int | None:
        """The open file; None for what is no file on a disk."""
        return self._file if self._is_regular and self._file >= 0 else None

    def check_place(self) -> None:
        """Raise OSError if the file is no longer where people look for it, or not as long as it was."""
        if not self._is_regular:
            return
        try:
            there = os.stat(self._name)  # noqa: PTH116 - for every group of records: a third of what Path.stat takes
        except FileNotFoundError:
            raise OSError(f"{self.path} was moved or removed") from None
        if (there.st_dev, there.st_ino) != self._identity:
            raise OSError(f"{self.path} was replaced by another file")
        if there.st_size < self.offset:
            raise OSError(f"{self.path} was cut off")

    def _check_same(self) -> None:
        """Refuse a file that was put in the place of this one."""
        if not self._is_regular:
            return
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise OSError(f"{self.path} was replaced by a device")
        if self.offset:
            with open(self._file, "rb", closefd=False) as file:
                self._check_record(file, Checkpoint(self.link, self.offset), "was written")

    # -- continuing --------------------------------------------------------------------------------------------------------------

    def _continue_rotated(self, timestamp: str) -> None:
        """Where files of this log were rotated, begin the checkpoints of the next one with where the last of them ends."""
        rotated = [path for path in self.path.parent.glob(f"{self.path.name}.*") if ROTATED.fullmatch(path.suffix[1:])]
        if not rotated:
            return
        newest = max(rotated)
        with newest.open("rb") as held:  # so that of two processes one does it
            _lock(held.fileno(), self.path)
            self._begin_behind(newest, timestamp)

    def _begin_behind(self, newest: Path, timestamp: str) -> None:
        own = newest.with_name(newest.name + checkpoint.SUFFIX)
        if not own.exists() and self._checkpoints.path.exists():
            self._checkpoints.path.rename(own)
        if self._checkpoints.load() is not None or self._checkpoints.last is not None:
            return  # it was begun, or the log itself is missing: `_recover` sees which
        before = CheckpointFile(own, self._key)
        bad = before.load()
        if bad is not None or before.last is None or before.last.offset != newest.stat().st_size:
            raise self._broken(f"{newest.name}, which it continues, does not end with a signed checkpoint")
        self._checkpoints.append(before.last.link, 0, timestamp)
        _sync_directory(self.path.parent)

    def _recover(self) -> None:
        bad = self._checkpoints.load()
        if bad is not None:
            raise self._broken(f"line {bad.line} of {self._checkpoints.path} was {bad.why}")
        attested = self._checkpoints.last
        self.link, self.offset = START, 0
        with open(self._file, "rb", closefd=False) as file:
            if attested is not None:
                if not attested.is_beginning:
                    self._check_record(file, attested, "a signed checkpoint stands for")
                self.link, self.offset = attested.link, attested.offset
            file.seek(self.offset)
            self._check_rest(file)
            file.seek(0)
            head = _HEAD.match(file.read(80)) if self.offset else None
            self.began = head[1].decode() if head is not None else ""
        if self.torn_bytes:
            os.ftruncate(self._file, self.offset)
        os.fsync(self._file)  # what a crash left in the page cache counts as written
        self._synced, self._lost_from = self.offset, None

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

    def _broken(self, why: str) -> AuditUnusable:
        what_to_do = (
            "see `pgfaucet audit verify`; keep it as evidence: move it and its checkpoints away, and a new chain begins"
        )
        return AuditUnusable(f"{self.path}: {why}; {what_to_do}")


def _lock(descriptor: int, path: Path) -> None:
    """Lock a log. Another command may be writing it for a moment; the helper of a proxy that was killed finishes its write first."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                what = f"{path}: another process writes this log; give each proxy a file of its own"
                raise AuditInUse(what) from None
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return


def _sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
