"""ON CONFLICT (RECIPES D5): a conflicting row that the role may not see is an error before anything of it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, writing
from pgfaucet.sql.assign import resolve_assignments
from pgfaucet.sql.checks import must_hold, row_check
from pgfaucet.sql.newrow import guard_new_row
from pgfaucet.sql.target import TargetItem, check_action, hidden_columns
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import VisibleRelation

_FIELDS: Final = frozenset({"action", "infer", "targetList", "whereClause", "location"})
_INFER_FIELDS: Final = frozenset({"indexElems", "whereClause", "conname", "location"})
_ELEMENT_FIELDS: Final = frozenset({"name", "expr", "collation", "opclass", "ordering", "nulls_ordering"})


def resolve_conflict(resolver: Resolver, body: dict[str, Any], outer: Scope, target: TargetItem) -> None:
    """Resolve the ON CONFLICT clause of an INSERT, if it has one, in place.

    Raises FaucetError: 42703, 42704, 42501.
    """
    clause = body.get("onConflictClause")
    if clause is None:
        return
    resolver.expect_fields("OnConflictClause", clause, _FIELDS)
    scope = resolver.scope(outer)
    scope.items.append(target)
    _resolve_arbiter(resolver, clause.get("infer", {}), scope, target.relation)
    if clause["action"] == "ONCONFLICT_NOTHING":
        return
    check_action(target.relation, "update", resolver.position(clause.get("location")))
    scope.items.append(TargetItem("excluded", scope, target.relation, {}, is_raw=True))
    row = resolve_assignments(resolver, clause["targetList"], scope, target)
    if "whereClause" in clause:
        resolver.value(clause["whereClause"], scope)
    check = row_check(target.relation, is_read=True)
    if check is not None:
        guard_new_row(row, check, may_be_volatile=False)
    own = writing.own_filter(target)
    if own is not None:
        condition = clause.get("whereClause", build.boolean(True))
        clause["whereClause"] = build.case(must_hold(own), condition, build.boolean(False))


def _resolve_arbiter(resolver: Resolver, infer: dict[str, Any], scope: Scope, relation: VisibleRelation) -> None:
    resolver.expect_fields("InferClause", infer, _INFER_FIELDS)
    if "conname" in infer:
        _check_constraint(resolver, infer["conname"], relation, infer.get("location"))
    for node in infer.get("indexElems", ()):
        element: dict[str, Any] = node["IndexElem"]
        resolver.expect_fields("IndexElem", element, _ELEMENT_FIELDS)
        if "name" in element:
            column = {"ColumnRef": {"fields": [build.string(element["name"])], "location": infer.get("location", -1)}}
            resolver.value(column, scope)
        if "expr" in element:
            resolver.value(element["expr"], scope)
        for key in ("collation", "opclass"):
            if key in element:
                element[key] = _of_pg_catalog(resolver, element[key], infer)
    if "whereClause" in infer:
        resolver.value(infer["whereClause"], scope)


def _of_pg_catalog(resolver: Resolver, parts: list[Any], infer: dict[str, Any]) -> list[Any]:
    names = strings(parts)
    if len(names) > 1 and names[:-1] != ["pg_catalog"]:
        resolver.refuse("IndexElem of another schema", infer)
    return [build.string("pg_catalog"), build.string(names[-1])]


def _check_constraint(resolver: Resolver, name: str, relation: VisibleRelation, location: int | None) -> None:
    """A constraint over columns that the role may not know does not exist."""
    hidden = hidden_columns(relation)
    known = relation.relation.constraints
    of_that_name = [constraint for constraint in known if constraint.name == name]
    if any(not constraint.columns.isdisjoint(hidden) for constraint in of_that_name) or (known and not of_that_name):
        table = relation.relation.name.name
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, f'constraint "{name}" for table "{table}" does not exist', location)
