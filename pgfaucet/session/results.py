"""Whether a prepared statement still gives what its client was told that it gives."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql.catalog import QualifiedName

if TYPE_CHECKING:
    from pgfaucet.plan import QueryPlan
    from pgfaucet.sql.catalog import CatalogSnapshot


class Change(Enum):
    """What happened to the columns of the tables that a statement names."""

    NONE = "none"
    MORE = "more"  # columns were added
    OTHER = "other"  # columns went away or are of another type


def changes_of(before: CatalogSnapshot, after: CatalogSnapshot, plan: QueryPlan) -> Change:
    """Compare the tables of a plan in two snapshots."""
    found = Change.NONE
    for table in {name for statement in plan.statements for name in statement.tables}:
        schema, _, name = table.partition(".")
        old = before.relations.get(QualifiedName(schema, name))
        new = after.relations.get(QualifiedName(schema, name))
        if old is new:
            continue
        if old is None or new is None:
            return Change.OTHER
        columns = {column.name: (column.type_oid, column.typmod) for column in new.columns}
        if any(columns.get(column.name) != (column.type_oid, column.typmod) for column in old.columns):
            return Change.OTHER
        if len(columns) > len(old.columns):
            found = Change.MORE
    return found


def result_changed() -> FaucetError:
    """Word what the server says when it plans a statement anew; drivers know it by the routine, and prepare again."""
    return FaucetError(
        Sqlstate.FEATURE_NOT_SUPPORTED,
        "cached plan must not change result type",
        routine="RevalidateCachedQuery",
        reason="a table of the prepared statement was changed after it was prepared",
    )


def check_parameters(before: CatalogSnapshot, after: CatalogSnapshot, types: tuple[int, ...]) -> None:
    """Raise FaucetError XX000 where a type is gone that the client sends values of: what drivers know from the server."""
    for oid in types:
        if oid in before.types and oid not in after.types:
            raise FaucetError(
                Sqlstate.INTERNAL_ERROR,
                f"cache lookup failed for type {oid}",
                reason="the type of a parameter was dropped after the statement was prepared",
            )
