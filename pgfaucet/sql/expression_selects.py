"""Resolves the sub-selects of a policy expression: FROM, WITH, target list and the rest, under private aliases.

The rules are those of PostgreSQL's parser (parse_clause.c, parse_relation.c, parse_target.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.expression_scope import Entry, PolicyError, Scope, mistake, nearest
from pgfaucet.sql.names import ANONYMOUS, figure_column_name
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.expression_names import Names
    from pgfaucet.sql.expression_scope import Body
    from pgfaucet.sql.world import Node

Columns = tuple[str, ...] | None
"""Column names in order; None when they are not known."""

PLAIN_CLAUSES: Final = ("whereClause", "havingClause", "windowClause", "limitOffset", "limitCount")
KEPT_FIELDS: Final = ("op", "all", "limitOption", "groupDistinct")
SELECT_CLAUSES: Final = frozenset(
    (*PLAIN_CLAUSES, *KEPT_FIELDS, "distinctClause", "targetList", "fromClause", "groupClause", "valuesLists", "sortClause",
     "withClause", "larg", "rarg")
)  # fmt: skip
POLYMORPHIC_ROWS: Final = frozenset(
    {"json_populate_record", "json_populate_recordset", "jsonb_populate_record", "jsonb_populate_recordset"}
)
"""Functions of pg_catalog whose columns follow from their argument."""


class Selects:
    """Resolves sub-selects for one expression."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def select(self, body: Body, parent: Scope) -> tuple[Body, Columns]:
        """Resolve a SELECT; also return its output columns."""
        unknown = body.keys() - SELECT_CLAUSES
        if unknown:
            raise PolicyError(f"{min(unknown)} cannot stand in a policy expression")
        scope = Scope(parent)
        made: Body = {}
        if "withClause" in body:
            made["withClause"] = self._with(body["withClause"], scope)
        if "larg" in body:
            made["larg"], columns = self.select(body["larg"], scope)
            made["rarg"], _ = self.select(body["rarg"], scope)
        elif "valuesLists" in body:
            made["valuesLists"] = [self._names.node(row, scope) for row in body["valuesLists"]]
            columns = tuple(f"column{place + 1}" for place in range(len(body["valuesLists"][0]["List"]["items"])))
        else:
            columns = self._query(body, scope, made)
        scope.outputs = frozenset(columns or ())
        made |= {key: self._outputs_first(body[key], scope) for key in ("sortClause", "distinctClause") if key in body}
        made |= {key: self._names.part(body[key], scope) for key in PLAIN_CLAUSES if key in body}
        return made | {key: body[key] for key in KEPT_FIELDS if key in body}, columns

    def _query(self, body: Body, scope: Scope, made: Body) -> Columns:
        if "fromClause" in body:
            made["fromClause"] = [self._from_item(item, scope) for item in body["fromClause"]]
        targets: list[Node] = []
        columns: list[str] = []
        is_known = True
        for item in body.get("targetList", ()):
            found, names = self._target(item["ResTarget"], scope)
            targets += found
            columns += names or ()
            is_known = is_known and names is not None
        if targets:
            made["targetList"] = targets
        if "groupClause" in body:
            made["groupClause"] = [self._group_item(item, scope, columns) for item in body["groupClause"]]
        return tuple(columns) if is_known else None

    # -- target list, ORDER BY, GROUP BY

    def _target(self, body: Body, scope: Scope) -> tuple[list[Node], Columns]:
        value = body["val"]
        fields = value.get("ColumnRef", {}).get("fields", [{}])
        if "A_Star" in fields[-1]:
            return self._star(strings(fields[:-1]), value["ColumnRef"], scope)
        name = body.get("name") or figure_column_name(value)
        return [build.target(self._names.node(value, scope), name if name != ANONYMOUS else None)], (name,)

    def _star(self, qualifier: list[str], body: Body, scope: Scope) -> tuple[list[Node], Columns]:
        entries = [self._names.owner(qualifier, body, scope)] if qualifier else scope.entries
        targets: list[Node] = []
        names: list[str] = []
        for entry in entries:
            if entry.columns is None:
                targets.append(build.target({"ColumnRef": {"fields": [build.string(entry.alias), {"A_Star": {}}]}}))
                continue
            shown = entry.columns if qualifier else [name for name in entry.columns if entry.bare(name)]
            targets += [build.target(self._names.reference(entry, name, body), name) for name in shown]
            names += shown
        return targets, None if any(entry.columns is None for entry in entries) else tuple(names)

    def _outputs_first(self, items: list[Node], scope: Scope) -> list[Node]:
        """Resolve ORDER BY or DISTINCT ON: a bare name means an output column first."""
        made = []
        for item in items:
            sort = item.get("SortBy")
            name = bare_name(sort["node"] if sort is not None else item)
            if name is None or name not in scope.outputs:
                made.append(self._names.node(item, scope))
            elif sort is None:
                made.append(build.column(name))
            else:
                rest = {key: value for key, value in sort.items() if key not in {"node", "location"}}
                made.append({"SortBy": rest | {"node": build.column(name)}})
        return made

    def _group_item(self, item: Node, scope: Scope, outputs: list[str]) -> Node:
        """Resolve a GROUP BY item: a bare name means an input column first."""
        name = bare_name(item)
        if name in outputs and not any(entry.bare(str(name)) for entry in scope.entries):
            return build.column(str(name))
        return self._names.node(item, scope)

    # -- WITH

    def _with(self, body: Body, scope: Scope) -> Body:
        made = []
        for item in body["ctes"]:
            query = item["CommonTableExpr"]
            select = query["ctequery"].get("SelectStmt")
            if select is None or "search_clause" in query or "cycle_clause" in query:
                raise mistake("only a plain SELECT can stand in WITH", query)
            given = tuple(part["String"]["sval"] for part in query.get("aliascolnames", ()))
            alias = self._names.private_alias()
            if body.get("recursive"):
                scope.queries[query["ctename"]] = Entry(
                    query["ctename"], alias, self._first_columns(select, given, scope)
                )
            resolved, columns = self.select(select, scope)
            scope.queries[query["ctename"]] = Entry(query["ctename"], alias, renamed(columns, given))
            kept = {key: query[key] for key in ("aliascolnames", "ctematerialized") if key in query}
            made.append({"CommonTableExpr": kept | {"ctename": alias, "ctequery": {"SelectStmt": resolved}}})
        return {"ctes": made} | ({"recursive": True} if body.get("recursive") else {})

    def _first_columns(self, select: Body, given: tuple[str, ...], scope: Scope) -> Columns:
        """Return the columns of a recursive WITH query: those of its non-recursive arm."""
        while "larg" in select:
            select = select["larg"]
        return renamed(self.select(select, scope)[1], given)

    # -- FROM

    def _from_item(self, item: Node, scope: Scope) -> Node:
        node, entries = self._item(item, scope, scope.entries)
        scope.entries = [*scope.entries, *entries]
        return node

    def _item(self, item: Node, scope: Scope, before: list[Entry]) -> tuple[Node, list[Entry]]:
        ((kind, body),) = item.items()
        match kind:
            case "RangeVar":
                return self._relation(body, scope)
            case "RangeSubselect":
                return self._subselect(body, scope, before)
            case "RangeFunction":
                return self._function(body, scope, before)
            case "JoinExpr":
                return self._join(body, scope, before)
            case _:
                raise mistake(f"{kind} cannot stand in a policy expression", body)

    def _relation(self, body: Body, scope: Scope) -> tuple[Node, list[Entry]]:
        name = body["relname"]
        query = self._with_query(name, scope) if "schemaname" not in body else None
        if query is not None:
            schema, printed, columns = None, query.alias, query.columns
        else:
            schema, columns = self._table(body)
            printed = name
        given = alias_columns(body)
        alias = self._names.private_alias()
        entry = Entry(alias_name(body) or name, alias, renamed(columns, given), schema if "alias" not in body else None)
        made: Body = {
            "relname": printed,
            "inh": body.get("inh", False),
            "relpersistence": "p",
            "alias": _alias(alias, given),
        }
        if schema is not None:
            made["schemaname"] = schema
        return {"RangeVar": made}, [entry]

    def _with_query(self, name: str, scope: Scope) -> Entry | None:
        return next((level.queries[name] for level in scope.levels() if name in level.queries), None)

    def _table(self, body: Body) -> tuple[str, Columns]:
        name, written = body["relname"], body.get("schemaname")
        relations = self._names.catalog.relations
        for schema in [written] if written is not None else self._names.path:
            found = relations.get(QualifiedName(schema, name))
            if found is not None and "catalogname" not in body:
                return schema, tuple(column.name for column in found.columns)
        shown = name if written is None else f"{written}.{name}"
        known = [
            each.name
            for each in relations
            if each.schema == written or (written is None and each.schema in self._names.path)
        ]
        raise mistake(f'relation "{shown}" does not exist', body, nearest(name, known))

    def _subselect(self, body: Body, scope: Scope, before: list[Entry]) -> tuple[Node, list[Entry]]:
        select = body["subquery"]["SelectStmt"]
        parent = Scope(scope.parent, before if body.get("lateral") else [], scope.queries)
        made, columns = self.select(select, parent)
        given = alias_columns(body)
        alias = self._names.private_alias()
        lateral = {"lateral": True} if body.get("lateral") else {}
        node = {"RangeSubselect": lateral | {"subquery": {"SelectStmt": made}, "alias": _alias(alias, given)}}
        return node, [Entry(alias_name(body), alias, renamed(columns, given))]

    def _function(self, body: Body, scope: Scope, before: list[Entry]) -> tuple[Node, list[Entry]]:
        given = alias_columns(body)
        around = Scope(scope.parent, before, scope.queries)
        columns: list[str] = []
        is_known = True
        for function in body["functions"]:
            found = self._function_columns(function["List"]["items"], body)
            columns += found or ()
            is_known = is_known and found is not None
        if body.get("ordinality"):
            columns.append("ordinality")
        alias = self._names.private_alias()
        made = self._names.body(body, around, ("alias",)) | {
            "alias": _alias(alias, given or tuple(columns if is_known else ()))
        }
        name = alias_name(body) or figure_column_name(body["functions"][0]["List"]["items"][0])
        if "coldeflist" in body:
            made["alias"] = _alias(alias, ())
        return {"RangeFunction": made}, [Entry(name, alias, renamed(tuple(columns) if is_known else None, given))]

    def _function_columns(self, items: list[Node], body: Body) -> Columns:
        definitions = (items[1] if len(items) > 1 else {}).get("List", {}).get("items") or body.get("coldeflist")
        if definitions:
            return tuple(item["ColumnDef"]["colname"] for item in definitions)
        call = items[0].get("FuncCall")
        if call is None:
            return (figure_column_name(items[0]),)
        written = strings(call["funcname"])
        is_alone = len(body["functions"]) == 1
        shown = (alias_name(body) if is_alone else None) or written[-1]
        if written[0] in self._names.pseudo:
            return (shown,)
        name = self._names.function(written, call)
        if name.schema != "pg_catalog":
            return self._own_function_columns(name, shown)
        if name.name in POLYMORPHIC_ROWS:
            return None
        columns: Columns = self._names.catalog.function_columns.get(name.name, (shown,))
        return columns

    def _own_function_columns(self, name: QualifiedName, shown: str) -> Columns:
        catalog = self._names.catalog
        found = set()
        for function in catalog.functions[name]:
            returned = catalog.types.get(function.return_type)
            relation = (
                catalog.relation_by_oid(returned.relation) if returned is not None and returned.relation else None
            )
            relation = relation or (catalog.composites.get(returned.relation) if returned is not None else None)
            row = tuple(column.name for column in relation.columns) if relation is not None else (shown,)
            found.add(function.output_columns or row)
        return found.pop() if len(found) == 1 else None

    def _join(self, body: Body, scope: Scope, before: list[Entry]) -> tuple[Node, list[Entry]]:
        if body.get("isNatural"):
            raise mistake(
                "NATURAL JOIN would change its meaning with the tables' columns", body, "Write JOIN ... USING."
            )
        left, left_entries = self._item(body["larg"], scope, before)
        right, right_entries = self._item(body["rarg"], scope, [*before, *left_entries])
        entries = [*left_entries, *right_entries]
        made: Body = {"jointype": body["jointype"], "larg": left, "rarg": right}
        if "quals" in body:
            made["quals"] = self._names.node(body["quals"], Scope(scope.parent, entries, scope.queries))
        if "usingClause" in body:
            entries = [self._using(body, left_entries, right_entries, made), *entries]
        if "alias" in body:
            shown = [name for entry in entries for name in entry.columns or () if entry.bare(name)]
            columns = None if any(entry.columns is None for entry in entries) else tuple(shown)
            alias = self._names.private_alias()
            made["alias"] = _alias(alias, alias_columns(body))
            entries = [Entry(alias_name(body), alias, renamed(columns, alias_columns(body)))]
        return {"JoinExpr": made}, entries

    def _using(self, body: Body, left: list[Entry], right: list[Entry], made: Body) -> Entry:
        names = tuple(part["String"]["sval"] for part in body["usingClause"])
        for name in names:
            for side in (left, right):
                if sum(entry.bare(name) for entry in side) != 1:
                    raise mistake(f'column "{name}" in USING must be in both sides once', body)
        for entry in (*left, *right):
            entry.merged |= frozenset(names)
        alias = self._names.private_alias()
        made |= {"usingClause": body["usingClause"], "join_using_alias": {"aliasname": alias}}
        return Entry(body.get("join_using_alias", {}).get("aliasname"), alias, names)


def alias_name(body: Body) -> str | None:
    """Return the alias given to an item of FROM."""
    name: str | None = body.get("alias", {}).get("aliasname")
    return name


def alias_columns(body: Body) -> tuple[str, ...]:
    """Return the column aliases given to an item of FROM."""
    return tuple(part["String"]["sval"] for part in body.get("alias", {}).get("colnames", ()))


def renamed(columns: Columns, given: tuple[str, ...]) -> Columns:
    """Return columns under a list of aliases, which may be shorter."""
    return (*given, *columns[len(given) :]) if columns is not None else (given or None)


def bare_name(node: Node) -> str | None:
    """Return the name if a node is a column reference of one part."""
    fields = node.get("ColumnRef", {}).get("fields", ())
    name: str | None = fields[0].get("String", {}).get("sval") if len(fields) == 1 else None
    return name


def _alias(name: str, columns: tuple[str, ...]) -> Body:
    return {"aliasname": name} | ({"colnames": [build.string(column) for column in columns]} if columns else {})
