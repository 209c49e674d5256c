"""INSERT: its columns, its source with presets and the check put in, ON CONFLICT, RETURNING (RECIPES D3-D5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, operators, returning, with_clause, writing
from pgfaucet.sql.assign import resolve_steps
from pgfaucet.sql.checks import row_check, takes_any_row, type_of_column
from pgfaucet.sql.conflict import resolve_conflict
from pgfaucet.sql.expression import bind_row
from pgfaucet.sql.facts import UNKNOWN, Facts
from pgfaucet.sql.newrow import Given, NewRow, guard_new_row
from pgfaucet.sql.target import find_written, is_in_sight, open_target
from pgfaucet.sql.tree import copy_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.query import Query
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.target import TargetItem
    from pgfaucet.sql.world import Node

_FIELDS: Final = frozenset(
    {"relation", "cols", "selectStmt", "onConflictClause", "returningClause", "withClause", "override"}
)
_COLUMN_FIELDS: Final = frozenset({"name", "indirection", "location"})
_MORE_THAN_VALUES: Final = ("sortClause", "limitCount", "limitOffset", "lockingClause", "withClause")
SOURCE: Final = "pgf_source"


def resolve_insert(resolver: Resolver, body: dict[str, Any], outer: Scope | None) -> Query:
    """Resolve an InsertStmt in place.

    Raises FaucetError: 42P01, 42703, 42501, 42601, 0A000.
    """
    resolver.expect_fields("InsertStmt", body, _FIELDS)
    scope = resolver.scope(outer)
    with_clause.resolve_with(resolver, body, scope)
    target = open_target(resolver, body["relation"], scope, ("insert",))
    read = "returningClause" in body or "infer" in body.get("onConflictClause", {})
    check = row_check(target.relation, is_read=read)
    _Source(resolver, body, scope, target, check).resolve()
    row_scope = resolver.scope(scope)
    resolve_conflict(resolver, body, scope, target)
    row_scope.items.append(target)
    writing.add_insert(resolver, body, row_scope, target)
    found = returning.resolve_returning(resolver, body, row_scope, target)
    if check is not None:
        returning.add_check(resolver, body, bind_row(check, target.name))
    return writing.written_query(row_scope, found)


def resolve_merge_row(
    resolver: Resolver, arm: dict[str, Any], scope: Scope, target: TargetItem, check: Node | None
) -> None:
    """Resolve the INSERT of a MERGE arm in place: one row of values."""
    body: dict[str, Any] = {"cols": arm["targetList"]} if "targetList" in arm else {}
    source = _Source(resolver, body, scope, target, check)
    items: list[Node] = arm.get("values", [])
    source.resolve_row_of_merge(items)
    if items:
        arm["values"] = items
        arm["targetList"] = body["cols"]


class _Source:
    """The rows to be inserted: what the client gives, what the policy presets, and the check over both."""

    def __init__(
        self, resolver: Resolver, body: dict[str, Any], scope: Scope, target: TargetItem, check: Node | None
    ) -> None:
        self.resolver = resolver
        self.body = body
        self.scope = scope
        self.relation = target.relation
        self.check = check
        self.names: list[str] = []
        self.partial: set[str] = set()  # columns given in part: `INSERT INTO t (a[1])`

    def resolve(self) -> None:
        """Resolve the source and the column list in place."""
        source: Node | None = self.body.get("selectStmt")
        if source is None:
            self._name_columns(0)
            self._preset_defaults()
            return
        select = source["SelectStmt"]
        if "valuesLists" in select and not any(key in select for key in _MORE_THAN_VALUES):
            self._resolve_values(select)
        else:
            self._resolve_query(source)

    # -- columns

    def _name_columns(self, width: int) -> None:
        """Fill `names`; without a column list the first visible columns are meant, as many as there are values."""
        written: list[Node] | None = self.body.get("cols")
        if written is None:
            visible = [name for name, column in self.relation.columns.items() if is_in_sight(column)]
            if width > len(visible):
                self.resolver.fail(Sqlstate.SYNTAX_ERROR, "INSERT has more expressions than target columns")
            written = [{"ResTarget": {"name": name}} for name in visible[:width]]
            if written:
                self.body["cols"] = written
        for node in written:
            column = node["ResTarget"]
            self.resolver.expect_fields("ResTarget", column, _COLUMN_FIELDS)
            name: str = column["name"]
            find_written(self.resolver, self.relation, name, "insert", column.get("location"))
            if "indirection" in column:
                resolve_steps(self.resolver, column, self.scope)
                self.partial.add(name)
            elif name in self.names:
                message = f'column "{name}" specified more than once'
                self.resolver.fail("42701", message, column.get("location"))
            self.names.append(name)

    def _presets(self) -> dict[str, Node]:
        """Write the values that the policy forces, each of its column's type. The client may not name these columns."""
        return {
            name: build.cast(copy_tree(column.preset), self._type_of(name))
            for name, column in self.relation.columns.items()
            if column.preset is not None
        }

    def _add_columns(self, names: list[str]) -> None:
        if names:
            self.body.setdefault("cols", []).extend({"ResTarget": {"name": name}} for name in names)

    # -- DEFAULT VALUES

    def _preset_defaults(self) -> None:
        """Write a row of values where there is something to force or to check before the row is made."""
        presets = self._presets()
        if self.check is not None and not presets:
            self.names = [next(iter(self.relation.columns))]
        items: list[Node] = [{"SetToDefault": {}} for _ in self.names]
        self._resolve_row(items, presets)
        if any("SetToDefault" not in item for item in items):
            self._add_columns([*self.names, *presets])
            made = {
                "valuesLists": [{"List": {"items": items}}],
                "limitOption": "LIMIT_OPTION_DEFAULT",
                "op": "SETOP_NONE",
            }
            self.body["selectStmt"] = {"SelectStmt": made}

    # -- VALUES

    def _resolve_values(self, select: dict[str, Any]) -> None:
        rows: list[list[Node]] = [row["List"]["items"] for row in select["valuesLists"]]
        if any(len(row) != len(rows[0]) for row in rows):
            self.resolver.fail(Sqlstate.SYNTAX_ERROR, "VALUES lists must all be the same length")
        self._name_columns(len(rows[0]))
        self._compare_widths(len(rows[0]))
        presets = self._presets()
        for row in rows:
            self._resolve_row(row, presets)
        self._add_columns(list(presets))

    def resolve_row_of_merge(self, items: list[Node]) -> None:
        """Resolve the values of a row in place; none at all are DEFAULT VALUES."""
        self._name_columns(len(items))
        self._compare_widths(len(items))
        presets = self._presets()
        self._resolve_row(items, presets, may_be_volatile=False)
        self._add_columns(list(presets))

    def _resolve_row(self, items: list[Node], presets: dict[str, Node], *, may_be_volatile: bool = True) -> None:
        row = NewRow(self.relation, self.resolver.world.catalog)
        row.known.update(presets)
        for position, name in enumerate(self.names):
            self._resolve_item(items, position, name, row)
        row.set_omitted()
        if self.check is not None:
            guard_new_row(row, self.check, may_be_volatile=may_be_volatile)
        items.extend(copy_tree(preset) for preset in presets.values())

    def _resolve_item(self, items: list[Node], position: int, name: str, row: NewRow) -> None:
        value = items[position]
        if "SetToDefault" in value:
            row.set_default(name, _putter(items, position))
            return
        facts = self.resolver.value(value, self.scope)
        self._note_type(name, facts)
        self._give(row, name, Given(value, facts, _putter(items, position)))

    def _give(self, row: NewRow, name: str, given: Given) -> None:
        if name in self.partial:
            row.opaque.add(name)
        else:
            row.given[name] = given

    # -- SELECT

    def _resolve_query(self, source: Node) -> None:
        """Resolve a query as the source; where something has to be put in, it becomes a sub-select, so that each value is made once."""
        query = self.resolver.query(source, self.scope)
        if query.is_open and "cols" not in self.body:
            if self.resolver.world.may_define and takes_any_row(self.relation):
                return  # as many as there are: a column that was added a moment ago is open too
            hint = "Name the columns of the relation, or those of the source."
            self.resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, "the columns of the source are not known", hint=hint)
        self._name_columns(len(query.columns))
        if not query.is_open:
            self._compare_widths(len(query.columns))
            for name, (_, facts) in zip(self.names, query.columns, strict=True):
                self._note_type(name, facts)
        presets = self._presets()
        columns = [build.column(SOURCE, f"pgf_{number}") for number in range(len(self.names))]
        row = NewRow(self.relation, self.resolver.world.catalog)
        row.known.update(presets)
        for position, name in enumerate(self.names):
            self._give(row, name, Given(columns[position], Facts(0), _putter(columns, position)))
        row.set_omitted()
        if self.check is not None:
            guard_new_row(row, self.check, may_be_volatile=False)
        columns += presets.values()
        if any(set(column) != {"ColumnRef"} for column in columns):
            self._type_literals(source["SelectStmt"], query)
            self._wrap(source, columns)
            self._add_columns(list(presets))

    def _wrap(self, source: Node, columns: list[Node]) -> None:
        """Write `SELECT <columns> FROM (source) AS pgf_source(pgf_0, ...)`."""
        names = [build.string(f"pgf_{number}") for number in range(len(self.names))]
        item = {"RangeSubselect": {"subquery": source, "alias": {"aliasname": SOURCE, "colnames": names}}}
        self.body["selectStmt"] = build.select([build.target(column) for column in columns], fromClause=[item])

    def _type_literals(self, select: dict[str, Any], query: Query) -> None:
        """Give literals among the source's columns the types that INSERT would give them; in a sub-select they would be text."""
        targets: list[Node] = select.get("targetList", [])
        if select.get("op") != "SETOP_NONE" or len(targets) != len(query.columns):
            return
        for node, name, (_, facts) in zip(targets, self.names, query.columns, strict=True):
            value = node["ResTarget"]["val"]
            if facts.type == UNKNOWN and ("A_Const" in value or "ParamRef" in value):
                node["ResTarget"]["val"] = build.cast(value, self._type_of(name))

    # -- both

    def _compare_widths(self, width: int) -> None:
        if width > len(self.names):
            self.resolver.fail(Sqlstate.SYNTAX_ERROR, "INSERT has more expressions than target columns")
        if width < len(self.names):
            self.resolver.fail(Sqlstate.SYNTAX_ERROR, "INSERT has more target columns than expressions")

    def _type_of(self, name: str) -> Node:
        return type_of_column(self.relation.columns[name].column, self.resolver.world.catalog)

    def _note_type(self, name: str, facts: Facts) -> None:
        type_oid = self.resolver.world.catalog.base_type(self.relation.columns[name].column.type_oid)
        operators.note_parameters(self.resolver, facts, type_oid)


def _putter(items: list[Node], position: int) -> Callable[[Node], None]:
    def put(made: Node) -> None:
        items[position] = made

    return put
