"""A role's world: the relations, columns, functions, types and settings that exist for it.

Resolution happens against a World and nothing else, so that what a role may not see is absent by construction:
there is no check that could be forgotten. Built by `policy.compile`; immutable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgfaucet.sql.catalog import QualifiedName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgfaucet.sql.catalog import CatalogSnapshot, Column, Function, Relation

Node = dict[str, Any]
"""A parse tree node as libpg_query's JSON has it: `{"ColumnRef": {"fields": [...], "location": 7}}`."""


@dataclass(frozen=True, slots=True)
class VisibleColumn:
    """A column that the role may know of, and what it may do with it."""

    column: Column
    is_readable: bool
    is_insertable: bool
    is_updatable: bool
    mask: Node | None = None  # what select returns instead; own columns stand as ColumnRef [OWN_ROW, column]
    preset: Node | None = None  # forced on insert; contains no column


@dataclass(frozen=True, slots=True)
class VisibleRelation:
    """A relation that the role may know of.

    `row_filter` and `check` are compiled expressions (`sql.expression`): names in them are resolved and qualified, claims
    substituted, and each reference to the relation's own column is a ColumnRef whose first field is OWN_ROW, to be replaced by the
    alias in force. `row_filter` None means every row; one with a sub-select in it is written `(...) IS TRUE` already (RECIPES R2).
    A relation that is known by name only (the sequence of a visible column, a catalog that is closed) has no columns and no right.
    """

    relation: Relation
    columns: dict[str, VisibleColumn]  # in attnum order; columns hidden from the role are absent
    can_select: bool
    can_insert: bool
    can_update: bool
    can_delete: bool
    can_truncate: bool
    row_filter: Node | None
    check: Node | None
    grant_source: str  # where it was granted, for `explain`: role name, file:line
    is_catalog: bool = False  # a relation of pg_catalog or information_schema, filtered by the built-in catalog policy

    @property
    def is_bare(self) -> bool:
        """Whether the role sees the relation whole: every row, every column, nothing masked. It may then stand unwrapped."""
        return (
            self.row_filter is None
            and len(self.columns) == len(self.relation.columns)
            and all(column.is_readable and column.mask is None for column in self.columns.values())
        )


@dataclass(frozen=True, slots=True)
class Description:
    """What a function of pg_catalog that tells of objects becomes for a role: an expression that speaks of what is in sight only.

    `node` is compiled like a policy's expressions; its own columns are the arguments. `is_leaky`: it may raise, depending on them.
    `is_set`: it is an array, whose elements are the rows of a function that returns a set.
    """

    parameters: tuple[tuple[str, str], ...]  # names and types of pg_catalog; `any`: as it comes
    node: Node
    has_sublink: bool
    is_leaky: bool
    result: int = 25  # its type; negative: held as an oid (sql.registered)
    is_set: bool = False
    is_record: bool = False  # it must stay a call, for its columns to be known


SEARCH_PATH = "SearchPath"
"""Names the node in a Description that stands for the client's search_path, pg_catalog in it, as an array of names."""

ON_PATH = "OnPath"
"""Names the node in a Description that is a text made by the server, to be shown as under the client's search_path."""

FIRST_NORMAL_OID = 16384
"""FirstNormalObjectId of PostgreSQL's access/transam.h: lower oids belong to what initdb made."""

OWN_ROW = "pgf_row"
"""Stands for the relation's alias in compiled policy expressions. Client aliases starting with `pgf_` are refused."""


def _only_system(_kind: str, oid: int) -> bool:
    return oid < FIRST_NORMAL_OID


@dataclass(frozen=True)
class World:
    """Everything that exists for one role under one policy version, catalog version and set of claims."""

    role: str
    catalog: CatalogSnapshot
    relations: Mapping[QualifiedName, VisibleRelation]
    search_path: tuple[str, ...]  # schemas, pg_catalog not named; the client may change its own
    schemas: frozenset[str]  # that hold something visible
    functions: dict[QualifiedName, tuple[Function, ...]]  # granted functions outside pg_catalog
    types: frozenset[int]  # usable type oids outside pg_catalog's allow-list: enums, domains, composites in sight
    user: str  # what current_user and session_user answer
    sees_everything: bool  # no filter, mask or hidden object anywhere: upstream errors may pass whole
    may_define: bool  # DDL is open: everything is seen, every function may be called; its search_path is the server's
    require_where: bool
    statements: frozenset[str]  # statement kinds opened beyond the core: ddl, temp, copy, listen, ...
    allow_set: frozenset[str]
    settings: dict[str, str]  # fixed for the session
    explain: str  # off | safe | full
    system_functions: frozenset[str] = frozenset()  # of pg_catalog, open to the role beyond the safe class
    descriptions: Mapping[tuple[str, int], Description] = field(default_factory=dict)  # by name and number of arguments
    knows: Callable[[str, int], bool] = _only_system  # is the object of that kind (of policy.sight) and oid in sight?

    def lookup(self, schema: str | None, name: str, search_path: tuple[str, ...]) -> VisibleRelation | None:
        """Find a relation as PostgreSQL's search path would, pg_catalog first; None when it does not exist for the role."""
        if schema is not None:
            return self.relations.get(QualifiedName(schema, name))
        path = ("pg_catalog", *search_path) if "pg_catalog" not in search_path else search_path
        for candidate in path if "pg_temp" in search_path else ("pg_temp", *path):
            found = self.relations.get(QualifiedName(candidate, name))
            if found is not None:
                return found
        return None
