"""WITH CHECK as expressions: conditions that raise when they are not true, over the values of a new row.

A check stands twice in a statement (RECIPES D4): before the row is made, where its values are known, so that no constraint of the table is
tested with values that the policy forbids; and in RETURNING, over the row that was made, which sees defaults and triggers too.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from pgfaucet.sql import build

if TYPE_CHECKING:
    from pgfaucet.sql.catalog import CatalogSnapshot, Column
    from pgfaucet.sql.world import Node, VisibleRelation

CHECK_NONCE: Final = f"pgf:chk:{secrets.token_hex(16)}"
"""Stands in the server's 22P02 message when a check fails; new in each process, so that no client can say it first."""

BOOL: Final = {"names": [build.string("pg_catalog"), build.string("bool")], "typemod": -1}


def must_hold(condition: Node) -> Node:
    """Write an expression that is TRUE, or raises 22P02 with the nonce in it.

    concat() is only stable, so that the planner does not evaluate the failing branch beforehand.
    """
    failing = build.call("concat", build.text(CHECK_NONCE))
    return build.cast(build.case(build.is_true(condition), build.text("true"), failing), dict(BOOL))


def row_check(relation: VisibleRelation, *, is_read: bool) -> Node | None:
    """Return what a new row must satisfy, as a compiled expression; None when anything will do.

    `is_read`: the statement reads rows of the relation too, so that a new row must be one that it could read (as under row security).
    """
    check = relation.check if relation.check is not None else relation.row_filter
    row_filter = relation.row_filter
    if check is None or row_filter is None or not is_read or check == row_filter:
        return check
    parts = build.conjuncts(check)
    return build.all_of(*parts, *(part for part in build.conjuncts(row_filter) if part not in parts))


def takes_any_row(relation: VisibleRelation) -> bool:
    """Say whether the role may give new rows all columns and any values."""
    columns = relation.columns.values()
    return (
        row_check(relation, is_read=False) is None
        and len(columns) == len(relation.relation.columns)
        and all(column.is_insertable and column.preset is None for column in columns)
    )


def type_of_column(column: Column, catalog: CatalogSnapshot) -> Node:
    """Write the type of a column, without its length: a cast to it changes no value that may be stored there."""
    found = catalog.types[column.type_oid]
    element = catalog.types.get(found.element) if found.element else None
    named = (element or found).name
    made: Node = {"names": build.type_names(named.schema, named.name), "typemod": -1}
    if element is not None:
        made["arrayBounds"] = [{"Integer": {"ival": -1}}]
    return made
