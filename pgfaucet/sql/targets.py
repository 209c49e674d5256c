"""Target lists: what a query or RETURNING gives, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, columns, registered
from pgfaucet.sql.facts import NONE, Facts
from pgfaucet.sql.names import ANONYMOUS, figure_column_name
from pgfaucet.sql.scope import Item, RelationItem

if TYPE_CHECKING:
    from pgfaucet.sql.registered import Span
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.world import Node

_FIELDS = frozenset({"name", "val", "location"})


def resolve_targets(resolver: Resolver, nodes: list[Node], scope: Scope) -> tuple[Columns, bool]:
    """Resolve a target list in place; return its columns, and whether there may be more that we cannot name.

    `*` over a raw relation is written out, since the server would also give what the role may not see.
    """
    found: Columns = []
    is_open = False
    written: list[Node] = []
    spans: list[Span] = []
    for node in nodes:
        target = node["ResTarget"]
        resolver.expect_fields("ResTarget", target, _FIELDS)
        items = _star_items(resolver, target["val"], scope)
        if items is None:
            found.append(_one(resolver, target, scope))
            if "A_Indirection" in target["val"] and "A_Star" in target["val"]["A_Indirection"]["indirection"][-1]:
                found.pop()
                is_open = True
                spans.append((node, [], None))
            else:
                spans.append((node, found[-1:], None))
            written.append(node)
            continue
        before = len(found)
        for item in items:
            found += _expand(resolver, item, scope)
            is_open = is_open or item.is_open
        is_known = not any(item.is_open for item in items)
        spans.append((node, found[before:], _written_out(items) if is_known else None))
        written += _written_out(items) if any(_is_raw(item) for item in items) else [node]
    nodes[:] = written
    if len(spans) == len(written) and any(registered.is_held(facts) for _, facts in found):
        resolver.held_targets.append(registered.Shown(nodes, spans))
    return found, is_open


def _one(resolver: Resolver, target: Node, scope: Scope) -> tuple[str, Facts]:
    name = target["name"] if "name" in target else figure_column_name(target["val"])
    before = resolver.replacements
    facts = resolver.value(target["val"], scope)
    if resolver.replacements != before and "name" not in target and name != ANONYMOUS:
        target["name"] = name
    return name, facts


def _star_items(resolver: Resolver, value: Node, scope: Scope) -> list[Item] | None:
    """Return the items that `*` or `t.*` stands for; None when the target is something else."""
    reference = value.get("ColumnRef")
    if reference is None or "A_Star" not in reference["fields"][-1]:
        return None
    names, _ = columns.names_of(resolver, reference)
    if names:
        item, level = columns.find_item(resolver, reference, names, scope)
        reference["fields"] = reference["fields"][-2:]
        if level is not scope:
            scope.note_outer_read(level, item, item.whole_row())
        return [item]
    items = [item for item in scope.items if item.has_columns_in_sight]
    if not items:
        resolver.fail(
            Sqlstate.SYNTAX_ERROR, "SELECT * with no tables specified is not valid", reference.get("location")
        )
    return items


def _expand(resolver: Resolver, item: Item, scope: Scope) -> Columns:
    found = item.expand()
    if isinstance(item, RelationItem) and item.grouped is not None and not resolver.aggregate_depth:
        item.grouped.update(item.names())
    for _, facts in found:
        if not facts.is_leakproof:
            scope.is_clean = False
    return found


def _is_raw(item: Item) -> bool:
    return isinstance(item, RelationItem) and item.is_raw


def _written_out(items: list[Item]) -> list[Node]:
    made = []
    for item in items:
        for name, _ in item.expand():
            made.append(build.target(build.column(item.name, name) if item.name is not None else build.column(name)))
    return made


def refuse_narrow_rows(resolver: Resolver, body: dict[str, Any]) -> None:
    """Refuse to give a client the whole row of a table with hidden columns: it could not be of the table's row type.

    Raises FaucetError 42501, as the server does.
    """
    for arm in ("larg", "rarg"):
        if arm in body:
            refuse_narrow_rows(resolver, body[arm])
    for target in body.get("targetList", ()):
        reference = target["ResTarget"]["val"].get("ColumnRef")
        table = resolver.narrow_rows.get(id(reference))
        if table is not None:
            hint = "Name the columns."
            resolver.fail(
                Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for table {table}", reference.get("location"), hint
            )


def opaque_where_harmless(facts: Facts) -> Facts:
    """Return the facts of an output column of a level that the planner neither pulls up nor looks through."""
    return (
        facts if facts.sources else Facts(facts.type, reads=NONE, is_volatile=facts.is_volatile, assumes=facts.assumes)
    )
