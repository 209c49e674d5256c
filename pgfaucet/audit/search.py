"""Finds records in audit logs: by label, table, role, decision and time. Reads line by line, in constant memory."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records: those that fit every part that is given. `since` and `until` are in the records' own notation."""

    label: str | None = None  # glob
    table: str | None = None  # as recorded, or without its schema
    role: str | None = None
    decision: str | None = None
    since: str | None = None
    until: str | None = None

    def fits(self, record: Record) -> bool:
        """Whether a record is wanted."""
        return (
            (self.label is None or self._fits_label(record.get("token_label")))
            and (self.table is None or self._names_table(record.get("tables") or ()))
            and (self.role is None or record.get("role") == self.role)
            and (self.decision is None or record.get("decision") == self.decision)
            and (self.since is None or record["ts"] >= self.since)
            and (self.until is None or record["ts"] < self.until)
        )

    def _fits_label(self, label: object) -> bool:
        return isinstance(label, str) and fnmatch.fnmatchcase(label, self.label or "")

    def _names_table(self, tables: Iterable[object]) -> bool:
        return any(str(table) == self.table or str(table).rpartition(".")[2] == self.table for table in tables)


def search(lines: Iterable[bytes], wanted: Wanted) -> Iterator[Record]:
    """Give the wanted records of lines, in order. A line that is no record is passed over: `audit verify` tells of it."""
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("ts"), str) and wanted.fits(record):
            yield record
