"""The end of a rewrite: judges every condition, moves what can be moved, fences what must be, and writes the sub-selects.

RECIPES R1 (sub-select with the filter), R2 (filter with a sub-select), R3 (push-in behind a guard), R4 (which relations need a fence).
A condition can betray the hidden rows of its `sources` when it is not leakproof: unless it moves behind the guard of its one relation,
each of them becomes a set operation that no condition gets below, and whose statistics the planner does not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.expression import bind_row
from pgfaucet.sql.expression_names import PRIVATE
from pgfaucet.sql.scope import SYSTEM_COLUMNS, RelationItem
from pgfaucet.sql.tree import copy_tree, has_class, walk

if TYPE_CHECKING:
    from pgfaucet.sql.conjunct import Condition, Conjunct
    from pgfaucet.sql.facts import Facts
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Item
    from pgfaucet.sql.world import Node


def finish(resolver: Resolver) -> None:
    """Judge the conditions of a resolved statement and replace its wrapped relations; to be called once, last."""
    doubtful = _doubtful_parameters(resolver)
    kept_in_place: list[tuple[Condition, Conjunct]] = []
    for condition in resolver.conditions:
        _judge(condition, doubtful, kept_in_place)
    for equality in resolver.equalities:
        if not _is_leakproof(equality, doubtful):
            _fence(equality.sources)
    for condition, conjunct in kept_in_place:
        item = _single_relation(condition, conjunct.facts)
        if item is not None and item.is_fenced:
            item.copied.append(_qualified_copy(conjunct.node, item))
    for item in resolver.relations:
        if item.is_wrapped:
            _write(resolver, item)


def check_relations(resolver: Resolver, stmt: Node) -> None:
    """Make sure that every relation of a finished statement was resolved, or is one of ours: a copy of a sub-select would be neither.

    Raises RuntimeError: a mistake of this program, which refuses the statement.
    """
    resolved = {id(body) for body in resolver.opened}
    waiting: list[Any] = [stmt]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            body = found.get("RangeVar")
            if body is not None and id(body) not in resolved and not _is_ours(body):
                raise RuntimeError("a relation was not resolved")
            waiting.extend(value for key, value in found.items() if key != "lockedRels")


def _is_ours(relation: dict[str, Any]) -> bool:
    return str(relation.get("alias", {}).get("aliasname", "")).startswith(PRIVATE)


def must_guard(conjunct: Conjunct, resolver: Resolver) -> bool:
    """Say whether a conjunct on a raw target has to stand behind the target's filter (RECIPES D1)."""
    return not _is_leakproof(conjunct.facts, _doubtful_parameters(resolver))


def _doubtful_parameters(resolver: Resolver) -> set[int]:
    """Return the undeclared parameters that do not stand against one certain type at each of their places."""
    doubtful = set()
    for number, uses in resolver.parameter_uses.items():
        if any(len(types) != 1 or 0 in types for types in uses.values()) or len(set().union(*uses.values())) != 1:
            doubtful.add(number)
    return doubtful


def _is_leakproof(facts: Facts, doubtful: set[int]) -> bool:
    return facts.is_leakproof and not facts.is_volatile and facts.assumes.isdisjoint(doubtful)


def _judge(condition: Condition, doubtful: set[int], kept_in_place: list[tuple[Condition, Conjunct]]) -> None:
    remaining = []
    for conjunct in condition.conjuncts:
        if _is_leakproof(conjunct.facts, doubtful):
            kept_in_place.append((condition, conjunct))
        elif conjunct.facts.sources:
            item = _single_relation(condition, conjunct.facts)
            if item is not None:
                item.guarded.append(_qualified(conjunct.node, item))
                continue
            _fence(conjunct.facts.sources)
        remaining.append(conjunct.node)
    if len(remaining) == len(condition.conjuncts):
        return
    if remaining:
        condition.holder[condition.key] = build.all_of(*remaining)
    elif condition.place is None:
        del condition.holder[condition.key]
    else:
        condition.holder[condition.key] = build.boolean(True)


