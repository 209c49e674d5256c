"""What the live catalog says, as immutable values: relations, columns, types, functions, operators.

Read by `upstream.introspect`; everything in `sql` and `policy` works on a snapshot and never on the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from typing_extensions import override


class QualifiedName(NamedTuple):
    """schema and name, as stored (already folded)."""

    schema: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Type:
    """A row of pg_type."""

    oid: int
    name: QualifiedName
    kind: str  # typtype: b c d e m p r
    base: int  # typbasetype (domains), else 0
    element: int  # typelem of a true array, else 0
    array: int  # typarray
    relation: int  # typrelid (composite types), else 0
    subtype: int = 0  # rngsubtype of a range, the range of a multirange, else 0
    multirange: int = 0  # rngmultitypid of a range, else 0


@dataclass(frozen=True, slots=True)
class Column:
    """A live row of pg_attribute with attnum > 0."""

    name: str
    number: int  # attnum
    type_oid: int
    typmod: int
    type_sql: str  # format_type(atttypid, atttypmod)
    not_null: bool
    default: str | None  # pg_get_expr of pg_attrdef, for generated columns too
    generated: str  # attgenerated: '' s v
    identity: str  # attidentity: '' a d
    collation: int = 0  # attcollation
    default_oid: int = 0  # pg_attrdef.oid, 0 when there is none
    uses: frozenset[int] = frozenset()  # columns that a generated column is made of
    default_relations: frozenset[int] = frozenset()  # relations that a default names, e.g. the sequence of nextval()


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index: its column numbers (0 = expression)."""

    name: str
    columns: tuple[int, ...]
    is_primary: bool


@dataclass(frozen=True, slots=True)
class Index:
    """A row of pg_index."""

    oid: int
    name: str
    is_unique: bool
    is_primary: bool
    key: tuple[int, ...]  # column numbers of the key (0 = expression), included columns left out
    columns: frozenset[int]  # every column it speaks of: key, included, in expressions, in its predicate


@dataclass(frozen=True, slots=True)
class Constraint:
    """A row of pg_constraint that belongs to a relation."""

    oid: int
    name: str
    kind: str  # contype: c f n p u x t
    columns: frozenset[int]  # conkey, and what its expression uses
    references: int  # confrelid, else 0
    referenced_columns: frozenset[int]  # confkey
    index: int  # conindid, else 0
    on_delete: str = ""  # confdeltype of a foreign key: a r c n d
    on_update: str = ""  # confupdtype


@dataclass(frozen=True, slots=True)
class Trigger:
    """A row of pg_trigger."""

    oid: int
    name: str
    columns: frozenset[int]  # tgattr, and what its WHEN uses
    references: int  # tgconstrrelid, else 0
    constraint: int  # tgconstraint, else 0


@dataclass(frozen=True, slots=True)
class Relation:
    """A row of pg_class that can stand in FROM, with its columns in attnum order; a composite type is described the same way."""

    oid: int
    name: QualifiedName
    kind: str  # relkind: r p v m f S, c for a composite type
    owner: str
    columns: tuple[Column, ...]
    unique_keys: tuple[UniqueKey, ...]
    before_triggers: frozenset[str]  # of {'insert', 'update', 'delete'}: row-level BEFORE triggers
    parents: tuple[int, ...]  # pg_inherits.inhparent
    row_type: int  # reltype
    indexes: tuple[Index, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    toast: tuple[int, ...] = ()  # oids of its TOAST table and that one's indexes
    owned_by: tuple[int, int] | None = None  # relation oid and attnum of the column a sequence belongs to

    @property
    def primary_key(self) -> tuple[int, ...]:
        """Column numbers of the primary key; empty when there is none."""
        return next((key.columns for key in self.unique_keys if key.is_primary), ())


@dataclass(frozen=True, slots=True)
class Function:
    """A row of pg_proc outside pg_catalog and information_schema."""

    oid: int
    name: QualifiedName
    kind: str  # prokind: f p a w
    volatility: str  # provolatile: i s v
    argument_types: tuple[int, ...]
    return_type: int
    returns_set: bool
    language: str
    is_leakproof: bool
    extension: str = ""  # that it belongs to
    output_columns: tuple[str, ...] = ()  # names of OUT and TABLE arguments
    signature: frozenset[int] = frozenset()  # every type in it, OUT and TABLE arguments too


class OperatorKey(NamedTuple):
    """An operator of pg_catalog by name and exact operand type oids."""

    name: str
    left: int
    right: int


@dataclass(frozen=True)
class CatalogSnapshot:
    """One consistent reading of the catalog. `version` grows with every reading that differs."""

    version: int
    server_version: int  # server_version_num
    database: str
    relations: dict[QualifiedName, Relation]
    types: dict[int, Type]
    functions: dict[QualifiedName, tuple[Function, ...]]
    system_functions: frozenset[str]  # every proname of pg_catalog on this server
    leakproof_operators: frozenset[OperatorKey]  # pg_catalog operators whose function is leakproof
    schemas: dict[str, int] = field(default_factory=dict)  # nspname -> oid, temporary schemas left out
    composites: dict[int, Relation] = field(default_factory=dict)  # stand-alone composite types by typrelid
    volatile_functions: frozenset[str] = frozenset()  # names in pg_catalog with a volatile function among them
    aggregate_functions: frozenset[str] = frozenset()  # ... an aggregate or window function
    set_functions: frozenset[str] = frozenset()  # ... one that returns a set
    system_operators: frozenset[str] = frozenset()  # every oprname of pg_catalog
    function_columns: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # OUT names in pg_catalog, if overloads agree
    seen: str = field(default="", compare=False)  # pg_current_snapshot() of the reading

    def type_named(self, name: QualifiedName) -> Type | None:
        """Return the type of that schema and typname, or None."""
        return self._types_by_name().get(name)

    def relation_by_oid(self, oid: int) -> Relation | None:
        """Return the relation of that oid, or None."""
        return self._relations_by_oid().get(oid)

    def base_type(self, oid: int) -> int:
        """Follow domains down to the type they are over."""
        while (found := self.types.get(oid)) is not None and found.base:
            oid = found.base
        return oid

    def _types_by_name(self) -> dict[QualifiedName, Type]:
        index: dict[QualifiedName, Type] | None = self.__dict__.get("_type_index")
        if index is None:
            index = self.__dict__["_type_index"] = {found.name: found for found in self.types.values()}
        return index

    def _relations_by_oid(self) -> dict[int, Relation]:
        index: dict[int, Relation] | None = self.__dict__.get("_relation_index")
        if index is None:
            index = self.__dict__["_relation_index"] = {found.oid: found for found in self.relations.values()}
        return index
