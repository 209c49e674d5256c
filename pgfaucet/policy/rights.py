"""What has_table_privilege and its kin tell: the grants of a role's policy, by oid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgfaucet.sql.world import VisibleColumn, VisibleRelation

COLUMN_PRIVILEGES: Final = {"select": "is_readable", "insert": "is_insertable", "update": "is_updatable"}


@dataclass(frozen=True, slots=True)
class Rights:
    """Oids of relations by privilege. A table whose columns in sight may all be used is granted whole: there are no others."""

    relations: dict[str, frozenset[int]]  # select insert update delete truncate; select_some ...: some column of it
    columns: dict[str, frozenset[int]]  # as oid << 16 | attnum, of relations where not every column may be used


def rights_of(visible: Sequence[VisibleRelation]) -> Rights:
    """Gather the grants of a role."""
    relations = {
        "delete": frozenset(each.relation.oid for each in visible if each.can_delete),
        "truncate": frozenset(each.relation.oid for each in visible if each.can_truncate),
    }
    columns = {}
    for name, attribute in COLUMN_PRIVILEGES.items():
        usable = {each.relation.oid: _usable(each, attribute) for each in visible if getattr(each, f"can_{name}")}
        whole = {each.relation.oid for each in visible if len(usable.get(each.relation.oid, ())) == len(each.columns)}
        relations[name] = frozenset(oid for oid in whole if oid in usable)
        relations[f"{name}_some"] = frozenset(usable)
        columns[name] = frozenset(
            oid << 16 | each.column.number for oid, found in usable.items() if oid not in whole for each in found
        )
    return Rights(relations, columns)


def _usable(visible: VisibleRelation, attribute: str) -> list[VisibleColumn]:
    return [column for column in visible.columns.values() if getattr(column, attribute)]
