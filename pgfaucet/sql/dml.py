"""Data-modifying statements: INSERT, UPDATE, DELETE and MERGE, alone or as WITH queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.sql.insert import resolve_insert
from pgfaucet.sql.merge import resolve_merge
from pgfaucet.sql.update import resolve_delete, resolve_update

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Statement

STATEMENTS: Final[dict[str, Statement]] = {
    "InsertStmt": resolve_insert,
    "UpdateStmt": resolve_update,
    "DeleteStmt": resolve_delete,
    "MergeStmt": resolve_merge,
}
"""For `Resolver.statements`."""
