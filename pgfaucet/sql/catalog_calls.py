"""Calls of functions that tell of objects: which ones there are for a role, and what their arguments mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, describing, registered, registered_names
from pgfaucet.sql.literals import move_node, replace_node, text_of
from pgfaucet.sql.scope import SYSTEM_COLUMNS
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.facts import Facts
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

_CALL_FIELDS: Final = frozenset({"funcname", "args", "funcformat", "location"})
_OID_TYPE: Final = {"names": [build.string("pg_catalog"), build.string("oid")], "typemod": -1}
_PUBLIC: Final = "public"
COLUMN: Final = "column"
"""Names the type of a parameter that is the name or number of a column of the relation before it."""


def describe(resolver: Resolver, node: Node, body: dict[str, Any], scope: Scope) -> Facts | None:
    """Put an expression in the place of a call that tells of objects; None when it is not one of those."""
    names = strings(body["funcname"])
    arguments = body.get("args", [])
    if len(names) > 2 or names[:-1] not in ([], ["pg_catalog"]) or names[-1] in resolver.world.system_functions:
        return None
    found = resolver.world.descriptions.get((names[-1], len(arguments)))
    if found is None or not body.keys() <= _CALL_FIELDS or any("NamedArgExpr" in argument for argument in arguments):
        return None
    facts = [resolver.expression(argument, scope) for argument in arguments]
    if names[-1].startswith("has_") and any(map(_is_made_up, facts)):
        return None
    for position, (_, kind) in enumerate(found.parameters):
        if kind in registered.TYPES:
            facts[position] = _hold(resolver, arguments[position], facts[position], kind)
        elif kind in ("text", COLUMN):
            registered.note_text(resolver, facts[position])
            if kind == COLUMN:
                _check_column(resolver, arguments[position - 1], arguments[position])
    values = [
        (name, "oid" if kind in registered.TYPES else "text" if kind == COLUMN else kind)
        for name, kind in found.parameters
    ]
    return describing.write(resolver, node, found, values, facts, arguments)


def _check_column(resolver: Resolver, relation: Node, argument: Node) -> None:
    """Say that a column does not exist for the role where both names are in the statement's text."""
    oid, name = registered_names.oid_of(relation), text_of(argument)
    known = resolver.world.catalog.relation_by_oid(oid) if oid is not None else None
    if known is None or name is None or name.isdigit():
        return
    visible = resolver.world.relations.get(known.name)
    if visible is not None and name not in visible.columns and name not in SYSTEM_COLUMNS:
        message = f'column "{name}" of relation "{known.name.name}" does not exist'
        resolver.fail(Sqlstate.UNDEFINED_COLUMN, message, argument["A_Const"].get("location"))


def _is_made_up(facts: Facts) -> bool:
    """Say whether an oid comes from neither the statement's text nor a catalog: counting through all oids is no use of privileges."""
    return bool(facts.reads) and not facts.sources


def _hold(resolver: Resolver, argument: Node, value: Facts, kind: str) -> Facts:
    if kind == "regrole" and text_of(argument) == _PUBLIC:  # everybody: no account, with no right of its own
        replace_node(resolver, argument, build.cast(build.text("0"), dict(_OID_TYPE)))
        return value.retyped(-registered.TYPES[kind][0])
    return registered.hold(resolver, argument, move_node(argument), value, kind)
