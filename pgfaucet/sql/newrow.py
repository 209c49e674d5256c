"""The check over a row that is still to be made (RECIPES D4, the pre-check).

The columns whose values are known before the row exists are put into the check; what remains unknown (generated columns, defaults that
are computed, what triggers change) is left to the check over the finished row. Only values of the client's own choosing matter here: with
them it could ask a unique constraint about rows that it may not see.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.checks import must_hold, type_of_column
from pgfaucet.sql.expression import PolicyError, bind_values, own_columns, parse_expression
from pgfaucet.sql.facts import UNKNOWN
from pgfaucet.sql.tree import has_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.catalog import CatalogSnapshot, Column
    from pgfaucet.sql.facts import Facts
    from pgfaucet.sql.world import Node, VisibleRelation


@dataclass(slots=True)
class Given:
    """A value that the client gives to a column; `put` writes another expression in its place."""

    value: Node
    facts: Facts
    put: Callable[[Node], None]


@dataclass(slots=True)
class NewRow:
    """What is known of a row to be made. A column in neither dictionary is that of `alias`, or unknown where there is none."""

    relation: VisibleRelation
    catalog: CatalogSnapshot
    alias: str | None = None  # of the row before its change
    given: dict[str, Given] = field(default_factory=dict)
    known: dict[str, Node] = field(default_factory=dict)  # presets and constant defaults, already of the column's type
    defaulted: dict[str, Callable[[Node], None] | None] = field(
        default_factory=dict
    )  # constant defaults: how to write them
    unknown: set[str] = field(default_factory=set)
    opaque: set[str] = field(
        default_factory=set
    )  # chosen by the client in a way that can't be checked before it is used

    def column(self, name: str) -> Column:
        """Return the catalog's column of that name, visible to the role or not."""
        return next(column for column in self.relation.relation.columns if column.name == name)

    def set_default(self, name: str, put: Callable[[Node], None]) -> None:
        """Take down that a column gets its default by the client's word; `put` writes a value in the place of DEFAULT."""
        self._set_default(self.column(name), put)

    def set_omitted(self) -> None:
        """Take down that every column not mentioned so far is left to its default."""
        for column in self.relation.relation.columns:
            if column.name not in self.given and column.name not in self.known and column.name not in self.opaque:
                self._set_default(column, None)

    def _set_default(self, column: Column, put: Callable[[Node], None] | None) -> None:
        value = _constant_default(column, self.relation, self.catalog, is_omitted=put is None)
        if value is None:
            self.unknown.add(column.name)
        else:
            self.known[column.name] = build.cast(value, type_of_column(column, self.catalog))
            self.defaulted[column.name] = put

    def typed(self, name: str) -> Node:
        """Return a given value with its column's type, where it has none of its own."""
        found = self.given[name]
        if found.facts.type != UNKNOWN:
            return found.value
        return build.cast(found.value, type_of_column(self.column(name), self.catalog))


def guard_new_row(row: NewRow, check: Node, *, may_be_volatile: bool) -> None:
    """Put the check of the known columns around the first value that the client gives to a column of it.

    `may_be_volatile`: a sub-select in the value's place is evaluated once for each row (VALUES), so that volatile values can be checked.

    Raises FaucetError (0A000) where a value can't be checked before it is used.
    """
    for name in sorted(row.opaque & own_columns(check)):
        table = row.relation.relation.name.name
        message = f'column "{name}" of relation "{table}" can only be set as a whole and by itself'
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, message, hint="The policy checks what is stored in it.")
    conditions = [part for part in build.conjuncts(check) if _is_known(part, row)]
    if not conditions:
        return
    columns = sorted(set().union(*(own_columns(part) for part in conditions)))
    given = [name for name in columns if name in row.given]
    condition = build.all_of(*conditions)
    if not given:
        _guard_defaults(row, condition, columns)
        return
    volatile = [name for name in given if row.given[name].facts.is_volatile]
    if volatile and (len(volatile) > 1 or not may_be_volatile):
        name = row.relation.relation.name.name
        message = f'the value of column "{volatile[0]}" of relation "{name}" can not be a volatile expression'
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, message)
    first = volatile[0] if volatile else given[0]
    if volatile or _could_capture(condition, row, given):
        row.given[first].put(_through_sub_select(row, condition, given, first))
        return
    row.given[first].put(build.case(_checked(row, condition, columns), row.typed(first), build.null()))


