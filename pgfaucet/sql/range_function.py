"""Functions in FROM: calls, ROWS FROM, XMLTABLE and JSON_TABLE. Their rows are made before any qual sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql import build, expressions, registered, relations, types
from pgfaucet.sql.facts import INT8, Facts
from pgfaucet.sql.names import figure_column_name
from pgfaucet.sql.scope import Item
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.conjunct import Place
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.world import Node

    Members = list[Item | Place]

_FUNCTION_FIELDS: Final = frozenset({"lateral", "ordinality", "is_rowsfrom", "functions", "alias", "coldeflist"})
_DEFINITION_FIELDS: Final = frozenset({"colname", "typeName", "is_local", "collClause", "location"})
_XML_FIELDS: Final = frozenset({"lateral", "docexpr", "rowexpr", "namespaces", "columns", "alias", "location"})
_XML_COLUMN_FIELDS: Final = frozenset(
    {"colname", "typeName", "for_ordinality", "is_not_null", "colexpr", "coldefexpr", "location"}
)
_UNNEST_FIELDS: Final = frozenset({"funcname", "args", "funcformat", "location"})
_PLAIN: Final = expressions.PLAIN
_PATH: Final = {"string": expressions.ONE, "name": _PLAIN, "name_location": _PLAIN, "location": _PLAIN}
_FORMAT: Final = expressions.FIELDS["JsonFuncExpr"]["context_item"]["format"]
_BEHAVIOR: Final = expressions.FIELDS["JsonFuncExpr"]["on_error"]
_JSON_TABLE: Final = {
    "context_item": expressions.FIELDS["JsonFuncExpr"]["context_item"],
    "pathspec": _PATH,
    "passing": expressions.MANY,
    "on_error": _BEHAVIOR,
    "lateral": _PLAIN,
    "location": _PLAIN,
    "columns": _PLAIN,
    "alias": _PLAIN,
}
_JSON_COLUMN: Final = {
    "coltype": _PLAIN,
    "name": _PLAIN,
    "typeName": expressions.TYPE,
    "pathspec": _PATH,
    "format": _FORMAT,
    "wrapper": _PLAIN,
    "quotes": _PLAIN,
    "columns": _PLAIN,
    "on_empty": _BEHAVIOR,
    "on_error": _BEHAVIOR,
    "location": _PLAIN,
}


def resolve_function(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> tuple[list[Item], Members]:
    """Resolve a RangeFunction in place."""
    resolver.expect_fields("RangeFunction", body, _FUNCTION_FIELDS)
    scope.is_clean = False
    was_active, scope.is_lateral_active = scope.is_lateral_active, True
    name, given = relations.alias_of(resolver, body)
    _spread_unnest(body)
    found: list[_Called] = []
    for listed in body["functions"]:
        call, *definitions = listed["List"]["items"]
        found.append(_call(resolver, call, definitions[0] if definitions else {}, scope, name))
    scope.is_lateral_active = was_active
    if name is None and "CoalesceExpr" in body["functions"][0]["List"]["items"][0]:
        body["alias"] = {"aliasname": found[0].name}
    if not given and any(called.is_rewritten for called in found):  # it would be named for what stands in its place
        names = [build.string(column) for called in found for column, _ in called.columns]
        body["alias"] = {"aliasname": name or found[0].name, "colnames": names}
    item = Item(name or found[0].name, scope)
    item.is_open = any(called.is_open for called in found)
    columns = [column for called in found for column in called.columns]
    if "coldeflist" in body:
        columns, item.is_open = _definitions(resolver, body["coldeflist"]), False
    if body.get("ordinality"):
        columns.append(("ordinality", Facts(INT8)))
    if any(called.is_inlined for called in found):  # its arguments reach the quals on its rows
        item.sources = frozenset().union(*(called.facts.sources for called in found))
        columns = [(column, Facts(facts.type, is_leakproof=False, sources=item.sources)) for column, facts in columns]
    relations.name_columns(resolver, item, [(column, facts.as_column(item)) for column, facts in columns], given)
    return [item], [item]


def _spread_unnest(body: dict[str, Any]) -> None:
    """Write `unnest(a, b)` as ROWS FROM (unnest(a), unnest(b)): PostgreSQL itself knows it by its unqualified name only."""
    made = []
    for listed in body["functions"]:
        items = listed["List"]["items"]
        call = items[0].get("FuncCall", {})
        arguments = call.get("args", [])
        is_unnest = [part["String"].get("sval") for part in call.get("funcname", ())] == ["unnest"]
        if not is_unnest or len(arguments) < 2 or any(items[1:]) or not call.keys() <= _UNNEST_FIELDS:
            made.append(listed)
            continue
        body["is_rowsfrom"] = True
        made += [{"List": {"items": [{"FuncCall": call | {"args": [argument]}}, {}]}} for argument in arguments]
    body["functions"] = made


class _Called:
    """One function of a FROM item."""

    __slots__ = ("columns", "facts", "is_inlined", "is_open", "is_rewritten", "name")

    def __init__(
        self,
        name: str,
        facts: Facts,
        columns: Columns,
        *,
        is_open: bool,
        is_inlined: bool,
        is_rewritten: bool = False,
    ) -> None:
        self.name = name
        self.facts = facts
        self.columns = columns
        self.is_open = is_open
        self.is_inlined = is_inlined
        self.is_rewritten = is_rewritten


def _call(resolver: Resolver, node: Node, definitions: Node, scope: Scope, alias: str | None) -> _Called:
    name = figure_column_name(node)
    call = node.get("FuncCall")
    facts = resolver.value(node, scope)
    if (
        call is not None and "FuncCall" not in node
    ):  # a call that we answer: FROM takes it as a function only in this form
        node["CoalesceExpr"] = {"args": [{key: node.pop(key) for key in tuple(node)}]}
    if call is not None and node.get("FuncCall", call) is not call:
        columns = [
            (output, Facts(facts.type)) for output in _outputs(resolver, call, is_system=True) or (alias or name,)
        ]
        return _Called(name, facts, columns, is_open=False, is_inlined=False, is_rewritten=True)
    if "List" in definitions:
        columns = _definitions(resolver, definitions["List"]["items"])
        return _Called(name, facts, columns, is_open=False, is_inlined=_is_inlined(call))
    outputs = _outputs(resolver, call)
    held = Facts(facts.type) if registered.is_held(facts) and len(outputs) < 2 else Facts()
    columns = [(output, held) for output in outputs or (alias or name,)]
    return _Called(name, facts, columns, is_open=not outputs, is_inlined=_is_inlined(call))


def _outputs(resolver: Resolver, call: dict[str, Any] | None, *, is_system: bool = False) -> tuple[str, ...]:
    """Return the names of a function's OUT arguments, when they are certain."""
    if call is None:
        return ()
    names = strings(call["funcname"])
    if names[0] != "pg_catalog" and not is_system:
        return ()
    return resolver.world.catalog.function_columns.get(names[-1], ())


