"""The audit log of a running proxy: records are sealed in the event loop and written many at a time (group commit).

`append_*` never waits. A record is durable once it is on disk (`async`: handed to the operating system); who must wait for that uses
`call_when_durable`. When the file can't be written, everybody who waits is told, `is_healthy` turns False so that no statement starts,
and the same bytes are tried again until they are written: the chain has no gap. It turns False too while no checkpoint can be written.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import orjson

from pgfaucet.audit.chain import MAX_LINE_BYTES, seal
from pgfaucet.audit.group_commit import GroupCommit
from pgfaucet.audit.journal import TORN_SUFFIX, Journal
from pgfaucet.audit.keys import AuditKeys, load_keys
from pgfaucet.audit.record import RecordWriter, timestamp, to_json

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from pgfaucet.audit.record import SessionFields
    from pgfaucet.audit.relay import Relay
    from pgfaucet.config import AuditConfig
    from pgfaucet.plan import GivenText, StatementPlan

logger = logging.getLogger(__name__)

CONGESTED_BYTES: Final = 8 << 20
FULL_BYTES: Final = 64 << 20
CUT_TEXT: Final = 4096  # characters kept of each text of a record that is longer than a line may be


class AuditLog(GroupCommit):
    """One log file. All methods but `close` belong to the event loop."""

    def __init__(
        self,
        journal: Journal,
        config: AuditConfig,
        keys: AuditKeys,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        """Use `open`."""
        super().__init__(journal, config, loop, clock)
        self._writer = RecordWriter(config.params, keys.params)
        self._timestamp = self._writer.timestamp
        self._sequence = journal.link.sequence
        self._hash = journal.link.hash
        self._appended_bytes = 0

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
        log.start()
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
        self._put(self._sealed(members))
        return self._sequence

    def _sealed(self, members: str) -> bytes:
        """Make the next line of the chain."""
        sequence = self._sequence + 1
        now = self._timestamp(self._clock())
        line, digest = seal(self._hash, now, sequence, members)
        if len(line) > MAX_LINE_BYTES:  # nobody would read it as one record
            line, digest = seal(self._hash, now, sequence, _cut(members))
        self._hash = digest
        self._sequence = sequence
        self._appended_bytes += len(line)
        return line

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
        self._finish(self._sealed(self._writer.event("log_closed", None, None, None, None)))
        if self.lag:
            logger.error("%s: %d audit records could not be written", self._journal.path, self.lag)
        if not self._writer_thread.is_alive():  # one that hangs in a system call still uses the file
            self._journal.close()
        self._relays.close()


def _cut(members: str) -> str:
    """Shorten a record that is too long. What `params_hash` stands for stays known by it."""
    record = orjson.loads(f"{{{members}}}")
    record.pop("params", None)
    record["tables"] = record["tables"][:CUT_TEXT]
    kept = {name: value[:CUT_TEXT] if isinstance(value, str) else value for name, value in record.items()}
    return to_json({**kept, "is_cut": True})[1:-1]
