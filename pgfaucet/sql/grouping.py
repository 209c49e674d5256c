"""GROUP BY a primary key (RECIPES R6).

PostgreSQL lets a level grouped by a table's primary key read the table's other columns; through a sub-select it no longer knows the key, so
that the columns that are read are added to GROUP BY. They depend on the key: the groups stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgfaucet.sql import build, columns
from pgfaucet.sql.scope import WHOLE_ROW, RelationItem
from pgfaucet.sql.tree import string

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.world import Node


def _candidates(scope: Scope) -> list[RelationItem]:
    return [item for item in scope.items if isinstance(item, RelationItem) and item.is_wrapped]


def watch(body: dict[str, Any], scope: Scope) -> None:
    """Begin to note which columns a grouped level reads outside aggregates."""
    if "groupClause" not in body or any("GroupingSet" in item for item in body["groupClause"]):
        return
    for item in _candidates(scope):
        scope.grouped[item] = set()
    go_on(scope)


def pause(scope: Scope) -> None:
    """Stop noting: the clause that follows is evaluated before grouping."""
    for item in scope.grouped:
        item.grouped = None


def go_on(scope: Scope) -> None:
    """Note again."""
    for item, noted in scope.grouped.items():
        item.grouped = noted


def names_output(resolver: Resolver, node: Node, scope: Scope, outputs: Columns) -> bool:
    """Say whether a GROUP BY item is an ordinal or the name of an output column rather than an expression."""
    if "A_Const" in node:
        return "ival" in node["A_Const"]
    reference = node.get("ColumnRef")
    if reference is None or len(reference["fields"]) != 1 or "String" not in reference["fields"][0]:
        return False
    if _column_in(resolver, node, scope):
        return False
    name = string(reference["fields"][0])
    return any(output == name for output, _ in outputs)


def _column_in(resolver: Resolver, node: Node, scope: Scope) -> bool:
    """Say whether an unqualified name is that of a column of this level's FROM."""
    reference = node.get("ColumnRef")
    if reference is None or len(reference["fields"]) != 1 or "String" not in reference["fields"][0]:
        return False
    name = string(reference["fields"][0])
    found = columns.find_column(resolver, name, scope, reference.get("location"))
    return found is not None and found[1] is scope


def finish(resolver: Resolver, body: dict[str, Any], scope: Scope) -> None:
    """Add to GROUP BY what depends on a grouped primary key."""
    for item, noted in scope.grouped.items():
        catalogued = item.relation.relation
        by_number = {column.number: column.name for column in catalogued.columns}
        key = {by_number.get(number, "") for number in catalogued.primary_key}
        if not key or item.column_names:
            continue
        present = _grouped_columns(resolver, body, item, scope)
        if not key <= present:
            continue
        added = [name for name in item.readable() if name in noted and name not in present]
        body["groupClause"] += [build.column(item.name, name) for name in added]
        if WHOLE_ROW in noted:
            body["groupClause"].append({"ColumnRef": {"fields": [build.string(item.name), {"A_Star": {}}]}})


def _grouped_columns(resolver: Resolver, body: dict[str, Any], item: RelationItem, scope: Scope) -> set[str]:
    found = set()
    for node in body["groupClause"]:
        name = _column_of(resolver, _meant(resolver, node, body, scope), item, scope)
        if name is not None:
            found.add(name)
    return found


def _meant(resolver: Resolver, node: Node, body: dict[str, Any], scope: Scope) -> Node:
    """Return the expression that an ordinal or an output name in GROUP BY means."""
    if _column_in(resolver, node, scope):
        return node
    target_list = [target["ResTarget"] for target in body.get("targetList", ())]
    constant = node.get("A_Const")
    if constant is not None:
        number = constant.get("ival", {}).get("ival", 0)
        return target_list[number - 1]["val"] if 0 < number <= len(target_list) else node
    reference = node.get("ColumnRef")
    if reference is not None and len(reference["fields"]) == 1:
        name = reference["fields"][0].get("String", {}).get("sval")
        return next((target["val"] for target in target_list if target.get("name") == name), node)
    return node


def _column_of(resolver: Resolver, node: Node, item: RelationItem, scope: Scope) -> str | None:
    reference = node.get("ColumnRef")
    if reference is None:
        return None
    names, is_star = columns.names_of(resolver, reference)
    if is_star:
        return None
    if len(names) == 1:
        found = columns.find_column(resolver, names[0], scope, None)
        return names[0] if found is not None and found[0] is item else None
    return names[-1] if names[-2] == item.name else None
