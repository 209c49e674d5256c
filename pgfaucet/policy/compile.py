"""Policy and catalog to a role's World. What cannot be compiled is left out of it and reported: never does a mistake widen a world."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from typing_extensions import override

from pgfaucet.policy.catalog_policy import catalog_relations
from pgfaucet.policy.descriptions import Descriptions
from pgfaucet.policy.function_grants import grant_functions
from pgfaucet.policy.identifier import qualified_name
from pgfaucet.policy.model import Source, TableGrant
from pgfaucet.policy.problem import Problem, known_names
from pgfaucet.policy.sight import Sight
from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.expression import PolicyError, claims_in, resolve_expression
from pgfaucet.sql.world import VisibleColumn, VisibleRelation, World

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator

    from pgfaucet.policy.function_grants import FunctionGrants
    from pgfaucet.policy.model import Columns, Role
    from pgfaucet.sql.catalog import CatalogSnapshot, Relation
    from pgfaucet.sql.expression import Expression, Purpose
    from pgfaucet.sql.world import Node

SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})
TEMPORARY_SCHEMA: Final = "pg_temp"
"""Stands in a catalog that one session reads for itself: what it made there is its own."""

EVERYTHING: Final = "*"
PURPOSES: Final[dict[str, Purpose]] = {"row_filter": "row_filter", "check": "check", "preset": "preset", "mask": "mask"}
FULL_ACCESS: Final = TableGrant(
    EVERYTHING, Source("", 1, 1), select=True, insert=True, update=True, delete=True, truncate=True
)
"""What `access: full` grants, so that its world is whole too."""


def compile_world(
    role: Role, catalog: CatalogSnapshot, claims: Mapping[str, str], user: str
) -> tuple[World, tuple[Problem, ...]]:
    """Make the world of a role for one set of claims, and say what of the policy does not fit the catalog.

    `user` is what current_user answers. Claims that the role does not use may be left out: see `claims_used`.
    """
    compiled = compile_role(role, catalog)
    return compiled.world(claims, user), tuple(compiled.problems)


def claims_used(role: Role) -> frozenset[str]:
    """Return the claims that the role's expressions name: tokens that agree on them share a world."""
    return frozenset(claim for grant in role.tables for text in _expressions(grant) for claim in claims_in(text))


def _expressions(grant: TableGrant) -> Iterator[str]:
    yield from (text for text in (grant.row_filter, grant.check) if text is not None)
    yield from grant.preset.values()
    yield from grant.mask.values()


def compile_role(role: Role, catalog: CatalogSnapshot) -> CompiledRole:
    """Return the part of a world that no claim changes; kept with the snapshot, for every world made of the two."""
    kept: dict[str, CompiledRole] = catalog.__dict__.setdefault("_compiled_roles", {})
    found = kept.get(role.name)
    if found is None or found.role is not role:
        found = kept[role.name] = CompiledRole(role, catalog)
    return found


class _EveryColumn:
    """Holds every name."""

    def __contains__(self, name: object) -> bool:
        return True


EVERY_COLUMN: Final = _EveryColumn()


@dataclass(frozen=True, slots=True)
class GrantedRelation:
    """A relation as a role is granted it, before claims."""

    visible: VisibleRelation  # without filter, check, masks and presets
    row_filter: Expression | None = None
    check: Expression | None = None
    presets: dict[str, Expression] = field(default_factory=dict)
    masks: dict[str, Expression] = field(default_factory=dict)

    def with_claims(self, claims: Mapping[str, str]) -> VisibleRelation:
        """Put a token's claims into the relation's expressions."""
        if self.row_filter is None and self.check is None and not self.presets and not self.masks:
            return self.visible
        row_filter = self._condition(self.row_filter, claims)
        columns = dict(self.visible.columns)
        for name in self.masks.keys() | self.presets.keys():
            mask, preset = self.masks.get(name), self.presets.get(name)
            columns[name] = replace(
                columns[name],
                mask=mask.with_claims(claims).node if mask is not None else None,
                preset=preset.with_claims(claims).node if preset is not None else None,
            )
        check = row_filter if self.check is None else self._condition(self.check, claims)
        return replace(self.visible, columns=columns, row_filter=row_filter, check=check)

    @staticmethod
    def _condition(expression: Expression | None, claims: Mapping[str, str]) -> Node | None:
        """Return a filter or check; one with a sub-select as `(...) IS TRUE`, which is never pulled up into a join (RECIPES R2)."""
        if expression is None:
            return None
        compiled = expression.with_claims(claims)
        return build.is_true(compiled.node) if compiled.has_sublink else compiled.node


