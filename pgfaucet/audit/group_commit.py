"""Group commit: records that are ready go to disk many at a time, and who waits for one is told.

One thread owns the journal: it writes, signs checkpoints, begins new files, and tries again after errors. Where completions wait for the disk
(`batch`, `strict`) it lends the journal to the event loop, which has groups written by a process of its own (`disk.DiskHelper`) for as long as
nothing else is to be done. When something is (a checkpoint, rotation, an error, the end of that process), the loop gives the journal back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pgfaucet.audit.chain import Link
from pgfaucet.audit.disk import DiskHelper
from pgfaucet.audit.journal import AuditUnusable
from pgfaucet.audit.record import timestamp
from pgfaucet.audit.relay import Relays
from pgfaucet.errors import AuditUnavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from pgfaucet.audit.journal import Journal
    from pgfaucet.config import AuditConfig
    from pgfaucet.errors import FaucetError

    WhenDurable = Callable[[FaucetError | None], None]

logger = logging.getLogger(__name__)

GROUP_RECORDS: Final = 4096
CHECKPOINT_RECORDS: Final = 5000
CHECKPOINT_SECONDS: Final = 10.0
GATHER_SECONDS: Final = 0.001  # the longest that a record waits for others
GROWTH: Final = 1 / 16  # how fast more records are expected again
ASYNC_SECONDS: Final = 0.02  # how long `async` gathers records
RETRY_SECONDS: Final = 0.5
CLOSE_SECONDS: Final = 10.0


class _Lending:
    """What there is to know about lending the journal to the event loop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # around what changes hands
        self.disk: DiskHelper | None = None
        self.file = 0  # which one of the journal's the helper writes
        self.is_lent = False
        self.is_wanted_back = False
        self.group: list[bytes] | None = None  # with the helper
        self.target = 1.0  # how many records make a group that is worth a write
        self.is_gathering = False


