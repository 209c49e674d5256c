"""Warnings about a policy on a live catalog: what row filters cannot hide (RECIPES section 8), and what may get around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.policy.identifier import qualified_name
from pgfaucet.policy.lint import covers, warning
from pgfaucet.policy.problem import Problem, in_order
from pgfaucet.sql import build
from pgfaucet.sql.catalog import CatalogSnapshot, OperatorKey, QualifiedName
from pgfaucet.sql.expression import PolicyError, own_column, resolve_expression
from pgfaucet.sql.facts import NUMERIC, TEXT
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.policy.model import Policy, Role, TableGrant
    from pgfaucet.sql.catalog import Constraint, Relation, UniqueKey
    from pgfaucet.sql.expression import Expression

_FOREIGN_KEY: Final = "f"
_CASCADES: Final = {"c": "deletes", "n": "sets to NULL", "d": "sets to their defaults"}
_CASTS: Final = {1043: TEXT, 650: 869}  # varchar is compared as text, cidr as inet
_COMPARISONS: Final = frozenset({"=", "<>", "<", "<=", ">", ">="})
_SYSTEM: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})


@dataclass(frozen=True, slots=True)
class Granted:
    """A relation and the entry that speaks of it."""

    relation: Relation
    grant: TableGrant
    row_filter: Expression | None  # None: there is none, or it does not compile

    def can_write(self, number: int) -> bool:
        """Say whether the role may give a value to a column."""
        name = column_names(self.relation, [number])
        return number == 0 or any(covers(self.grant.insert, each) or covers(self.grant.update, each) for each in name)


def lint_with_catalog(policy: Policy, database: str, catalog: CatalogSnapshot) -> list[Problem]:
    """Return warnings about the roles of one database."""
    found: list[Problem] = []
    for role in policy.roles.values():
        if role.database != database or role.access == "full":
            continue
        granted = {each.relation.oid: each for each in _granted(role, catalog)}
        for each in granted.values():
            found += _unique_keys(each)
            found += _foreign_keys(each, granted, catalog)
            found += _ways_around(each, granted, catalog)
            found += _leaky_filter(each, catalog)
    return in_order(found)


def column_names(relation: Relation, numbers: list[int] | frozenset[int] | tuple[int, ...]) -> list[str]:
    """Return the names of columns in attnum order."""
    return [column.name for column in relation.columns if column.number in numbers]


def _granted(role: Role, catalog: CatalogSnapshot) -> Iterator[Granted]:
    named = {qualified_name(grant.name, role.search_path): grant for grant in role.tables if grant.name != "*"}
    every = next((grant for grant in role.tables if grant.name == "*"), None)
    for name, relation in catalog.relations.items():
        grant = named.get(name) or (every if name.schema not in _SYSTEM else None)
        if grant is not None:
            yield Granted(relation, grant, _row_filter(grant, relation, role, catalog))


def _row_filter(grant: TableGrant, relation: Relation, role: Role, catalog: CatalogSnapshot) -> Expression | None:
    if grant.row_filter is None:
        return None
    try:
        return resolve_expression(grant.row_filter, relation, catalog, role.search_path, purpose="row_filter")
    except PolicyError:  # compile_world reports it
        return None


def _unique_keys(each: Granted) -> Iterator[Problem]:
    if each.row_filter is None:
        return
    for key in each.relation.unique_keys:
        if not any(map(each.can_write, key.columns)) or each.row_filter.columns.intersection(
            column_names(each.relation, key.columns)
        ):
            continue
        shown = _shown(key, each.relation)
        what = f'unique key "{key.name}" {shown} of "{each.relation.name}" holds no column of the row filter, so a write tells whether a hidden row has the same value'
        yield warning(
            each.grant.source,
            what,
            f"add {', '.join(sorted(each.row_filter.columns)) or 'one'} to the key, or do not let the role write {shown}",
        )


def _shown(key: UniqueKey, relation: Relation) -> str:
    return f"({', '.join(column_names(relation, key.columns)) or 'expression'})"


def _foreign_keys(each: Granted, granted: dict[int, Granted], catalog: CatalogSnapshot) -> Iterator[Problem]:
    """Warn of foreign keys that reach rows the role may not see."""
    for constraint in each.relation.constraints:
        if constraint.kind == _FOREIGN_KEY and any(map(each.can_write, constraint.columns)):
            yield from _reference(each, constraint, granted, catalog)
    if not each.grant.delete:
        return
    for child in catalog.relations.values():
        hidden = granted.get(child.oid)
        if hidden is not None and hidden.grant.row_filter is None:
            continue
        for constraint in child.constraints:
            if constraint.kind == _FOREIGN_KEY and constraint.references == each.relation.oid:
                yield _delete(each, constraint, child)


def _reference(
    each: Granted, constraint: Constraint, granted: dict[int, Granted], catalog: CatalogSnapshot
) -> Iterator[Problem]:
    parent = catalog.relation_by_oid(constraint.references)
    target = granted.get(constraint.references)
    if parent is None or (target is not None and target.grant.row_filter is None):
        return
    keys = column_names(parent, constraint.referenced_columns)
    if target is not None and target.row_filter is not None and target.row_filter.columns.intersection(keys):
        return
    what = f'foreign key "{constraint.name}" of "{each.relation.name}" tells whether a hidden row of "{parent.name}" exists'
    yield warning(
        each.grant.source, what, "add the filter's column to the key, or do not let the role write its columns"
    )


def _delete(each: Granted, constraint: Constraint, child: Relation) -> Problem:
    effect = _CASCADES.get(constraint.on_delete)
    if effect is None:
        what = f'foreign key "{constraint.name}" keeps rows of "{each.relation.name}" that hidden rows of "{child.name}" refer to, and so tells of them'
        return warning(each.grant.source, what, "do not grant delete if that must stay unknown")
    what = f'deleting rows of "{each.relation.name}" {effect} hidden rows of "{child.name}", by foreign key "{constraint.name}"'
    return warning(each.grant.source, what, "do not grant delete, or let the key restrict")


def _ways_around(each: Granted, granted: dict[int, Granted], catalog: CatalogSnapshot) -> Iterator[Problem]:
    """Warn of relations without a filter that hold the rows of one with a filter."""
    if each.grant.row_filter is not None or not each.grant.select:
        return
    filtered = [other.relation.name for other in granted.values() if other.grant.row_filter is not None]
    if filtered and each.relation.kind in "vm":
        what = f'"{each.relation.name}" is a view: it is read with its owner\'s rights, past the row filters of other tables'
        yield warning(each.grant.source, what, "give it a row filter of its own")
    for parent in _ancestors(each.relation, catalog):
        other = granted.get(parent.oid)
        if other is not None and other.grant.row_filter is not None:
            what = f'"{each.relation.name}" holds rows of "{parent.name}" and has no row filter'
            yield warning(each.grant.source, what, f'give it the row filter of "{parent.name}"')


def _ancestors(relation: Relation, catalog: CatalogSnapshot) -> Iterator[Relation]:
    for oid in relation.parents:
        parent = catalog.relation_by_oid(oid)
        if parent is not None:
            yield parent
            yield from _ancestors(parent, catalog)


def _leaky_filter(each: Granted, catalog: CatalogSnapshot) -> Iterator[Problem]:
    if each.row_filter is None:
        return
    operators = sorted(_leaky_operators(each.row_filter.node, each.relation, catalog))
    if operators:
        source = each.grant.expression_sources.get("row_filter", each.grant.source)
        what = f'the row filter of "{each.relation.name}" uses {", ".join(operators)}, which is not known to be leakproof for these types'
        yield warning(source, what, "make sure that it raises no error for any row: an error would tell of hidden rows")


def _leaky_operators(tree: Any, relation: Relation, catalog: CatalogSnapshot) -> set[str]:
    """Return operators on the table's own columns that the catalog does not call leakproof for exactly these types."""
    types = {column.name: catalog.base_type(column.type_oid) for column in relation.columns}
    found: set[str] = set()
    for node in walk(tree):
        operation = node.get("A_Expr")
        if operation is None or operation.get("kind") not in ("AEXPR_OP", "AEXPR_IN", "AEXPR_DISTINCT"):
            continue
        sides = [_type_of(operation.get(side), types, catalog) for side in ("lexpr", "rexpr")]
        name = operation["name"][-1]["String"]["sval"]
        if any(own_column(operation.get(side) or {}) for side in ("lexpr", "rexpr")) and not _is_leakproof(
            name, sides, catalog
        ):
            found.add(name)
    return found