class WorldRelations(Mapping[QualifiedName, VisibleRelation]):
    """The relations of one world. Claims are put into a relation's expressions when it is first looked at."""

    def __init__(
        self,
        granted: Mapping[QualifiedName, GrantedRelation],
        others: Mapping[QualifiedName, VisibleRelation],
        claims: Mapping[str, str],
    ) -> None:
        self._granted = granted
        self._others = others
        self._claims = dict(claims)
        self._made: dict[QualifiedName, VisibleRelation] = {}

    @override
    def __getitem__(self, name: QualifiedName) -> VisibleRelation:
        found = self._made.get(name)
        if found is None:
            granted = self._granted.get(name)
            found = granted.with_claims(self._claims) if granted is not None else self._others[name]
            self._made[name] = found
        return found

    @override
    def __iter__(self) -> Iterator[QualifiedName]:
        yield from self._granted
        yield from (name for name in self._others if name not in self._granted)

    @override
    def __len__(self) -> int:
        return len(self._granted.keys() | self._others.keys())


class CompiledRole:
    """Everything of a role's world that does not depend on claims."""

    def __init__(self, role: Role, catalog: CatalogSnapshot) -> None:
        self.role = role
        self.problems: list[Problem] = []
        self._catalog = catalog
        self._tables = role.tables if role.access != "full" else (replace(FULL_ACCESS, source=role.source),)
        self._relations = dict(self._granted_relations())
        self._functions = grant_functions(role, catalog)
        self.problems += self._functions.problems
        visible = [granted.visible for granted in self._relations.values()]
        everything = self._everything
        is_open = everything is not None and everything.select is True and everything.row_filter is None
        kinds = frozenset(role.statements) if role.may_define else frozenset[str]()
        self._sight = Sight(catalog, visible, self._functions, role.search_path, is_open=is_open, kinds=kinds)
        self._sees_everything = is_open and self._hides_nothing()
        self._catalogs: dict[str, ChainMap[QualifiedName, VisibleRelation]] = {}
        self._descriptions: dict[str, Descriptions] = {}

    def _signals(self) -> frozenset[str]:
        """LISTEN and NOTIFY as functions, where their statements are open and no row is hidden that a call might see first."""
        is_open = self._sees_everything and "listen" in self.role.statements
        return frozenset({"pg_notify", "pg_listening_channels"}) if is_open else frozenset()

    def world(self, claims: Mapping[str, str], user: str) -> World:
        """Make the world for one set of claims."""
        role, sight = self.role, self._sight
        if user not in self._catalogs:
            self._descriptions[user] = Descriptions(self._catalog, sight, user)
            self._catalogs[user] = ChainMap(sight.named_relations, catalog_relations(self._catalog, sight, user))  # type: ignore[arg-type] # never written
        return World(
            role=role.name,
            catalog=self._catalog,
            relations=WorldRelations(self._relations, self._catalogs[user], claims),
            search_path=tuple(schema for schema in role.search_path if schema != "pg_catalog"),
            schemas=sight.schema_names,
            functions=self._functions.functions,
            types=sight.usable_types,
            user=user,
            sees_everything=self._sees_everything,
            may_define=role.may_define,
            require_where=role.require_where,
            statements=frozenset(role.statements),
            allow_set=frozenset(role.allow_set),
            settings=role.settings,
            explain=role.explain,
            system_functions=self._functions.system_functions(sees_everything=self._sees_everything) | self._signals(),
            descriptions=self._descriptions[user],
            knows=sight.knows,
        )

    @property
    def granted(self) -> Mapping[QualifiedName, GrantedRelation]:
        """The relations that the role is granted."""
        return self._relations

    @property
    def functions(self) -> FunctionGrants:
        """The functions that the role is granted."""
        return self._functions

    # -- relations

    @property
    def _everything(self) -> TableGrant | None:
        return next((grant for grant in self._tables if grant.name == EVERYTHING), None)

    def _hides_nothing(self) -> bool:
        granted = self._relations
        return all(
            name in granted
            and granted[name].row_filter is None
            and not granted[name].masks
            and len(granted[name].visible.columns) == len(relation.columns)
            and all(column.is_readable for column in granted[name].visible.columns.values())
            for name, relation in self._catalog.relations.items()
            if name.schema not in SYSTEM_SCHEMAS
        )

    def _granted_relations(self) -> Iterator[tuple[QualifiedName, GrantedRelation]]:
        for relation, grant in self._grants():
            granted = self._grant(relation, grant)
            if granted is not None:
                yield relation.name, granted

    def _grants(self) -> Iterator[tuple[Relation, TableGrant]]:
        """Yield each relation with the entry that speaks of it."""
        named: dict[int, tuple[Relation, TableGrant]] = {}
        for grant in self._tables:
            relation = self._relation(grant) if grant.name != EVERYTHING else None
            if relation is not None:
                named[relation.oid] = (relation, grant)
        yield from named.values()
        everything = self._everything
        for relation in self._catalog.relations.values():
            if relation.name.schema == TEMPORARY_SCHEMA:
                yield relation, replace(FULL_ACCESS, source=self.role.source)
                continue
            is_own = relation.name.schema not in SYSTEM_SCHEMAS
            if everything is None:
                continue
            if is_own and relation.oid not in named and not self._descends(relation, named.keys()):
                yield relation, everything

    def _descends(self, relation: Relation, ancestors: Collection[int]) -> bool:
        """Say whether a relation is a partition or child of one of these: "*" does not open what a named entry restricts."""
        found = [parent for oid in relation.parents if (parent := self._catalog.relation_by_oid(oid)) is not None]
        return bool(ancestors) and any(parent.oid in ancestors or self._descends(parent, ancestors) for parent in found)

    def _relation(self, grant: TableGrant) -> Relation | None:
        name = qualified_name(grant.name, self.role.search_path)
        relation = self._catalog.relations.get(name)
        if name.schema in SYSTEM_SCHEMAS:
            self._report(
                grant.source,
                f'"{name}" is a catalog',
                "leave it out: catalogs show what the role may see by themselves",
            )
            return None
        if relation is None:
            known = (each.name for each in self._catalog.relations if each.schema == name.schema)
            self._report(grant.source, f'relation "{name}" does not exist', known_names(name.name, known))
        return relation

    def _grant(self, relation: Relation, grant: TableGrant) -> GrantedRelation | None:
        """Compile one entry; None when it leaves nothing to see."""
        row_filter = self._expression(relation, grant, "row_filter", grant.row_filter)
        check = self._expression(relation, grant, "check", grant.check)
        if grant.row_filter is not None and row_filter is None:
            return None
        presets = self._expressions(relation, grant, "preset")
        masks = self._expressions(relation, grant, "mask")
        may_write = grant.check is None or check is not None
        may_insert = may_write and presets.keys() == grant.preset.keys()
        columns = self._columns(relation, grant, may_insert=may_insert, may_update=may_write)
        for name in (grant.mask.keys() - masks.keys()) & columns.keys():
            columns[name] = replace(columns[name], is_readable=False)
        visible = VisibleRelation(
            relation=relation,
            columns=columns,
            can_select=any(column.is_readable for column in columns.values())
            or (grant.select is True and not relation.columns),
            can_insert=may_insert and bool(grant.insert),
            can_update=may_write and bool(grant.update),
            can_delete=grant.delete,
            can_truncate=grant.truncate,
            row_filter=None,
            check=None,
            grant_source=f"role {self.role.name}, {grant.source}",
        )
        if not (
            visible.can_select or visible.can_insert or visible.can_update or visible.can_delete or visible.can_truncate
        ):
            return None
        masks = {name: mask for name, mask in masks.items() if name in columns}
        return GrantedRelation(visible, row_filter, check, presets if may_insert and grant.insert else {}, masks)

    def _columns(
        self, relation: Relation, grant: TableGrant, *, may_insert: bool, may_update: bool
    ) -> dict[str, VisibleColumn]:
        readable = self._listed(relation, grant, grant.select)
        insertable = self._listed(relation, grant, grant.insert if may_insert else False)
        updatable = self._listed(relation, grant, grant.update if may_update else False)
        preset = grant.preset.keys() if may_insert and grant.insert else frozenset[str]()
        columns = {}
        for column in relation.columns:
            name = column.name
            can_insert = name in insertable and name not in grant.preset
            made = VisibleColumn(column, name in readable, can_insert, name in updatable)
            if made.is_readable or can_insert or made.is_updatable or name in preset:
                columns[name] = made
        return columns

    def _listed(self, relation: Relation, grant: TableGrant, columns: Columns) -> Container[str]:
        """Return the columns that a grant names; those that do not exist are reported."""
        if isinstance(columns, bool):
            return EVERY_COLUMN if columns else frozenset()
        names = [column.name for column in relation.columns]
        for name in columns if grant.name != EVERYTHING else ():
            if name not in names:
                what = f'column "{name}" of relation "{relation.name}" does not exist'
                self._report(grant.source, what, known_names(name, names))
        return frozenset(columns)

    # -- expressions

    def _expressions(
        self, relation: Relation, grant: TableGrant, purpose: Literal["preset", "mask"]
    ) -> dict[str, Expression]:
        texts = grant.preset if purpose == "preset" else grant.mask
        names = [column.name for column in relation.columns]
        compiled = {}
        for name, text in texts.items():
            key = f"{purpose}.{name}"
            if name not in names:
                source = grant.expression_sources.get(key, grant.source)
                self._report(
                    source, f'column "{name}" of relation "{relation.name}" does not exist', known_names(name, names)
                )
                continue
            expression = self._expression(relation, grant, key, text)
            if expression is not None:
                compiled[name] = expression
        return compiled

    def _expression(self, relation: Relation, grant: TableGrant, key: str, text: str | None) -> Expression | None:
        if text is None:
            return None
        try:
            return resolve_expression(
                text, relation, self._catalog, self.role.search_path, purpose=PURPOSES[key.partition(".")[0]]
            )
        except PolicyError as error:
            source = grant.expression_sources.get(key, grant.source)
            if error.position is not None and key in grant.expression_sources:
                source = _place_in(text, error.position - 1, source)
            fix = (
                f"{error.hint[0].lower()}{error.hint[1:].rstrip('.')}"
                if error.hint
                else f"mend the {key} of {grant.name}"
            )
            self._report(source, error.message, fix)
            return None

    def _report(self, source: Source, what: str, fix: str) -> None:
        self.problems.append(Problem(source, what, fix))


def _place_in(text: str, offset: int, start: Source) -> Source:
    """Return where a character of an expression stands, which begins at `start`; its lines are indented alike."""
    before = text[:offset]
    return replace(start, line=start.line + before.count("\n"), column=start.column + offset - (before.rfind("\n") + 1))
