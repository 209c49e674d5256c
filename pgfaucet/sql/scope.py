"""Scopes of names: what a column, a relation alias or a WITH query means at one place of a statement.

`Item` is a ParseNamespaceItem of PostgreSQL, `Scope` a ParseState: the rules are those of parser/parse_relation.c and parse_clause.c.
Holds no tree except the node that an item will be written back to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from pgfaucet.sql.facts import NONE, REGISTERED, Facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgfaucet.sql.world import Node, VisibleRelation, World

Columns = list[tuple[str, Facts]]
WHOLE_ROW: Final = ""
"""Stands for the row itself among the columns that a grouped level reads."""

SYSTEM_COLUMNS: Final = {"ctid": 27, "xmin": 28, "cmin": 29, "xmax": 28, "cmax": 29, "tableoid": 26}


class Item:
    """One entry of the namespace: a derived table, function, WITH query, join, or (RelationItem) a relation."""

    __slots__ = (
        "_by_name",
        "columns",
        "has_columns_in_sight",
        "is_lateral_ok",
        "is_lateral_only",
        "is_open",
        "lockable",
        "name",
        "nullable",
        "scope",
        "sources",
        "stands_by_name",
    )

    def __init__(
        self, name: str | None, scope: Scope, *, sources: frozenset[Item] = NONE, is_open: bool = False
    ) -> None:
        """`is_open`: may have columns that we cannot name (a function that returns rows)."""
        self.name = name
        self.scope = scope
        self.columns: Columns = []
        self.sources = sources  # every filtered relation underneath
        self.is_open = is_open
        self.stands_by_name = name is not None
        self.has_columns_in_sight = True
        self.is_lateral_only = False
        self.is_lateral_ok = True
        self.nullable = 0  # outer joins on whose nullable side it stands
        self.lockable: list[Item] = []  # what FOR UPDATE of this one locks
        self._by_name: dict[str, Facts | None] | None = None

    def find(self, name: str) -> Facts | None:
        """Return the column of that name, None when there is none. Raises LookupError when there are several."""
        index = self._by_name
        if index is None:
            index = self._by_name = {}
            for column, facts in self.columns:
                index[column] = facts if column not in index else None
        found = index.get(name)
        if found is None and name in index:
            raise LookupError(name)
        return found

    def expand(self) -> Columns:
        """Return what `*` gives, in order."""
        return self.columns

    def whole_row(self) -> Facts:
        """Return the facts of a reference to the row itself."""
        sources = self.sources.union(*(facts.sources for _, facts in self.columns))
        return Facts(0, is_leakproof=not sources, reads=frozenset((self,)), sources=sources, is_fixed=True)


class RelationItem(Item):
    """A relation of the world in FROM, or the target of a data-modifying statement.

    A wrapped one is replaced by a sub-select once the statement is resolved (`fence.write_relation`): until then `copied`, `guarded`
    and `is_fenced` gather what goes into it.
    """

    __slots__ = (
        "_facts",
        "column_names",
        "copied",
        "grouped",
        "guarded",
        "is_fenced",
        "is_locked",
        "is_raw",
        "is_spread",
        "is_wrapped",
        "node",
        "relation",
        "schema",
        "used",
    )

    name: str

    def __init__(self, name: str, scope: Scope, relation: VisibleRelation, node: Node, *, is_raw: bool = False) -> None:
        """`is_raw`: stays the base table itself (a DML target), so that every reference must be qualified and checked."""
        super().__init__(name, scope)
        self.relation = relation
        self.node = node
        self.is_raw = is_raw
        self.is_wrapped = not is_raw and not relation.is_bare
        if relation.row_filter is not None:
            self.sources = frozenset((self,))
        self.schema: str | None = None  # set when written without an alias: `schema.name.column` may then be written
        self.column_names: tuple[str, ...] = ()  # the client's alias list
        self.used: set[str] = set()  # columns the statement reads
        self.grouped: set[str] | None = None  # columns read outside aggregates of a grouped level; None: not watched
        self.is_spread = False  # stands whole somewhere: what it gives is then counted
        self.is_fenced = False
        self.is_locked = False
        self.copied: list[Node] = []
        self.guarded: list[Node] = []
        self._facts: dict[str, Facts] = {}

    @override
    def find(self, name: str) -> Facts | None:
        """Return the readable column of that name."""
        found = self._facts.get(name)
        if found is not None:
            return found
        real = self._real_name(name)
        visible = self.relation.columns.get(real) if real is not None else None
        if real is None or visible is None or not visible.is_readable:
            return self._system_column(name)
        self.used.add(real)
        type_oid = self.scope.world.catalog.base_type(visible.column.type_oid)
        is_masked = visible.mask is not None
        if self.relation.is_catalog and type_oid in REGISTERED:
            type_oid, is_masked = -type_oid, False  # masked as an oid: the same for every comparison
        facts = Facts(
            type_oid,
            is_leakproof=not is_masked,
            reads=frozenset((self,)),
            sources=self.sources,
            is_fixed=visible.mask is not None,
        )
        self._facts[name] = facts
        return facts

    def readable(self) -> list[str]:
        """Return the names of the columns that may be read, in order, as the relation has them."""
        return [name for name, column in self.relation.columns.items() if column.is_readable]

    def names(self) -> list[str]:
        """Return the names of the columns as the statement knows them."""
        given = self.column_names
        return [*given, *self.readable()[len(given) :]] if given else self.readable()

    @override
    def expand(self) -> Columns:
        """Return what `*` gives, in order."""
        self.is_spread = True
        return [(name, facts) for name in self.names() if (facts := self.find(name)) is not None]

    @override
    def whole_row(self) -> Facts:
        """Return the facts of a reference to the row itself."""
        self.is_spread = True
        self.used.update(self.readable())
        return Facts(0, is_leakproof=False, reads=frozenset((self,)), sources=self.sources, is_fixed=True)

    def _real_name(self, name: str) -> str | None:
        given = self.column_names
        if not given:
            return name
        if name in given:
            return self.readable()[given.index(name)]
        return name if name in self.readable()[len(given) :] else None

    def _system_column(self, name: str) -> Facts | None:
        type_oid = SYSTEM_COLUMNS.get(name)
        if name == "tableoid" and self.relation.is_catalog and self.is_wrapped and not self.column_names:
            if self.relation.relation.kind != "r":
                return None
            self.used.add(name)
            return Facts(type_oid or 0, reads=frozenset((self,)), sources=self.sources, is_fixed=True)
        if type_oid is None or self.is_wrapped or self.relation.row_filter is not None:
            return None
        if self.relation.relation.kind not in "rmp" or not self.relation.is_bare:
            return None
        return Facts(type_oid, reads=frozenset((self,)), is_fixed=True)


class WithQuery:
    """A WITH query in scope. `columns` is None until it is resolved."""

    __slots__ = ("body", "columns", "is_clean", "is_in_progress", "is_open", "is_volatile", "name", "scope", "sources")

    def __init__(self, name: str, body: dict[str, Any], scope: Scope) -> None:
        self.name = name
        self.body = body
        self.scope = scope
        self.columns: Columns | None = None
        self.sources: frozenset[Item] = NONE
        self.is_open = False
        self.is_clean = True
        self.is_volatile = False
        self.is_in_progress = False


class Scope:
    """One query level: its namespace, its WITH queries, and what its expressions turned out to be."""

    __slots__ = (
        "grouped",
        "has_aggregate",
        "is_clean",
        "is_lateral_active",
        "is_volatile",
        "items",
        "outer",
        "outer_sources",
        "parent",
        "with_queries",
        "world",
    )

    def __init__(self, world: World, parent: Scope | None = None) -> None:
        self.world = world
        self.parent = parent
        self.items: list[Item] = []
        self.with_queries: dict[str, WithQuery] = {}
        self.is_lateral_active = False
        self.outer: set[Item] = set()  # items of outer levels read from inside here
        self.outer_sources: set[Item] = set()
        self.is_clean = True  # nothing evaluated here can raise or tell by the data it sees
        self.is_volatile = False
        self.has_aggregate = False  # or a window function
        self.grouped: dict[RelationItem, set[str]] = {}  # columns read outside aggregates, when grouping watches

    def sources(self) -> frozenset[Item]:
        """Return every filtered relation under this level's FROM."""
        return NONE.union(*(item.sources for item in self.items))

    def note_outer_read(self, found: Scope, item: Item, facts: Facts) -> None:
        """Tell every level between here and where a column was found that it is correlated."""
        level: Scope | None = self
        while level is not None and level is not found:
            level.outer.add(item)
            level.outer_sources |= facts.sources
            level = level.parent

    def find_with_query(self, name: str) -> WithQuery | None:
        """Return the WITH query that an unqualified relation name means here."""
        level: Scope | None = self
        while level is not None:
            found = level.with_queries.get(name)
            if found is not None:
                return found
            level = level.parent
        return None


def set_lateral(items: Iterable[Item], *, only: bool, ok: bool) -> None:
    """Set how items may be read while the rest of FROM is resolved (setNamespaceLateralState)."""
    for item in items:
        item.is_lateral_only = only
        item.is_lateral_ok = ok
