"""The resolver of one statement: walks its tree once against a World, qualifies every name in place, and notes what rewriting needs.

How to use it (SELECT: `select.py`; data-modifying statements build on the same calls):

    resolver = Resolver(context)
    scope = resolver.scope()                               # a query level; resolver.scope(outer) for one inside another
    with_clause.resolve_with(resolver, body, scope)        # body: the statement's fields; reads "withClause"
    from_clause.resolve_from(resolver, nodes, scope)       # fills scope.items
    facts = resolver.value(node, scope)                    # one expression, in place
    resolver.condition(body, "whereClause", scope)         # a qual: taken apart and judged conjunct by conjunct
    columns = targets.resolve_targets(resolver, nodes, scope)
    query = resolver.query(node, scope)                    # any statement that returns columns (sub-select, WITH query)
    fence.finish(resolver)                                 # judge, push in, fence, write the sub-selects; after everything else

A node class or a field that no table lists is refused (0A000): there is no default that lets a node pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import conjunct, operators, select
from pgfaucet.sql.expressions import EXPRESSIONS
from pgfaucet.sql.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.conjunct import Condition
    from pgfaucet.sql.facts import Facts
    from pgfaucet.sql.query import Query
    from pgfaucet.sql.registered import Shown
    from pgfaucet.sql.rewritten import RewriteContext
    from pgfaucet.sql.scope import RelationItem
    from pgfaucet.sql.world import Node, VisibleRelation

    Expression = Callable[["Resolver", Node, dict[str, Any], Scope], Facts]
    Statement = Callable[["Resolver", dict[str, Any], Scope | None], Query]

_SORT_FIELDS: Final = frozenset({"node", "sortby_dir", "sortby_nulls", "useOp", "location"})
_WINDOW_FIELDS: Final = frozenset(
    {"name", "refname", "partitionClause", "orderClause", "frameOptions", "startOffset", "endOffset", "location"}
)


class Resolver:
    """State of one statement while it is resolved."""

    __slots__ = (
        "aggregate_depth",
        "conditions",
        "context",
        "equalities",
        "held_targets",
        "narrow_rows",
        "notes",
        "opened",
        "parameter_uses",
        "pin",
        "qualifies",
        "relations",
        "replacements",
        "settings",
        "tables",
        "world",
    )

    expressions: ClassVar[dict[str, Expression]] = EXPRESSIONS
    statements: ClassVar[dict[str, Statement]] = {
        "SelectStmt": select.resolve_select
    }  # sql.rewrite adds the writing ones

    def __init__(self, context: RewriteContext, *, qualifies: bool = False) -> None:
        """`qualifies`: write every column reference with its relation's alias, as a level with a raw target needs."""
        self.context = context
        self.world = context.world
        self.qualifies = qualifies
        self.opened: list[dict[str, Any]] = []  # every RangeVar that was resolved
        self.relations: list[RelationItem] = []  # every relation the statement reads, in order of appearance
        self.conditions: list[Condition] = []
        self.equalities: list[Facts] = []  # what USING and NATURAL compare
        self.held_targets: list[Shown] = []  # target lists that give values of regclass and its kin
        self.narrow_rows: dict[int, str] = {}  # whole rows that lack hidden columns, by the id of their node: the table
        self.tables: set[str] = set()
        self.notes: dict[str, None] = {}  # reasons, in order
        self.settings: list[str] = []  # settings that a function called here changes
        self.pin: str | None = None  # what a function called here leaves behind on the connection
        self.aggregate_depth = 0
        self.replacements = 0  # nodes replaced by others: the output name must then be kept
        self.parameter_uses: dict[int, dict[Facts, set[int]]] = {}  # undeclared $n: each use -> types it stands against

    def scope(self, parent: Scope | None = None) -> Scope:
        """Open a query level."""
        return Scope(self.world, parent)

    def expression(self, node: Node, scope: Scope) -> Facts:
        """Resolve one expression in place and return what is known of it."""
        if len(node) != 1:
            self.refuse("an expression", None)
        for kind, body in node.items():
            handler = self.expressions.get(kind)
            if handler is None:
                self.refuse(kind, body)
            return handler(self, node, body, scope)
        raise AssertionError  # not reached: the node has one item

    def value(self, node: Node, scope: Scope) -> Facts:
        """Resolve an expression that a clause of `scope` evaluates."""
        facts = self.expression(node, scope)
        if not facts.is_leakproof:
            scope.is_clean = False
        if facts.is_volatile:
            scope.is_volatile = True
        return facts

    def condition(self, body: dict[str, Any], key: str, scope: Scope) -> None:
        """Resolve the qual in body[key], if there is one; rewriting may move its conjuncts."""
        if key in body:
            self.conditions.append(conjunct.resolve_condition(self, body, key, scope))

    def having(self, body: dict[str, Any], scope: Scope) -> None:
        """Resolve HAVING; its conjuncts stay where they are."""
        if "havingClause" in body:
            self.conditions.append(conjunct.resolve_condition(self, body, "havingClause", scope, may_move=False))

    def sort_key(self, node: Node, scope: Scope, *, keep: bool = False) -> Facts:
        """Resolve a SortBy; `keep`: it is a clause of `scope` itself."""
        sort = node["SortBy"]
        self.check_sort(sort)
        return self.value(sort["node"], scope) if keep else self.expression(sort["node"], scope)

    def check_sort(self, sort: dict[str, Any]) -> None:
        """Check what a SortBy says beside its expression."""
        self.expect_fields("SortBy", sort, _SORT_FIELDS)
        if "useOp" in sort:
            operators.operator_name(self, sort["useOp"], sort)

    def window(self, body: dict[str, Any], scope: Scope) -> list[Facts]:
        """Resolve a window definition."""
        self.expect_fields("WindowDef", body, _WINDOW_FIELDS)
        found = [self.expression(node, scope) for node in body.get("partitionClause", ())]
        found += [self.sort_key(node, scope) for node in body.get("orderClause", ())]
        return found + [self.expression(body[key], scope) for key in ("startOffset", "endOffset") if key in body]

    def query(self, node: Node, scope: Scope | None) -> Query:
        """Resolve a statement that gives columns; `scope` is the level it stands in."""
        for kind, body in node.items():
            handler = self.statements.get(kind)
            if handler is None:
                self.refuse(kind, body)
            return handler(self, body, scope)
        self.refuse("an empty statement", None)

    def expect_fields(self, kind: str, body: dict[str, Any], fields: frozenset[str]) -> None:
        """Refuse a node with a field that its handler does not know."""
        if not body.keys() <= fields:
            unknown = sorted(body.keys() - fields)
            self.refuse(f"{kind}.{unknown[0]}", body)

    def fail(self, sqlstate: str, message: str, location: int | None = None, hint: str | None = None) -> NoReturn:
        """Raise an error as PostgreSQL words it; `location` is a byte offset as the tree has it."""
        raise FaucetError(sqlstate, message, hint=hint, position=self.position(location))

    def refuse(self, what: str, body: object) -> NoReturn:
        """Refuse a node class or a field that is not listed."""
        location = body.get("location") if isinstance(body, dict) else None
        raise FaucetError(
            Sqlstate.FEATURE_NOT_SUPPORTED,
            "this form of statement is not supported",
            position=self.position(location),
            reason=f"not listed: {what}",
        )

    def position(self, location: int | None) -> int | None:
        """Turn a byte offset into a character position from 1."""
        if location is None or location < 0 or not self.context.text:
            return None
        return len(self.context.text.encode()[:location].decode(errors="ignore")) + 1

    def note(self, relation: VisibleRelation) -> None:
        """Take down that the statement touches a relation, and why it may."""
        name = str(relation.relation.name)
        if name not in self.tables:
            self.tables.add(name)
            self.notes[f"{name}: {relation.grant_source}"] = None