class GroupCommit:
    """A journal and what is to be written to it. All public methods but `close` belong to the event loop."""

    def __init__(
        self, journal: Journal, config: AuditConfig, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        """Begin with `start`; `clock` gives Unix seconds."""
        self.durability = config.durability
        self.running = 0  # sessions with a statement under way: their records will come soon
        self._journal = journal
        self._loop = loop
        self._clock = clock
        self._first = self._durable = journal.link.sequence
        self._pending: deque[bytes] = deque()
        self._waiters: deque[tuple[int, WhenDurable]] = deque()
        self._written_bytes = 0
        self._is_writable = self._is_attestable = True
        self._is_writer_asleep = self._is_closing = False
        self._wake = threading.Event()
        self._attested = self._first  # what the last checkpoint stands for, or a record that this process did not write
        self._attested_at = time.monotonic()
        self._began_at = self._attested_at - _age(journal.began, clock())
        self._rotate_bytes = config.rotate_bytes
        self._rotate_seconds = config.rotate_seconds
        self._relays = Relays(config.sinks, config.file.name)
        self._writer_thread = threading.Thread(target=self._run, name="pgfaucet-audit", daemon=True)
        self._lending = _Lending()

    def start(self) -> None:
        """Begin to write. Raises OSError."""
        if self.durability != "async" and self._journal.descriptor is not None:
            self._lending.disk = DiskHelper(self._loop, self._written)
        self._writer_thread.start()

    def _put(self, line: bytes) -> None:
        """Have a line written soon."""
        self._pending.append(line)
        if self._lending.is_lent:
            if self._lending.group is None:
                self._gather()
        elif self._is_writer_asleep:
            self._is_writer_asleep = False
            self._wake.set()

    def _finish(self, last: bytes) -> None:
        """Write what is left, the line `last` and a checkpoint. Blocks; nothing may be put after it."""
        self._pending.append(last)
        lending = self._lending
        with lending.lock:
            self._is_closing = True
        if lending.disk is not None and not lending.disk.close():
            logger.error("%s: the process that writes it hangs", self._journal.path)
            return
        with lending.lock:
            if lending.group is not None:  # written again, in the same place
                self._pending.extendleft(reversed(lending.group))
                lending.group = None
            lending.is_lent = False
        self._wake.set()
        self._writer_thread.join(CLOSE_SECONDS)

    # -- groups that the event loop has written ----------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Have the records written, now or in a moment: one that waits shares the write with those that come meanwhile."""
        count = len(self._pending)
        if count >= int(self._lending.target) or not self.running:
            self._start_group()
        elif not self._lending.is_gathering:
            self._lending.is_gathering = True
            self._loop.call_later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        """Have written what has come; others are not to be expected."""
        self._lending.is_gathering = False
        if self._pending and self._lending.is_lent and self._lending.group is None:
            self._lending.target = float(len(self._pending))
            self._start_group()

    def _start_group(self) -> None:
        with self._lending.lock:
            disk = self._lending.disk
            if disk is None or not self._lending.is_lent or self._is_closing:
                return
            lines = self._take_group()
            data = b"".join(lines)
            if not self._lending.is_wanted_back and not self._must_rotate(len(data)) and self._is_in_place():
                self._lending.group = lines
                disk.write(self._journal.offset, data)
                return
            self._pending.extendleft(reversed(lines))
            self._give_back()

    def _take_group(self) -> list[bytes]:
        count = min(len(self._pending), GROUP_RECORDS)
        self._lending.target = max(self._lending.target + GROWTH, float(count))
        return [self._pending.popleft() for _ in range(count)]

    def _is_in_place(self) -> bool:
        try:
            self._journal.check_place()
        except OSError:  # the thread will meet it too, and report it
            return False
        return True

    def _written(self, problem: OSError | None) -> None:
        """Go on when the helper has done its part."""
        with self._lending.lock:
            lines, self._lending.group = self._lending.group, None
            if lines is None or self._is_closing:  # `close` has taken the group
                self._lending.group = lines
                return
            if problem is None:
                self._count(lines)
                self._relays.records(lines)  # before the thread has others
            else:  # the thread will meet it too, unless it is the helper's own
                self._pending.extendleft(reversed(lines))
                if isinstance(problem, ConnectionError) and self._lending.disk is not None:
                    logger.error("%s: %s; a thread goes on", self._journal.path, problem)
                    self._lending.disk.close()
                    self._lending.disk = None
            if problem is not None or self._lending.is_wanted_back or self._is_checkpoint_due(CHECKPOINT_RECORDS):
                self._give_back()
        if problem is None:
            self._notify()
        if self._pending and self._lending.is_lent and self._lending.group is None:
            self._gather()

    def _give_back(self) -> None:
        self._lending.is_lent = False
        self._is_writer_asleep = False
        self._wake.set()

    def _yield(self) -> None:
        """Give the journal back to the thread, which asks for it, once no group is under way."""
        with self._lending.lock:
            if self._lending.is_lent and self._lending.group is None:
                self._give_back()

    def _resume(self) -> None:
        if self._pending and self._lending.is_lent and self._lending.group is None:
            self._gather()

    # -- what is on disk ---------------------------------------------------------------------------------------------------------

    @property
    def durable_sequence(self) -> int:
        """The last record that is durable."""
        return self._durable

    def is_durable(self, sequence: int) -> bool:
        """Whether a record, and so all before it, is durable."""
        return sequence <= self._durable

    def call_when_durable(self, sequence: int, callback: WhenDurable) -> None:
        """Call back, later and in order, with None once a record is durable, or with AuditUnavailable if it can't be made so."""
        self._waiters.append((sequence, callback))
        # After the append: the writer moves on first, and looks at `_waiters` then.
        if not self._is_writable or self.is_durable(sequence):
            self._loop.call_soon(self._notify)

    def _notify(self) -> None:
        waiters = self._waiters
        error = None if self._is_writable else AuditUnavailable("the audit log cannot be written")
        while waiters and (waiters[0][0] <= self._durable or error is not None):
            sequence, callback = waiters.popleft()
            try:
                callback(None if sequence <= self._durable else error)
            except Exception:  # the others wait too
                logger.exception("a session that waited for its audit record failed")

    # -- the writer's thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closing or self._lending.is_lent or self._pending:
                if self._lending.is_lent:
                    self._wait_for_journal()
                elif not self._pending:
                    self._sleep()
                if self._lending.is_lent:
                    continue
                if (
                    self._pending and not self._write_group()
                ):  # before it is lent again: it may be what the loop can't do
                    return
                self._attest(CHECKPOINT_RECORDS)
                self._lend()
            self._attest(1)
        except Exception:
            logger.exception("no statement runs: the audit log's writer has failed")
            self._is_writable = False
            self._wake_waiters()

    def _lend(self) -> None:
        """Let the event loop have the journal, if all is well."""
        disk = self._lending.disk
        if disk is None or self._is_closing or not self._is_writable or not self._is_attestable:
            return
        descriptor = self._journal.descriptor
        if self._journal.is_between_files or descriptor is None:
            return
        try:
            if self._lending.file != self._journal.opened:
                disk.use(descriptor)
        except OSError:
            return  # it has ended: the next write will tell
        self._lending.file = self._journal.opened
        self._wake.clear()
        with self._lending.lock:
            self._lending.is_wanted_back = False
            self._lending.is_lent = not self._is_closing
        self._call_in_loop(self._resume)

    def _take_from_helper(self) -> None:
        """Have the helper close the file: as long as it is open there, it is locked."""
        if self._lending.disk is not None and self._lending.file:
            self._lending.file = 0
            with suppress(OSError):  # it has ended
                self._lending.disk.use(None)

    def _wait_for_journal(self) -> None:
        """Wait until the event loop gives the journal back, and ask for it when a checkpoint is due."""
        if not self._wake.wait(CHECKPOINT_SECONDS) and self._is_checkpoint_due(1):
            self._lending.is_wanted_back = True
            self._call_in_loop(self._yield)

    def _sleep(self) -> None:
        """Wait for a record, or until a checkpoint is due."""
        self._wake.clear()
        self._is_writer_asleep = True
        if not self._pending and not self._is_closing:  # after the flag: who appends looks at it
            self._wake.wait(CHECKPOINT_SECONDS if self._is_attestable else RETRY_SECONDS)
        self._is_writer_asleep = False
        if self.durability == "async" and not self._is_closing:
            time.sleep(ASYNC_SECONDS)

    def _write_group(self) -> bool:
        """Write the records that are there until they are durable; False if the log is closed before that."""
        lines = self._take_group()
        data = b"".join(lines)
        while not self._try_to_write(data):
            if self._is_closing:
                return False
            time.sleep(RETRY_SECONDS)
        self._count(lines)
        self._is_writable = True
        self._wake_waiters()
        self._relays.records(lines)
        return True

    def _count(self, lines: Sequence[bytes]) -> None:
        """Take lines as durable."""
        size = 0
        for line in lines:
            size += len(line)
        self._journal.advance(Link(self._durable + len(lines), _hash_of(lines[-1])), size)
        self._durable += len(lines)
        self._written_bytes += size

    def _try_to_write(self, data: bytes) -> bool:
        try:
            if not self._is_writable and not self._journal.is_between_files:
                self._take_from_helper()
                self._journal.reopen()
            if self._journal.is_between_files or self._must_rotate(len(data)):
                self._rotate()
            self._journal.write(data)
            if self.durability != "async":
                self._journal.sync()
        except (OSError, AuditUnusable) as problem:
            if self._is_writable:
                logger.error("no statement runs: the audit log cannot be written: %s", problem)  # noqa: TRY400 - expected
            self._is_writable = False
            self._wake_waiters()
            return False
        if not self._is_writable:
            logger.warning("the audit log can be written again")
        return True

    def _must_rotate(self, more: int) -> bool:
        offset = self._journal.offset
        is_full = self._rotate_bytes is not None and offset + more > self._rotate_bytes
        is_old = self._rotate_seconds is not None and time.monotonic() - self._began_at > self._rotate_seconds
        return offset > 0 and (is_full or is_old)

    def _rotate(self) -> None:
        """Begin a new file; the last record of the old one is attested by then."""
        if not self._journal.is_between_files:
            self._attest(1)
        self._take_from_helper()
        self._journal.rotate(timestamp(self._clock()))
        self._attested = self._journal.link.sequence
        self._began_at = self._attested_at = time.monotonic()

    def _wake_waiters(self) -> None:
        if self._waiters:
            self._call_in_loop(self._notify)

    def _call_in_loop(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: nobody waits
            self._waiters.clear()

    def _is_checkpoint_due(self, records: int) -> bool:
        """Whether enough records or time have passed since the last."""
        behind = self._journal.link.sequence - self._attested
        return behind > 0 and (
            behind >= records
            or time.monotonic() - self._attested_at >= CHECKPOINT_SECONDS
            or self._attested == self._first
            or not self._is_attestable
        )

    def _attest(self, records: int) -> None:
        """Sign a checkpoint if one is due."""
        if not self._is_checkpoint_due(records):
            return
        link = self._journal.link
        self._attested_at = time.monotonic()
        try:
            made = self._journal.attest(timestamp(self._clock()))
        except OSError as problem:
            if self._is_attestable:
                logger.error("no statement runs: the audit log's checkpoints cannot be written: %s", problem)  # noqa: TRY400 - expected
            self._is_attestable = False
            return
        if not self._is_attestable:
            logger.warning("the audit log's checkpoints can be written again")
        self._attested = link.sequence
        self._is_attestable = True
        if made:
            self._relays.checkpoint(made)


def _age(began: str, now: float) -> float:
    """Return for how long a file has been written, in seconds."""
    return max(0.0, now - datetime.fromisoformat(began).timestamp()) if began else 0.0


def _hash_of(line: bytes) -> str:
    """Read the hash at the end of a sealed line."""
    return line[-67:-3].decode()
