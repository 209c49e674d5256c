"""Resolves the names of a policy expression: columns, relations, functions and types, as PostgreSQL would on the role's search_path.

For the policy's author, who may name anything in the database; the resolver for clients is `sql.resolve` and sees a World only.
Sub-selects get private aliases, so that a compiled expression can stand inside any client statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.expression_scope import Entry, Scope, mistake, nearest
from pgfaucet.sql.expression_selects import Selects
from pgfaucet.sql.tree import strings
from pgfaucet.sql.world import OWN_ROW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgfaucet.sql.catalog import CatalogSnapshot, Function, Relation
    from pgfaucet.sql.expression_scope import Body
    from pgfaucet.sql.world import Node

    Pseudo = Callable[[list[Node]], Node]
    """A function that stands for a tree: takes its arguments, already resolved, and returns what is to be resolved in its place."""

PRIVATE: Final = "pgf_"

RESOLVED: Final = "Resolved"
"""Names a node whose body is a tree that is resolved already."""

ORDINARY: Final = frozenset(
    {
        "A_ArrayExpr",
        "A_Const",
        "A_Indices",
        "BitString",
        "BoolExpr",
        "Boolean",
        "BooleanTest",
        "CaseExpr",
        "CaseWhen",
        "CoalesceExpr",
        "ColumnDef",
        "Float",
        "GroupingSet",
        "Integer",
        "JsonArgument",
        "JsonArrayConstructor",
        "JsonArrayQueryConstructor",
        "JsonBehavior",
        "JsonFormat",
        "JsonFuncExpr",
        "JsonIsPredicate",
        "JsonKeyValue",
        "JsonObjectConstructor",
        "JsonOutput",
        "JsonParseExpr",
        "JsonReturning",
        "JsonScalarExpr",
        "JsonSerializeExpr",
        "JsonValueExpr",
        "List",
        "MinMaxExpr",
        "NamedArgExpr",
        "NullTest",
        "RowExpr",
        "String",
        "TypeCast",
        "WindowDef",
        "XmlExpr",
        "XmlSerialize",
    }
)
"""Nodes that need nothing but that what is in them is resolved. A node neither here nor among the rules of `Names` is refused."""

LOCATIONS: Final = frozenset({"location", "list_start", "list_end", "rexpr_list_start", "rexpr_list_end"})
SESSION_FUNCTIONS: Final = frozenset(
    {"SVFOP_CURRENT_ROLE", "SVFOP_CURRENT_USER", "SVFOP_USER", "SVFOP_SESSION_USER", "SVFOP_CURRENT_SCHEMA"}
)


class Names:
    """Resolves one expression over one relation."""

    def __init__(
        self,
        catalog: CatalogSnapshot,
        search_path: tuple[str, ...],
        relation: Relation,
        *,
        pseudo: Mapping[str, Pseudo],
        may_read_row: bool,
    ) -> None:
        self.own_columns: set[str] = set()
        self.has_sublink = False
        self.catalog = catalog
        self.path = ("pg_catalog", *(schema for schema in search_path if schema != "pg_catalog"))
        self._relation = relation
        self.pseudo = pseudo
        self._may_read_row = may_read_row
        self._depth = 0  # sub-selects around us
        self._private = 0  # aliases given out
        self._rules: dict[str, Callable[[Body, Scope], Node]] = {
            "A_Expr": self._operation,
            "A_Indirection": self._indirection,
            "CollateClause": self._collation,
            "ColumnRef": self._column,
            "FuncCall": self._call,
            RESOLVED: lambda body, _: body,
            "SQLValueFunction": self._value_function,
            "SortBy": self._sort,
            "SubLink": self._sublink,
        }

    def resolve(self, node: Node) -> Node:
        """Return the resolved copy of an expression."""
        columns = tuple(column.name for column in self._relation.columns)
        row = Entry(self._relation.name.name, OWN_ROW, columns, schema=self._relation.name.schema)
        return self.node(node, Scope(None, [row]))

    def private_alias(self) -> str:
        """Return an alias that no client statement can have and that nothing else in the expression has."""
        self._private += 1
        return f"{PRIVATE}{self._private}"

    # -- trees

    def node(self, node: Node, scope: Scope) -> Node:
        """Resolve a node of an expression."""
        if not node:
            return {}  # a NULL in a list
        ((kind, body),) = node.items()
        rule = self._rules.get(kind)
        if rule is not None:
            return rule(body, scope)
        if kind not in ORDINARY:
            raise mistake(f"{kind} cannot stand in a policy expression", body)
        return {kind: self.body(body, scope)}

    def body(self, body: Body, scope: Scope, skip: Sequence[str] = ()) -> Body:
        """Resolve every field of a node but those to skip."""
        return {
            key: self._type(value) if key == "typeName" else self.part(value, scope)
            for key, value in body.items()
            if key not in LOCATIONS and key not in skip
        }

    def part(self, value: Any, scope: Scope) -> Any:
        """Resolve a field of a node: a node, a list, a message or a plain value."""
        if isinstance(value, list):
            return [self.part(item, scope) for item in value]
        if not isinstance(value, dict):
            return value
        is_node = not value or (len(value) == 1 and next(iter(value))[0].isupper())
        return self.node(value, scope) if is_node else self.body(value, scope)

    # -- names of columns

    def _column(self, body: Body, scope: Scope) -> Node:
        if "A_Star" in body["fields"][-1]:
            raise mistake("* cannot stand here", body)
        names = strings(body["fields"])
        if names[0].startswith(PRIVATE):
            raise mistake(f'the name "{names[0]}" is reserved: nothing may begin with {PRIVATE}', body)
        entry = self._owner_of_bare(names[0], body, scope) if len(names) == 1 else self.owner(names[:-1], body, scope)
        if entry is None:
            return self._whole_row(names[0], body, scope)
        return self.reference(entry, names[-1], body)

    def reference(self, entry: Entry, name: str, body: Body) -> Node:
        """Make the reference to a column of something in FROM, or of the relation itself."""
        if entry.columns is not None and name not in entry.columns:
            raise mistake(f'column "{name}" of "{entry.name}" does not exist', body, nearest(name, entry.columns))
        if entry.alias == OWN_ROW:
            if not self._may_read_row:
                raise mistake("a preset cannot use columns", body)
            self.own_columns.add(name)
        return build.column(entry.alias, name)

    def _owner_of_bare(self, name: str, body: Body, scope: Scope) -> Entry | None:
        for level in scope.levels():
            found = [(entry, count) for entry in level.entries if (count := entry.bare(name))]
            if sum(count for _, count in found) > 1:
                raise mistake(f'column reference "{name}" is ambiguous', body)
            if found:
                return found[0][0]
        return None

    def owner(self, qualifier: list[str], body: Body, scope: Scope) -> Entry:
        """Find what `alias.` or `schema.relation.` stands for."""
        schema, name = (None, qualifier[0]) if len(qualifier) == 1 else (qualifier[-2], qualifier[-1])
        for level in scope.levels():
            for entry in level.entries:
                if entry.name == name and (schema is None or entry.schema == schema) and len(qualifier) < 3:
                    return entry
        raise mistake(f'missing FROM-clause entry for table "{name}"', body)

    def _whole_row(self, name: str, body: Body, scope: Scope) -> Node:
        entry = next((entry for level in scope.levels() for entry in level.entries if entry.name == name), None)
        if entry is None:
            known = [column for level in scope.levels() for entry in level.entries for column in entry.columns or ()]
            raise mistake(f'column "{name}" does not exist', body, nearest(name, known))
        if entry.alias == OWN_ROW:
            raise mistake("a policy expression names columns, not the whole row", body)
        return build.column(entry.alias)

    # -- expressions

    def _operation(self, body: Body, scope: Scope) -> Node:
        if "BETWEEN" not in body["kind"]:
            self._check_operator(body["name"], body)
        return {"A_Expr": self.body(body, scope, ("name",)) | {"name": body["name"]}}

    def _check_operator(self, name: Sequence[Node], body: Body) -> None:
        if len(name) == 1 and (operator := name[0]["String"]["sval"]) not in self.catalog.system_operators:
            raise mistake(f"operator {operator} is not one of pg_catalog", body, f"Write OPERATOR(schema.{operator}).")

    def _sort(self, body: Body, scope: Scope) -> Node:
        self._check_operator(body.get("useOp", ()), body)
        return {"SortBy": self.body(body, scope, ("useOp",)) | ({"useOp": body["useOp"]} if "useOp" in body else {})}

    def _indirection(self, body: Body, scope: Scope) -> Node:
        if any("A_Star" in step for step in body["indirection"]):
            raise mistake("* cannot stand here", body)
        return {"A_Indirection": self.body(body, scope)}

    def _collation(self, body: Body, scope: Scope) -> Node:
        names = body["collname"]
        qualified = names if len(names) > 1 else [build.string("pg_catalog"), *names]
        return {"CollateClause": self.body(body, scope, ("collname",)) | {"collname": qualified}}

    def _value_function(self, body: Body, scope: Scope) -> Node:
        if body.get("op") in SESSION_FUNCTIONS:
            raise mistake(
                "this would tell about the proxy's own session", body, "Use claim('...') for what a token says."
            )
        return {"SQLValueFunction": self.body(body, scope)}

    def _call(self, body: Body, scope: Scope) -> Node:
        names = strings(body["funcname"])
        if names == ["claim"]:
            return self._claim(body)
        if len(names) == 1 and names[0] in self.pseudo:
            args = [{RESOLVED: self.node(arg, scope)} for arg in body.get("args", [])]
            return self.node(self.pseudo[names[0]](args), Scope(None))
        name = self.function(names, body)
        self._check_traits(name, body)
        qualified = [build.string(name.schema), build.string(name.name)]
        return {"FuncCall": self.body(body, scope, ("funcname",)) | {"funcname": qualified}}

    def _claim(self, body: Body) -> Node:
        args = body.get("args", [])
        if len(args) != 1 or "sval" not in args[0].get("A_Const", {}):
            raise mistake("claim() takes the name of a claim, in single quotes", body)
        return {
            "FuncCall": {"funcname": body["funcname"], "args": [build.text(args[0]["A_Const"]["sval"].get("sval", ""))]}
        }

    def function(self, names: list[str], body: Body) -> QualifiedName:
        """Find the function of that name, as the search_path has it."""
        schemas = self.path if len(names) == 1 else names[:1]
        for schema in schemas if len(names) <= 2 else ():
            name = QualifiedName(schema, names[-1])
            is_system = schema == "pg_catalog" and name.name in self.catalog.system_functions
            if is_system or name in self.catalog.functions:
                return name
        hint = nearest(names[-1], self.catalog.system_functions)
        raise mistake(f"function {'.'.join(names)} does not exist", body, hint)

    def _check_traits(self, name: QualifiedName, body: Body) -> None:
        catalog = self.catalog
        overloads = self._overloads(name)
        is_volatile = name.name in catalog.volatile_functions
        is_aggregate = name.name in catalog.aggregate_functions
        returns_set = name.name in catalog.set_functions
        if overloads:
            is_volatile = any(found.volatility == "v" for found in overloads)
            is_aggregate = any(found.kind in {"a", "w"} for found in overloads)
            returns_set = any(found.returns_set for found in overloads)
        if is_volatile:
            raise mistake(
                f"function {name} is volatile", body, "Policy expressions may call immutable and stable functions."
            )
        if self._depth == 0 and (is_aggregate or "over" in body):
            raise mistake(f"{name} is an aggregate or window function", body, "It can only stand in a sub-select.")
        if self._depth == 0 and returns_set:
            raise mistake(f"function {name} returns a set", body, "It can only stand in a sub-select.")

    def _overloads(self, name: QualifiedName) -> tuple[Function, ...]:
        return () if name.schema == "pg_catalog" else self.catalog.functions.get(name, ())

    def _type(self, body: Body) -> Body:
        names = strings(body.get("names", []))
        if body.get("setof") or body.get("pct_type"):
            raise mistake("a policy expression names a plain type", body)
        for schema in self.path if len(names) == 1 else names[:1]:
            if self.catalog.type_named(QualifiedName(schema, names[-1])) is not None:
                qualified = build.type_names(schema, names[-1], has_length="typmods" in body)
                return {key: value for key, value in body.items() if key not in LOCATIONS} | {"names": qualified}
        raise mistake(f"type {'.'.join(names)} does not exist", body)

    # -- sub-selects

    def _sublink(self, body: Body, scope: Scope) -> Node:
        self.has_sublink = True
        self._check_operator(body.get("operName", ()), body)
        select = body["subselect"].get("SelectStmt")
        if select is None:
            raise mistake("a sub-select must be a SELECT", body)
        self._depth += 1
        made, _ = Selects(self).select(select, scope)
        self._depth -= 1
        operator = {"operName": body["operName"]} if "operName" in body else {}
        return {
            "SubLink": self.body(body, scope, ("subselect", "operName"))
            | operator
            | {"subselect": {"SelectStmt": made}}
        }
