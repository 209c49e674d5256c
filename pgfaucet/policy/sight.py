"""What follows from the relations and functions of a role: every oid of the catalogs that it may know of.

Only objects of users (oid 16384 and above) are counted; what initdb made is common knowledge.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pgfaucet.policy.rights import Rights, rights_of
from pgfaucet.sql.world import FIRST_NORMAL_OID, VisibleRelation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pgfaucet.policy.function_grants import FunctionGrants
    from pgfaucet.sql.catalog import CatalogSnapshot, Column, Constraint, QualifiedName, Relation, Trigger


class Sight:
    """Which objects of users a role may know of."""

    def __init__(
        self,
        catalog: CatalogSnapshot,
        visible: Sequence[VisibleRelation],
        functions: FunctionGrants,
        search_path: tuple[str, ...],
        *,
        is_open: bool,
        kinds: frozenset[str] = frozenset(),
    ) -> None:
        """`is_open`: the role may read every table unless it is named, so that what is new is in sight too.

        `kinds`: statement kinds that are open to a role that may define anything.
        """
        self.is_open = is_open
        self.kinds = kinds
        self.is_open_functions = functions.is_open
        self._catalog = catalog
        self._search_path = search_path
        self._functions = functions
        self._own = [each.relation for each in visible]
        self._visible = visible
        self._columns = {each.relation.oid: _known_columns(each) for each in visible}
        self._partial = {
            each.relation.oid for each in visible if len(self._columns[each.relation.oid]) < len(each.relation.columns)
        }
        self._unreadable = {each.relation.oid for each in visible if not _is_readable(each)}
        self._narrow = self._partial | self._unreadable
        self._known: dict[str, tuple[frozenset[int], frozenset[int]]] = {}

    # -- relations and what belongs to them

    def sees(self, relation: int, columns: Iterable[int] = ()) -> bool:
        """Say whether a relation and these of its columns are in sight."""
        if relation < FIRST_NORMAL_OID:
            return True
        known = self._columns.get(relation)
        return known is not None and known.issuperset(columns)

    @cached_property
    def named_relations(self) -> dict[QualifiedName, VisibleRelation]:
        """Sequences of columns in sight: known by name, with no right to use them."""
        return {relation.name: _named_only(relation) for relation in self._owned_sequences()}

    def _owned_sequences(self) -> Iterator[Relation]:
        for relation in self._catalog.relations.values():
            owner = relation.owned_by
            if owner is not None and relation.oid not in self._columns and self.sees(owner[0], owner[1:]):
                yield relation

    @cached_property
    def relations(self) -> frozenset[int]:
        """Oids in pg_class: relations, their indexes, TOAST tables, sequences of their columns, composite types."""
        found = {oid for relation in self._own for oid in (relation.oid, *relation.toast)}
        found.update(self.indexes)
        found.update(relation.oid for relation in self._owned_sequences())
        found.update(
            oid for oid, composite in self._catalog.composites.items() if composite.row_type in self.usable_types
        )
        return frozenset(found)

    @cached_property
    def hidden_relations(self) -> frozenset[int]:
        """Oids in pg_class of what is not in sight."""
        found: set[int] = set()
        for relation in self._catalog.relations.values():
            found.update((relation.oid, *relation.toast, *(index.oid for index in relation.indexes)))
        found.update(self._catalog.composites)
        return frozenset(oid for oid in found - self.relations if oid >= FIRST_NORMAL_OID)

    @cached_property
    def partial(self) -> frozenset[int]:
        """Oids of relations in sight with columns that are not."""
        return frozenset(self._partial)

    @cached_property
    def partial_columns(self) -> frozenset[int]:
        """Columns in sight of those relations, as oid << 16 | attnum."""
        return frozenset(oid << 16 | number for oid in self._partial for number in self._columns[oid])

    @cached_property
    def indexes(self) -> frozenset[int]:
        """Oids of indexes none of whose columns is hidden."""
        return frozenset(
            index.oid for relation in self._own for index in relation.indexes if self.sees(relation.oid, index.columns)
        )

    @cached_property
    def constraints(self) -> frozenset[int]:
        """Oids in pg_constraint: of relations in sight, speaking of nothing hidden."""
        return frozenset(
            each.oid for relation in self._own for each in relation.constraints if self._sees_constraint(relation, each)
        )

    @cached_property
    def triggers(self) -> frozenset[int]:
        """Oids in pg_trigger: on relations in sight, speaking of nothing hidden."""
        return frozenset(
            each.oid for relation in self._own for each in relation.triggers if self._sees_trigger(relation, each)
        )

    @cached_property
    def defaults(self) -> frozenset[int]:
        """Oids in pg_attrdef: of columns in sight, made of nothing hidden."""
        return frozenset(
            column.default_oid
            for relation in self._own
            for column in relation.columns
            if self._sees_default(relation, column)
        )

    @property
    def catalog(self) -> CatalogSnapshot:
        """The snapshot that the oids are of."""
        return self._catalog

    @cached_property
    def rights(self) -> Rights:
        """What the policy grants on relations."""
        return rights_of(self._visible)

    def knows(self, kind: str, oid: int) -> bool:
        """Say whether the object of that kind and oid is in sight; the kinds are those of `listed`."""
        if oid < FIRST_NORMAL_OID:
            return True
        found = self._known.get(kind)
        if found is None:
            found = self._known[kind] = self.listed(kind)
        is_open = self.is_open_functions if kind == "functions" else self.is_open
        return oid not in found[1] if is_open else oid in found[0]

    def listed(self, kind: str) -> tuple[frozenset[int], frozenset[int]]:
        """Return the oids of a kind that are in sight, and those of users' objects that are not. The kinds are properties of this class."""
        catalog = self._catalog
        relations = catalog.relations.values()
        match kind:
            case "relations":
                return self.relations, self.hidden_relations
            case "constraints":
                seen, every = self.constraints, {each.oid for relation in relations for each in relation.constraints}
            case "triggers":
                seen, every = self.triggers, {each.oid for relation in relations for each in relation.triggers}
            case "defaults":
                seen, every = (
                    self.defaults,
                    {column.default_oid for relation in relations for column in relation.columns},
                )
            case "types":
                seen, every = self.types, set(catalog.types)
            case "functions":
                seen = self.functions
                every = {function.oid for overloads in catalog.functions.values() for function in overloads}
            case "schemas":
                seen, every = self.schemas, set(catalog.schemas.values())
            case "collations":
                seen, every = self.collations, set()
            case _:
                raise LookupError(kind)
        return seen, frozenset(oid for oid in every - seen if oid >= FIRST_NORMAL_OID)

    def _sees_constraint(self, relation: Relation, constraint: Constraint) -> bool:
        if not self.sees(relation.oid, constraint.columns):
            return False
        if constraint.references and not self.sees(constraint.references, constraint.referenced_columns):
            return False
        own = {index.oid for index in relation.indexes}
        return constraint.index not in own or constraint.index in self.indexes

    def _sees_trigger(self, relation: Relation, trigger: Trigger) -> bool:
        if not self.sees(relation.oid, trigger.columns) or not self.sees(trigger.references):
            return False
        return not trigger.constraint or trigger.constraint in self.constraints

    def _sees_default(self, relation: Relation, column: Column) -> bool:
        if not column.default_oid or not self.sees(relation.oid, (column.number, *column.uses)):
            return False
        return all(oid in self.relations or oid < FIRST_NORMAL_OID for oid in column.default_relations)

    # -- types, functions, schemas, collations

    @cached_property
    def usable_types(self) -> frozenset[int]:
        """Oids of types that the role may name: of columns and functions in sight, and whatever those are made of."""
        if self.is_open:
            return frozenset(
                oid for oid, each in self._catalog.types.items() if oid >= FIRST_NORMAL_OID and self._may_name(oid)
            )
        found: set[int] = set()
        waiting = [*self._column_types(), *self._function_types()]
        waiting += [relation.row_type for relation in self._own]
        while waiting:
            oid = waiting.pop()
            each = self._catalog.types.get(oid)
            if oid in found or oid < FIRST_NORMAL_OID or each is None or not self._may_name(oid):
                continue
            found.add(oid)
            waiting += [each.array, each.element, each.base, each.subtype, each.multirange]
            composite = self._catalog.composites.get(each.relation)
            waiting += [column.type_oid for column in composite.columns] if composite is not None else []
        return frozenset(found)

    def _may_name(self, oid: int) -> bool:
        """Say no to the row types of relations that the role does not see whole: they name the hidden columns."""
        each = self._catalog.types[oid]
        row = self._catalog.types.get(each.element, each) if each.element else each
        relation = self._catalog.relation_by_oid(row.relation) if row.relation else None
        return relation is None or (self.sees(relation.oid) and relation.oid not in self._narrow)

    def _column_types(self) -> Iterator[int]:
        for relation in self._own:
            yield from (column.type_oid for column in relation.columns if self.sees(relation.oid, (column.number,)))

    def _function_types(self) -> Iterator[int]:
        for overloads in self._functions.functions.values():
            for function in overloads:
                yield from (*function.argument_types, function.return_type)

    @cached_property
    def types(self) -> frozenset[int]:
        """Oids in pg_type: usable types, and the row types of all relations in sight with their arrays."""
        rows = {relation.row_type for relation in self._own}
        arrays = {each.array for oid in rows if (each := self._catalog.types.get(oid)) is not None}
        return frozenset(oid for oid in self.usable_types | rows | arrays if oid >= FIRST_NORMAL_OID)

    @cached_property
    def functions(self) -> frozenset[int]:
        """Oids in pg_proc of granted functions whose signatures speak of nothing hidden."""
        granted = (function for overloads in self._functions.functions.values() for function in overloads)
        return frozenset(
            each.oid for each in granted if all(oid < FIRST_NORMAL_OID or oid in self.types for oid in each.signature)
        )

    @cached_property
    def schema_names(self) -> frozenset[str]:
        """Schemas that hold something in sight, and those of the role's search_path; all where the role may define anything."""
        if "ddl" in self.kinds:
            return frozenset(self._catalog.schemas)
        found = {relation.name.schema for relation in (*self._own, *self._owned_sequences())}
        found.update(name.schema for name in self._functions.functions)
        found.update(self._catalog.types[oid].name.schema for oid in self.usable_types)
        found.update(schema for schema in self._search_path if schema in self._catalog.schemas)
        return frozenset(found)

    @cached_property
    def schemas(self) -> frozenset[int]:
        """Oids in pg_namespace of those schemas."""
        return frozenset(self._catalog.schemas[name] for name in self.schema_names if name in self._catalog.schemas)

    @cached_property
    def collations(self) -> frozenset[int]:
        """Oids in pg_collation of users' collations that columns in sight have."""
        every = {
            column.collation
            for relation in self._own
            for column in relation.columns
            if self.sees(relation.oid, (column.number,))
        }
        return frozenset(oid for oid in every if oid >= FIRST_NORMAL_OID)


def _known_columns(visible: VisibleRelation) -> frozenset[int]:
    columns = visible.columns.values()
    return frozenset(
        each.column.number for each in columns if each.is_readable or each.is_insertable or each.is_updatable
    )


def _is_readable(visible: VisibleRelation) -> bool:
    return visible.can_select and all(column.is_readable for column in visible.columns.values())


def _named_only(relation: Relation) -> VisibleRelation:
    return VisibleRelation(
        relation=relation,
        columns={},
        can_select=False,
        can_insert=False,
        can_update=False,
        can_delete=False,
        can_truncate=False,
        row_filter=None,
        check=None,
        grant_source="owned by a column in sight",
    )
