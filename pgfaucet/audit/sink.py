"""The audit log of a running proxy: records are sealed in the event loop and written by one thread, many at a time (group commit).

`append_*` never waits. A record is durable once it is on disk (`async`: handed to the operating system); who must wait for that uses
`call_when_durable`. When the file can't be written, everybody who waits is told, `is_healthy` turns False so that no statement starts,
and the same bytes are tried again until they are written: the chain has no gap. It turns False too while no checkpoint can be written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Final

import orjson

from pgfaucet.audit.chain import MAX_LINE_BYTES, Link, seal
from pgfaucet.audit.journal import TORN_SUFFIX, AuditUnusable, Journal
from pgfaucet.audit.keys import AuditKeys, load_keys
from pgfaucet.audit.record import RecordWriter, timestamp, to_json
from pgfaucet.audit.relay import Relays
from pgfaucet.errors import AuditUnavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from pgfaucet.audit.record import SessionFields
    from pgfaucet.audit.relay import Relay
    from pgfaucet.config import AuditConfig
    from pgfaucet.errors import FaucetError
    from pgfaucet.plan import GivenText, StatementPlan

    WhenDurable = Callable[[FaucetError | None], None]

logger = logging.getLogger(__name__)

CONGESTED_BYTES: Final = 8 << 20
FULL_BYTES: Final = 64 << 20
GROUP_RECORDS: Final = 4096
CHECKPOINT_RECORDS: Final = 1000
CHECKPOINT_SECONDS: Final = 10.0
ASYNC_SECONDS: Final = 0.02  # how long `async` gathers records
RETRY_SECONDS: Final = 0.5
CLOSE_SECONDS: Final = 10.0
CUT_TEXT: Final = 4096  # characters kept of each text of a record that is longer than a line may be


class AuditLog:
    """One log file and its writer. All methods but `close` belong to the event loop."""

    def __init__(
        self,
        journal: Journal,
        config: AuditConfig,
        keys: AuditKeys,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        """Use `open`."""
        self.durability = config.durability
        self._journal = journal
        self._keys = keys
        self._loop = loop
        self._clock = clock
        self._writer = RecordWriter(config.params, keys.params)
        self._timestamp = self._writer.timestamp
        self._first = self._sequence = self._durable = journal.link.sequence
        self._hash = journal.link.hash
        self._pending: deque[bytes] = deque()
        self._appended_bytes = 0
        self._written_bytes = 0
        self._is_writable = True
        self._is_attestable = True
        self._is_writer_asleep = False
        self._is_closing = False
        self._wake = threading.Event()
        self._waiters: deque[tuple[int, WhenDurable]] = deque()
        self._attested = (
            journal.link.sequence
        )  # what the last checkpoint stands for, or a record that this process did not write
        self._attested_at = time.monotonic()
        self._began_at = self._attested_at - _age(journal.began, clock())
        self._rotate_bytes = config.rotate_bytes
        self._rotate_seconds = config.rotate_seconds
        self._relays = Relays(config.sinks, config.file.name)
        self._thread = threading.Thread(target=self._run, name="pgfaucet-audit", daemon=True)

    @classmethod
    def open(
        cls, config: AuditConfig, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] = time.time
    ) -> AuditLog:
        """Open the log and go on with its chain; `clock` gives Unix seconds.

        Raises AuditUnusable, KeyUnusable, OSError. A torn last line is set aside; a broken chain is refused.
        """
        keys = load_keys(config.key)
        journal = Journal(config.file, keys.signing, timestamp(clock()))
        log = cls(journal, config, keys, loop, clock)
        last = journal.link.sequence
        note = f"continues record {last}" if last else "a new chain"
        if journal.torn_bytes:
            note += f"; a torn end of {journal.torn_bytes} bytes was moved to {journal.path.name}{TORN_SUFFIX}"
            logger.warning("%s: the last line was torn; its %d bytes were set aside", journal.path, journal.torn_bytes)
        log.append_event(None, "log_opened", None, note, None)
        log._thread.start()
        return log

    # -- appending ---------------------------------------------------------------------------------------------------------------

    def append_statement(  # noqa: PLR0913, PLR0917 - see RecordWriter.statement
        self,
        fields: SessionFields,
        plan: StatementPlan,
        bound: bytes,
        rows: int | None,
        sent: int,
        seconds: float,
        sqlstate: str | None,
        reason: str | None,
        context: Sequence[tuple[str, str]],
        decision: str | None = None,
        *,
        given: GivenText | None = None,
    ) -> int:
        """Record a statement that has ended; return the record's number. It was refused if there is a `reason`, unless `decision` is given."""
        if decision is None:
            decision = "allow" if reason is None else "deny"
        return self._append(
            self._writer.statement(
                "statement", fields, plan, bound, rows, sent, seconds, sqlstate, decision, reason, context, given=given
            )
        )

    def append_intent(
        self,
        fields: SessionFields,
        plan: StatementPlan,
        bound: bytes,
        context: Sequence[tuple[str, str]],
        *,
        given: GivenText | None = None,
    ) -> int:
        """Record that a statement will be forwarded (`durability: strict`); return the record's number."""
        return self._append(
            self._writer.statement(
                "intent", fields, plan, bound, None, 0, 0.0, None, "allow", None, context, given=given
            )
        )

    def append_event(
        self, fields: SessionFields | None, name: str, decision: str | None, reason: str | None, sqlstate: str | None
    ) -> int:
        """Record something that is no statement; return the record's number."""
        return self._append(self._writer.event(name, fields, decision, reason, sqlstate))

    def _append(self, members: str) -> int:
        sequence = self._sequence + 1
        now = self._timestamp(self._clock())
        line, digest = seal(self._hash, now, sequence, members)
        if len(line) > MAX_LINE_BYTES:  # nobody would read it as one record
            line, digest = seal(self._hash, now, sequence, _cut(members))
        self._hash = digest
        self._sequence = sequence
        self._appended_bytes += len(line)
        self._pending.append(line)
        if self._is_writer_asleep:
            self._is_writer_asleep = False
            self._wake.set()
        return sequence

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

    # -- health ------------------------------------------------------------------------------------------------------------------

    @property
    def is_healthy(self) -> bool:
        """Whether a statement may start: log and checkpoints could be written the last time, and there is room for its record."""
        return self._is_writable and self._is_attestable and self._appended_bytes - self._written_bytes < FULL_BYTES

    @property
    def is_congested(self) -> bool:
        """Whether records are made faster than they can be written: better read less from clients."""
        return self._appended_bytes - self._written_bytes > CONGESTED_BYTES

    @property
    def appended(self) -> int:
        """How many records were made since the log was opened."""
        return self._sequence - self._first

    @property
    def lag(self) -> int:
        """How many records are not durable yet."""
        return self._sequence - self._durable

    @property
    def relays(self) -> Sequence[Relay]:
        """The other places that records go to."""
        return self._relays.relays

    def close(self) -> None:
        """Write what is left and a checkpoint. Blocks; after the last `append_*`."""
        self.append_event(None, "log_closed", None, None, None)
        self._is_closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        if self.lag:
            logger.error("%s: %d audit records could not be written", self._journal.path, self.lag)
        if not self._thread.is_alive():  # one that hangs in a system call still uses the file
            self._journal.close()
        self._relays.close()

    # -- the writer's thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closing or self._pending:
                if not self._pending:
                    self._sleep()
                elif not self._write_group():
                    return
                self._attest(CHECKPOINT_RECORDS)
            self._attest(1)
        except Exception:
            logger.exception("no statement runs: the audit log's writer has failed")
            self._is_writable = False
            self._wake_waiters()

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
        count = min(len(self._pending), GROUP_RECORDS)
        lines = [self._pending.popleft() for _ in range(count)]
        data = b"".join(lines)
        while not self._try_to_write(data):
            if self._is_closing:
                return False
            time.sleep(RETRY_SECONDS)
        sequence = self._durable + count
        self._journal.advance(Link(sequence, _hash_of(lines[-1])), len(data))
        self._durable = sequence
        self._written_bytes += len(data)
        self._is_writable = True
        self._wake_waiters()
        self._relays.records(lines)
        return True

    def _try_to_write(self, data: bytes) -> bool:
        try:
            if self._journal.is_between_files or self._must_rotate(len(data)):
                self._rotate()
            elif not self._is_writable:
                self._journal.reopen()
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
        self._journal.rotate(timestamp(self._clock()))
        self._attested = self._journal.link.sequence
        self._began_at = self._attested_at = time.monotonic()

    def _wake_waiters(self) -> None:
        if self._waiters:
            try:
                self._loop.call_soon_threadsafe(self._notify)
            except RuntimeError:  # the loop is closed: nobody waits
                self._waiters.clear()

    def _attest(self, records: int) -> None:
        """Sign a checkpoint if enough records or time have passed since the last."""
        link = self._journal.link
        behind = link.sequence - self._attested
        now = time.monotonic()
        is_due = (
            behind >= records
            or now - self._attested_at >= CHECKPOINT_SECONDS
            or self._attested == self._first
            or not self._is_attestable
        )
        if not behind or not is_due:
            return
        self._attested_at = now
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


def _cut(members: str) -> str:
    """Shorten a record that is too long. What `params_hash` stands for stays known by it."""
    record = orjson.loads(f"{{{members}}}")
    record.pop("params", None)
    record["tables"] = record["tables"][:CUT_TEXT]
    kept = {name: value[:CUT_TEXT] if isinstance(value, str) else value for name, value in record.items()}
    return to_json({**kept, "is_cut": True})[1:-1]


def _hash_of(line: bytes) -> str:
    """Read the hash at the end of a sealed line."""
    return line[-67:-3].decode()