def _guard_defaults(row: NewRow, condition: Node, columns: list[str]) -> None:
    """Check a row whose columns are all left to constant defaults, wherever there is a value to put the check around."""
    left = [name for name in columns if name in row.defaulted]
    if not left:
        return
    made = _checked(row, condition, columns)
    for name in [*left, *row.defaulted]:  # best one of the check's own, else any
        put = row.defaulted[name]
        if put is not None:
            put(build.case(made, row.known[name], build.null()))
            return
    carrier = next((name for name, found in row.given.items() if not found.facts.is_volatile), None)
    if carrier is not None:
        row.given[carrier].put(build.case(made, row.typed(carrier), build.null()))


def _checked(row: NewRow, condition: Node, columns: list[str]) -> Node:
    values = {name: _value_of(row, name) for name in columns if name in row.given or name in row.known}
    return must_hold(bind_values(condition, values, row.alias))


def _is_known(condition: Node, row: NewRow) -> bool:
    """Whether a condition speaks of values that the client chose, and of nothing that is not known yet."""
    columns = own_columns(condition)
    if not columns.isdisjoint(row.unknown | row.opaque) or columns.isdisjoint(row.given.keys() | row.defaulted.keys()):
        return False
    return row.alias is not None or all(name in row.given or name in row.known for name in columns)


def _could_capture(condition: Node, row: NewRow, given: list[str]) -> bool:
    """Whether a name in a given value could come to mean something else inside a sub-select of the check."""
    return has_class(condition, "SubLink") and any(has_class(row.given[name].value, "ColumnRef") for name in given)


def _value_of(row: NewRow, name: str) -> Node:
    if name in row.known:
        return row.known[name]
    return build.cast(row.given[name].value, type_of_column(row.column(name), row.catalog))


def _through_sub_select(row: NewRow, condition: Node, given: list[str], first: str) -> Node:
    """Write `(SELECT CASE WHEN <check over v> THEN v.first END FROM (SELECT <values> OFFSET 0) AS v)`: each value evaluated once."""
    inner = [build.target(row.typed(name), f"pgf_{position}") for position, name in enumerate(given)]
    values = {name: build.column("pgf_v", f"pgf_{position}") for position, name in enumerate(given)}
    made = must_hold(bind_values(condition, values | row.known, row.alias))
    source = build.select(inner, limitOffset={"A_Const": {"ival": {}}}, limitOption="LIMIT_OPTION_COUNT")
    item = {"RangeSubselect": {"subquery": source, "alias": {"aliasname": "pgf_v"}}}
    query = build.select([build.target(build.case(made, values[first], build.null()))], fromClause=[item])
    return {"SubLink": {"subLinkType": "EXPR_SUBLINK", "subselect": query}}


def _constant_default(
    column: Column, relation: VisibleRelation, catalog: CatalogSnapshot, *, is_omitted: bool
) -> Node | None:
    """Return the value that a column gets when none is given; None when it is not known beforehand."""
    if column.generated or column.identity or relation.relation.kind == "v":
        return None
    if column.default is None:
        found = catalog.types.get(column.type_oid)
        may_be_filled = is_omitted and "insert" in relation.relation.before_triggers
        return None if may_be_filled or found is None or found.kind == "d" else build.null()
    try:
        value = parse_expression(column.default)
    except PolicyError:
        return None
    while "TypeCast" in value:
        value = value["TypeCast"]["arg"]
    constant = value.get("A_Const")
    return (
        {"A_Const": {key: part for key, part in constant.items() if key != "location"}}
        if constant is not None
        else None
    )