def _is_leakproof(name: str, sides: list[int | None], catalog: CatalogSnapshot) -> bool:
    left, right = (
        side if side is not None else next((other for other in sides if other is not None), 0) for side in sides
    )
    kind = catalog.types[left].kind if left in catalog.types else ""
    if left == right and ((left == NUMERIC and name in _COMPARISONS) or (kind == "e" and name in ("=", "<>"))):
        return True  # reviewed: they raise on no value (RECIPES X1)
    return OperatorKey(name, left, right) in catalog.leakproof_operators


def _type_of(node: Any, types: dict[str, int], catalog: CatalogSnapshot) -> int | None:
    """Return the type of a column or cast; None where it takes the other side's."""
    if not isinstance(node, dict):
        return None
    column = own_column(node)
    if column is not None:
        oid = types.get(column, 0)
    elif "TypeCast" in node:
        names = [part["String"]["sval"] for part in node["TypeCast"]["typeName"].get("names", [])]
        found = catalog.type_named(QualifiedName(*names)) if len(names) == 2 else None
        oid = catalog.base_type(found.oid) if found is not None else 0
    elif "FuncCall" in node and node["FuncCall"]["funcname"] == [build.string("claim")]:
        oid = TEXT
    else:
        return None if "A_Const" in node or "List" in node else 0
    return _CASTS.get(oid, oid)
