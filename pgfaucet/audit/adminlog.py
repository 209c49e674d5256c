"""The audit log of administrators' commands: a chain of its own beside the proxy's, which several commands write one after the other. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgfaucet.audit.chain import Link, seal
from pgfaucet.audit.journal import Journal
from pgfaucet.audit.keys import load_keys
from pgfaucet.audit.record import RecordWriter, SessionFields, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pgfaucet.config import AuditConfig


Action = tuple[str, SessionFields, str]
"""The event, who did it and to which token, and what it was in words."""


def admin_file(log: Path) -> Path:
    """Return the administrators' log beside a proxy's: audit.jsonl, audit.admin.jsonl."""
    return log.with_name(f"{log.stem}.admin{log.suffix}")


def record(config: AuditConfig, actions: Sequence[Action], clock: Callable[[], float]) -> None:
    """Write what was done, and wait until it is on disk, signed; `clock` gives Unix seconds. Raises AuditUnusable, KeyUnusable, OSError."""
    keys = load_keys(config.key)
    journal = Journal(admin_file(config.file), keys.signing, timestamp(clock()))
    try:
        writer = RecordWriter(config.params, keys.params)
        for event, fields, reason in actions:
            members = writer.event(event, fields, "allow", reason, None)
            line, digest = seal(journal.link.hash, timestamp(clock()), journal.link.sequence + 1, members)
            journal.write(line)
            journal.advance(Link(journal.link.sequence + 1, digest), len(line))
        journal.attest(timestamp(clock()))
    finally:
        journal.close()