def _is_inlined(call: dict[str, Any] | None) -> bool:
    """Say whether the planner may put a SQL function's body in its place: none of the safe built-ins is inlined in FROM."""
    return call is not None and call["funcname"][0]["String"].get("sval") != "pg_catalog"


def _definitions(resolver: Resolver, nodes: list[Node]) -> Columns:
    found: Columns = []
    for node in nodes:
        definition = node["ColumnDef"]
        resolver.expect_fields("ColumnDef", definition, _DEFINITION_FIELDS)
        if "collClause" in definition:
            resolver.refuse("ColumnDef.collClause", definition)
        found.append((definition["colname"], Facts(types.resolve_type(resolver, definition["typeName"]))))
    return found


def resolve_xml_table(
    resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope
) -> tuple[list[Item], Members]:
    """Resolve XMLTABLE in place."""
    resolver.expect_fields("RangeTableFunc", body, _XML_FIELDS)
    scope.is_clean = False
    was_active, scope.is_lateral_active = scope.is_lateral_active, True
    for key in ("rowexpr", "docexpr"):
        resolver.value(body[key], scope)
    for node in body.get("namespaces", ()):
        resolver.value(node["ResTarget"]["val"], scope)
    columns: Columns = []
    for node in body["columns"]:
        column = node["RangeTableFuncCol"]
        resolver.expect_fields("RangeTableFuncCol", column, _XML_COLUMN_FIELDS)
        type_oid = types.resolve_type(resolver, column["typeName"]) if "typeName" in column else 23
        for key in ("colexpr", "coldefexpr"):
            if key in column:
                resolver.value(column[key], scope)
        columns.append((column["colname"], Facts(type_oid)))
    scope.is_lateral_active = was_active
    return _table_item(resolver, body, scope, columns, "xmltable")


def resolve_json_table(
    resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope
) -> tuple[list[Item], Members]:
    """Resolve JSON_TABLE in place; LATERAL before it means nothing to the server, and the deparser does not print it."""
    body.pop("lateral", None)
    scope.is_clean = False
    was_active, scope.is_lateral_active = scope.is_lateral_active, True
    parts: list[Facts] = []
    expressions.resolve_fields(resolver, "JsonTable", _JSON_TABLE, body, scope, parts)
    columns: Columns = []
    _json_columns(resolver, body.get("columns", []), scope, columns)
    scope.is_lateral_active = was_active
    scope.is_volatile = scope.is_volatile or any(part.is_volatile for part in parts)
    return _table_item(resolver, body, scope, columns, "json_table")


def _json_columns(resolver: Resolver, nodes: list[Node], scope: Scope, columns: Columns) -> None:
    for node in nodes:
        column = node["JsonTableColumn"]
        parts: list[Facts] = []
        expressions.resolve_fields(resolver, "JsonTableColumn", _JSON_COLUMN, column, scope, parts)
        _json_columns(resolver, column.get("columns", []), scope, columns)
        if column.get("coltype") != "JTC_NESTED":
            columns.append((column["name"], Facts()))


def _table_item(
    resolver: Resolver, body: dict[str, Any], scope: Scope, columns: Columns, default: str
) -> tuple[list[Item], Members]:
    name, given = relations.alias_of(resolver, body)
    item = Item(name or default, scope)
    relations.name_columns(resolver, item, [(column, facts.as_column(item)) for column, facts in columns], given)
    return [item], [item]