def _single_relation(condition: Condition, facts: Facts) -> RelationItem | None:
    """Return the one wrapped relation that a conjunct speaks of and into which it may be moved."""
    if not condition.may_move or facts.is_fixed or facts.is_volatile or len(facts.reads) != 1:
        return None
    (item,) = facts.reads
    if not isinstance(item, RelationItem) or not item.is_wrapped or not item.sources or item.column_names:
        return None
    if item.scope is not condition.scope:
        return None
    depth = condition.place.nullable if condition.place is not None else 0
    if condition.nullable_side is not None:
        return item if item in condition.nullable_side and item.nullable == depth + 1 else None
    return item if item.nullable == depth else None


def _fence(sources: frozenset[Item]) -> None:
    for item in sources:
        if isinstance(item, RelationItem):
            item.is_fenced = True


def _qualified(node: Node, item: RelationItem) -> Node:
    """Name the relation in every column reference of a conjunct, so that it means the same inside the sub-select."""
    for found in walk(node):
        reference = found.get("ColumnRef")
        if reference is not None:
            reference["fields"] = [build.string(item.name), reference["fields"][-1]]
    return node


def _qualified_copy(node: Node, item: RelationItem) -> Node:
    return _qualified(copy_tree(node), item)


def _write(resolver: Resolver, item: RelationItem) -> None:
    """Put a sub-select in the place of a relation (R1)."""
    if item.is_fenced and item.is_locked:
        message = "FOR UPDATE is not supported with this condition"
        hint = "Lock the rows by their key in a statement of their own."
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, message, hint=hint)
    if item.is_spread and not item.used.isdisjoint(SYSTEM_COLUMNS):
        resolver.refuse("a system column beside the whole row", None)
    relation = item.node["RangeVar"]
    outer_alias: dict[str, Any] = {"aliasname": item.name}
    if item.column_names:
        outer_alias["colnames"] = [build.string(name) for name in item.column_names]
    relation["alias"] = {"aliasname": item.name}
    targets = _targets(item)
    name = str(item.relation.relation.name)
    made = build.select(targets, fromClause=[{"RangeVar": relation}])
    row_filter = item.relation.row_filter
    if row_filter is not None:
        made["SelectStmt"]["whereClause"] = _where(item, row_filter)
        resolver.notes[f"{name}: row filter, {'fenced' if item.is_fenced else 'inline'}"] = None
    if item.is_fenced:
        made = _set_operation(made, targets, relation)
    item.node.clear()
    item.node["RangeSubselect"] = {"subquery": made, "alias": outer_alias}


def _targets(item: RelationItem) -> list[Node]:
    """Write the columns that the statement reads, masked ones by their mask; all of them when aliases count them."""
    made = []
    for name in item.readable():
        if name not in item.used and not item.column_names:
            continue
        mask = item.relation.columns[name].mask
        made.append(build.target(build.column(name)) if mask is None else build.target(bind_row(mask, item.name), name))
    return made + [build.target(build.column(name)) for name in SYSTEM_COLUMNS if name in item.used]


def _where(item: RelationItem, row_filter: Node) -> Node:
    """Write the filter, the copies of what stays outside a fence, and the guarded conditions."""
    needs_test = has_class(row_filter, "SubLink")
    own = bind_row(row_filter, item.name)
    conditions = [build.is_true(own) if needs_test else own, *item.copied]
    if item.guarded:
        guard = bind_row(row_filter, item.name)
        conditions.append(build.case(guard, build.all_of(*item.guarded), build.boolean(False)))
    return build.all_of(*conditions)


def _set_operation(made: Node, targets: list[Node], relation: dict[str, Any]) -> Node:
    """Write `made UNION ALL SELECT ... WHERE false OFFSET 0`."""
    empty = build.select(targets, fromClause=[{"RangeVar": relation}], whereClause=build.boolean(False))
    return {
        "SelectStmt": {
            "op": "SETOP_UNION",
            "all": True,
            "larg": made["SelectStmt"],
            "rarg": empty["SelectStmt"],
            "limitOffset": {"A_Const": {"ival": {}}},
            "limitOption": "LIMIT_OPTION_COUNT",
        }
    }
