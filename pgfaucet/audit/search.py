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
            (self.label is None or fnmatch.fnmatchcase(record.get("token_label") or "", self.label))
            and (self.table is None or self._names_table(record.get("tables") or ()))
            and (self.role is None or record.get("role") == self.role)
            and (self.decision is None or record.get("decision") == self.decision)
            and (self.since is None or record["ts"] >= self.since)
            and (self.until is None or record["ts"] < self.until)
        )

    def _names_table(self, tables: Iterable[str]) -> bool:
        return any(table == self.table or table.rpartition(".")[2] == self.table for table in tables)


def search(lines: Iterable[bytes], wanted: Wanted) -> Iterator[Record]:
    """Give the wanted records of lines, in order. A line that is no record is passed over: `audit verify` tells of it."""
    needle = f'"{wanted.role}"'.encode() if wanted.role is not None and wanted.role.isascii() else b""
    for line in lines:
        if needle not in line:
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and "ts" in record and wanted.fits(record):
            yield record
