"""EXPLAIN of a rewritten statement.

A plan prints relation, index and column names, filters, and how many rows were removed: under `explain: safe` it is given only where none
of that can be hidden from the role, without costs where a relation is filtered, and never run (ANALYZE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.expression import own_columns
from pgfaucet.sql.target import hidden_columns
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.sql.catalog import Relation
    from pgfaucet.sql.world import Node, VisibleRelation, World

EXPLAINED: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_KEPT: Final = frozenset({"format", "generic_plan"})
_FALSE: Final = frozenset({"false", "off", "0"})


def explain_options(options: list[Node], tables: tuple[str, ...], world: World) -> list[Node]:
    """Return the options to send, given the relations that the rewritten statement touches.

    Raises FaucetError: 42501 where the role may not have this plan.
    """
    if world.explain == "full":
        return options
    if world.explain != "safe":
        raise _denied("EXPLAIN", "The policy gives this role no plans.")
    if _is_on(options, "analyze") and not world.sees_everything:
        raise _denied("EXPLAIN ANALYZE", "EXPLAIN without ANALYZE is open to this role.")
    touched = [relation for name, relation in world.relations.items() if str(name) in tables]
    if all(_is_plain(relation, world) for relation in touched):
        return options
    for relation in touched:
        if not _may_be_printed(relation, world):
            raise _denied(
                "EXPLAIN", f"The plan of a statement over {relation.relation.name.name} is not open to this role."
            )
    kept = [option for option in options if option["DefElem"]["defname"] in _KEPT]
    costs = {"defname": "costs", "arg": build.string("off"), "defaction": "DEFELEM_UNSPEC"}
    return [*kept, {"DefElem": costs}]


def _denied(what: str, hint: str) -> FaucetError:
    return FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to execute {what}", hint=hint)


def _is_on(options: list[Node], name: str) -> bool:
    return any(
        option["DefElem"]["defname"] == name and _word(option["DefElem"].get("arg")) not in _FALSE for option in options
    )


def _word(arg: dict[str, Any] | None) -> str:
    """Read a boolean option as written (define.c, defGetBoolean): nothing means true."""
    if arg is None:
        return "true"
    ((_, value),) = arg.items()
    return str(value.get("sval", value.get("ival", value.get("boolval", 0)))).lower()


def _is_plain(relation: VisibleRelation, world: World) -> bool:
    """Whether the role sees all that a plan can say of this relation."""
    return (
        relation.is_bare
        and relation.relation.kind != "v"
        and not relation.is_catalog
        and _shows_descendants(relation, world)
    )


def _may_be_printed(relation: VisibleRelation, world: World) -> bool:
    """Whether a plan without costs names nothing that the role may not know."""
    if relation.relation.kind == "v" or relation.is_catalog or not _shows_descendants(relation, world):
        return False
    hidden = hidden_columns(relation)
    if any(not index.columns.isdisjoint(hidden) for index in relation.relation.indexes):
        return False
    expressions = [relation.row_filter, relation.check, *(column.mask for column in relation.columns.values())]
    return all(_speaks_of_visible(expression, relation, world) for expression in expressions if expression is not None)


def _shows_descendants(relation: VisibleRelation, world: World) -> bool:
    """Whether every partition and child, which a plan names, is visible itself."""
    return all(child.name in world.relations for child in _descendants(relation, world))


def _descendants(relation: VisibleRelation, world: World) -> Iterator[Relation]:
    pending = [relation.relation.oid]
    while pending:
        parent = pending.pop()
        for found in world.catalog.relations.values():
            if parent in found.parents:
                pending.append(found.oid)
                yield found


def _speaks_of_visible(expression: Node, relation: VisibleRelation, world: World) -> bool:
    for name in own_columns(expression):
        column = relation.columns.get(name)
        if column is None or not column.is_readable:
            return False
    named = (node for node in walk(expression) if "relname" in node and "schemaname" in node)
    return all(world.lookup(node["schemaname"], node["relname"], ()) is not None for node in named)
