"""The relation that a statement writes to: found, allowed column by column, and never wrapped (RECIPES D1, D3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import relations
from pgfaucet.sql.scope import RelationItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgfaucet.sql.facts import Facts
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import VisibleColumn, VisibleRelation

WRONG_OBJECT_TYPE: Final = "42809"

_MAY: Final[dict[str, Callable[[VisibleRelation], bool]]] = {
    "insert": lambda relation: relation.can_insert,
    "update": lambda relation: relation.can_update,
    "delete": lambda relation: relation.can_delete,
}
_MAY_COLUMN: Final[dict[str, Callable[[VisibleColumn], bool]]] = {
    "insert": lambda column: column.is_insertable,
    "update": lambda column: column.is_updatable,
}
_NEVER_WRITTEN: Final = {"m": "materialized view", "S": "sequence"}


class TargetItem(RelationItem):
    """A row of the table itself: the one to be changed, `excluded`, `old` or `new`.

    A masked column would stand here with its raw value, so that it can't be read (RECIPES C5).
    """

    __slots__ = ()

    @override
    def find(self, name: str) -> Facts | None:
        """Return the readable column of that name. Raises FaucetError (42501) when it is masked."""
        column = self.relation.columns.get(name)
        if column is not None and column.is_readable and column.mask is not None:
            raise denied(
                self.relation,
                f'Column "{name}" is masked: it can be selected, but not used while the table is changed.',
            )
        return super().find(name)


def open_target(resolver: Resolver, body: dict[str, Any], scope: Scope, actions: Iterable[str]) -> TargetItem:
    """Resolve the RangeVar that a statement writes to, in place, and give it an explicit alias. It is not put in sight.

    Raises FaucetError: 42P01 when it does not exist for the role, 42501 when an action is not granted, 42809.
    """
    relation = relations.find_relation(resolver, body)
    for action in actions:
        check_action(relation, action, resolver.position(body.get("location")))
    alias, _ = relations.alias_of(resolver, body)
    item = TargetItem(alias or body["relname"], scope, relation, {"RangeVar": body}, is_raw=True)
    if alias is None:
        item.schema = relation.relation.name.schema
    body["schemaname"], body["relname"] = relation.relation.name
    body.pop("catalogname", None)
    body["alias"] = {"aliasname": item.name}
    resolver.relations.append(item)
    return item


def check_action(relation: VisibleRelation, action: str, position: int | None = None) -> None:
    """Refuse an action that is not granted on a relation.

    Raises FaucetError: 42501, 42809.
    """
    kind = _NEVER_WRITTEN.get(relation.relation.kind)
    if kind is not None:
        raise FaucetError(WRONG_OBJECT_TYPE, f'cannot change {kind} "{relation.relation.name.name}"', position=position)
    if relation.is_catalog or not _MAY[action](relation):
        raise denied(relation, _granted(relation), position)


def find_written(
    resolver: Resolver, relation: VisibleRelation, name: str, action: str, location: int | None
) -> VisibleColumn:
    """Return the column that a statement sets.

    Raises FaucetError: 42703 when it does not exist for the role, 42501 when it may not be set.
    """
    column = relation.columns.get(name)
    table = relation.relation.name.name
    may = _MAY_COLUMN[action]
    open_columns = ", ".join(known for known, other in relation.columns.items() if may(other))
    hint = f"You may {action} {open_columns} of {table}." if open_columns else None
    position = resolver.position(location)
    if column is None or not is_in_sight(column):
        message = f'column "{name}" of relation "{table}" does not exist'
        raise FaucetError(Sqlstate.UNDEFINED_COLUMN, message, hint=hint, position=position)
    if not may(column):
        raise denied(relation, hint, position)
    return column


def is_in_sight(column: VisibleColumn) -> bool:
    """Whether the role may know of a column; one that is only preset is not its business."""
    return column.is_readable or column.is_insertable or column.is_updatable


def hidden_columns(relation: VisibleRelation) -> frozenset[int]:
    """Return the numbers of the columns that do not exist for the role."""
    known = {name for name, column in relation.columns.items() if is_in_sight(column)}
    return frozenset(column.number for column in relation.relation.columns if column.name not in known)


def denied(relation: VisibleRelation, hint: str | None, position: int | None = None) -> FaucetError:
    """Word a refusal as the server words a missing privilege."""
    message = f"permission denied for table {relation.relation.name.name}"
    return FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, message, hint=hint, position=position)


def _granted(relation: VisibleRelation) -> str | None:
    actions = ["select"] if relation.can_select else []
    actions += [action for action, may in _MAY.items() if may(relation) and not relation.is_catalog]
    return f"You may {', '.join(actions)} on {relation.relation.name.name}." if actions else None
