"""The built-in policy of the catalogs: what of pg_catalog and information_schema a role may see, from data/catalogs.yaml.

It is written in the language of any policy, with a few functions for the role's sight. A relation of the catalogs that the file does not
name is known to exist and refused (42501): whatever PostgreSQL adds is closed until it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import yaml
from typing_extensions import override

from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.expression import TEXT_TYPE, parse_expression, replace_nodes, resolve_expression
from pgfaucet.sql.expression_names import RESOLVED
from pgfaucet.sql.facts import REGISTERED
from pgfaucet.sql.settings import SETTINGS, SHOWN
from pgfaucet.sql.world import FIRST_NORMAL_OID, ON_PATH, OWN_ROW, VisibleColumn, VisibleRelation
from pgfaucet.sql.world import SEARCH_PATH as CLIENT_SEARCH_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pgfaucet.policy.sight import Sight
    from pgfaucet.sql.catalog import CatalogSnapshot, Column, Relation
    from pgfaucet.sql.world import Node

CATALOG_SCHEMAS: Final = ("pg_catalog", "information_schema")
SEARCH_PATH: Final = ("pg_catalog",)
SHOWN_SETTINGS: Final = tuple(setting.name for setting in SETTINGS.values() if setting.access in SHOWN)
PLACEHOLDERS: Final = ("sees", "sees_column", "sees_whole", "role_name", "shown_settings", "may", "may_column", "opens")
PLACEHOLDER: Final = "Sight"
"""Names a node to be filled in for each role: `{"Sight": {"function": ..., "args": [...]}}`."""

OID_TYPE: Final = {"names": [build.string("pg_catalog"), build.string("oid")], "typemod": -1}
INT8_TYPE: Final = {"names": [build.string("pg_catalog"), build.string("int8")], "typemod": -1}


@dataclass(frozen=True, slots=True)
class Template:
    """A relation of the catalogs with its expressions, before a role's sight is filled in."""

    visible: VisibleRelation
    row_filter: Node | None
    masks: Mapping[str, Node]
    only_for: str | None = None  # a statement kind: closed to roles that may not define anything, or lack it


class CatalogRelations(Mapping[QualifiedName, VisibleRelation]):
    """Every relation of the catalogs as a role may see it, made when it is first looked at: most never are."""

    def __init__(
        self,
        templates: Mapping[QualifiedName, Template],
        fill: Callable[[Node], Node | None],
        kinds: frozenset[str] = frozenset(),
    ) -> None:
        self._templates = templates
        self._fill = fill
        self._kinds = kinds
        self._made: dict[QualifiedName, VisibleRelation] = {}

    @override
    def __getitem__(self, name: QualifiedName) -> VisibleRelation:
        found = self._made.get(name)
        if found is None:
            template = self._templates[name]
            is_open = template.only_for is None or template.only_for in self._kinds
            found = _filled(template, self._fill) if is_open else _visible(template.visible.relation, {})
            self._made[name] = found
        return found

    @override
    def __contains__(self, name: object) -> bool:
        return name in self._templates

    @override
    def __iter__(self) -> Iterator[QualifiedName]:
        return iter(self._templates)

    @override
    def __len__(self) -> int:
        return len(self._templates)


def catalog_relations(catalog: CatalogSnapshot, sight: Sight, user: str) -> CatalogRelations:
    """Return every relation of the catalogs as a role may see it; `user` is the only account that there is."""
    fill = filler(sight, user)
    return CatalogRelations(_templates(catalog), fill, sight.kinds)


def fill_in(node: Node, fill: Callable[[Node], Node | None]) -> Node:
    """Copy a tree with a role's sight in the place of the placeholders."""
    filled: Node = _flat(replace_nodes(node, fill))
    return filled


def _filled(template: Template, fill: Callable[[Node], Node | None]) -> VisibleRelation:
    if template.row_filter is None and not template.masks:
        return template.visible
    columns = dict(template.visible.columns)
    for name, mask in template.masks.items():
        columns[name] = replace(columns[name], mask=fill_in(mask, fill))
    row_filter = fill_in(template.row_filter, fill) if template.row_filter is not None else None
    return replace(template.visible, columns=columns, row_filter=row_filter)


def _flat(value: Any) -> Any:
    """Take ANDs out of ANDs and ORs out of ORs, as the parser does: what is printed must parse back into the same tree."""
    if isinstance(value, list):
        return [_flat(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _flat(item) for key, item in value.items()}
    for boolean in (made["BoolExpr"],) if "BoolExpr" in made else ():
        inner = [arg.get("BoolExpr", {}) for arg in boolean["args"]]
        same = [found.get("boolop") == boolean["boolop"] != "NOT_EXPR" for found in inner]
        boolean["args"] = [
            part
            for arg, found, is_same in zip(boolean["args"], inner, same, strict=True)
            for part in (found["args"] if is_same else [arg])
        ]
    return made


# -- templates: once for each snapshot


def system_relations(catalog: CatalogSnapshot) -> dict[QualifiedName, Relation]:
    """Return the relations of the catalogs themselves."""
    return {
        name: relation
        for name, relation in catalog.relations.items()
        if name.schema in CATALOG_SCHEMAS and relation.oid < FIRST_NORMAL_OID
    }


def _templates(catalog: CatalogSnapshot) -> dict[QualifiedName, Template]:
    """Return the templates of a snapshot's catalogs: the same for every database of a server, and kept for the last one asked."""
    relations = system_relations(catalog)
    for known, templates in _kept:
        if known == relations:
            return templates
    templates = {name: _template(relation, catalog) for name, relation in relations.items()}
    _kept[:] = [(relations, templates)]
    return templates


_kept: list[tuple[dict[QualifiedName, Relation], dict[QualifiedName, Template]]] = []


def _template(relation: Relation, catalog: CatalogSnapshot) -> Template:
    entry = catalogs()["relations"].get(str(relation.name))
    if entry is None:
        return Template(_visible(relation, {}), None, {})
    pseudo = pseudo_functions()

    def compiled(text: str) -> tuple[Node, bool]:
        made = resolve_expression(text, relation, catalog, SEARCH_PATH, purpose="mask", pseudo=pseudo)
        return made.node, made.has_sublink

    names = [column.name for column in relation.columns]
    masks = {name: compiled(text)[0] for name, text in (entry.get("mask") or {}).items() if name in names}
    masks |= {column.name: _null_of(column) for column in relation.columns if column.name in entry.get("blank", ())}
    if "raw" in entry:
        masks |= {column.name: _null_of(column) for column in relation.columns if column.name not in entry["raw"]}
    for column in relation.columns:
        if column.type_oid in REGISTERED:
            masks.setdefault(column.name, _oid_of(column))
    row_filter = None
    if "row_filter" in entry:
        node, has_sublink = compiled(entry["row_filter"])
        row_filter = build.is_true(node) if has_sublink else node
    columns = {
        column.name: VisibleColumn(column, is_readable=True, is_insertable=False, is_updatable=False)
        for column in relation.columns
    }
    return Template(_visible(relation, columns), row_filter, masks, entry.get("only_for"))


def _visible(relation: Relation, columns: dict[str, VisibleColumn]) -> VisibleRelation:
    return VisibleRelation(
        relation=relation,
        columns=columns,
        can_select=bool(columns),
        can_insert=False,
        can_update=False,
        can_delete=False,
        can_truncate=False,
        row_filter=None,
        check=None,
        grant_source="the built-in policy of the catalogs",
        is_catalog=True,
    )


def _null_of(column: Column) -> Node:
    """Make a NULL of a column's type, pseudo-types too."""
    own = build.column(OWN_ROW, column.name)
    return build.case(build.boolean(value=False), own, build.null())


def _oid_of(column: Column) -> Node:
    """Make the oid that a column of regproc and its kin is: see sql.registered."""
    return build.cast(build.column(OWN_ROW, column.name), OID_TYPE)


@lru_cache(maxsize=1)
def catalogs() -> dict[str, Any]:
    """Read data/catalogs.yaml; every scalar is text."""
    text = files("pgfaucet").joinpath("data/catalogs.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes nothing but text
    return found


# -- the functions of the catalog policy


@lru_cache(maxsize=1)
def pseudo_functions() -> dict[str, Callable[[list[Node]], Node]]:
    """Return the functions that expressions of the catalog policy may call beside PostgreSQL's."""
    made: dict[str, Callable[[list[Node]], Node]] = {name: _placeholder(name) for name in PLACEHOLDERS}
    made["path"] = lambda _: {RESOLVED: {CLIENT_SEARCH_PATH: {}}}
    made["on_path"] = lambda args: {RESOLVED: {ON_PATH: {"text": args[0][RESOLVED], "is_name": True}}}
    made["on_path_within"] = lambda args: {RESOLVED: {ON_PATH: {"text": args[0][RESOLVED], "is_name": False}}}
    for signature, text in catalogs()["definitions"].items():
        name, _, arguments = signature.rstrip(")").partition("(")
        made[name] = _definition([argument.strip() for argument in arguments.split(",")], text)
    return made


def _placeholder(name: str) -> Callable[[list[Node]], Node]:
    return lambda args: {RESOLVED: {PLACEHOLDER: {"function": name, "args": [arg[RESOLVED] for arg in args]}}}


def _definition(arguments: list[str], text: str) -> Callable[[list[Node]], Node]:
    """Make a function that stands for an expression over its arguments; their names begin with an underscore."""

    def expand(args: list[Node]) -> Node:
        given = dict(zip(arguments, args, strict=True))

        def argument(node: Node) -> Node | None:
            fields = node.get("ColumnRef", {}).get("fields", ())
            return given.get(fields[0].get("String", {}).get("sval", "")) if len(fields) == 1 else None

        return replace_nodes(parse_expression(text), argument)

    return expand


# -- what a role sees, as trees


def filler(sight: Sight, user: str) -> Callable[[Node], Node | None]:
    """Return what replaces the placeholders for one role."""
    conditions = _Conditions(sight)

    def fill(node: Node) -> Node | None:
        body = node.get(PLACEHOLDER)
        if body is None:
            return None
        args = [replace_nodes(arg, fill) for arg in body["args"]]
        match body["function"]:
            case "sees":
                return conditions.sees(args[0]["A_Const"]["sval"]["sval"], args[1])
            case "sees_column":
                return conditions.sees_column(args[0], args[1])
            case "sees_whole":
                return conditions.sees_whole(args[0])
            case "may":
                return conditions.may(args[0]["A_Const"]["sval"]["sval"], args[1])
            case "may_column":
                return conditions.may_column(args[0]["A_Const"]["sval"]["sval"], args[1], args[2])
            case "opens":
                return build.boolean(value=args[0]["A_Const"]["sval"]["sval"] in sight.kinds)
            case "role_name":
                return build.cast(
                    build.text(user), {**TEXT_TYPE, "names": [build.string("pg_catalog"), build.string("name")]}
                )
            case _:
                return _array(sorted(SHOWN_SETTINGS), TEXT_TYPE)

    return fill


class _Conditions:
    """Writes what a role sees as conditions on oids: constants, so that no statement asks the catalogs about the catalogs.

    A world that is open by default lists what is hidden, one that is closed by default lists what is seen: either way an object made
    since the catalog was read is as visible as it will be afterwards.
    """

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._lists: dict[str, tuple[bool, Node | None]] = {}

    def sees(self, kind: str, oid: Node) -> Node:
        """Make the condition that the object of that oid is in sight; kinds are properties of Sight."""
        if kind not in self._lists:
            self._lists[kind] = self._listed(kind)
        is_exclusion, array = self._lists[kind]
        if is_exclusion:
            return build.boolean(value=True) if array is None else build.operation(oid, "<>", array, "AEXPR_OP_ALL")
        is_system = build.operation(oid, "<", build.cast(build.text(str(FIRST_NORMAL_OID)), OID_TYPE))
        return is_system if array is None else _any_of(is_system, build.operation(oid, "=", array, "AEXPR_OP_ANY"))

    def sees_column(self, relation: Node, number: Node) -> Node:
        """Make the condition that a column is in sight; number 0 stands for the relation, negative ones are system columns."""
        seen = self.sees("relations", relation)
        sight = self._sight
        if not sight.partial:
            return seen
        zero: Node = {"A_Const": {"ival": {}}}
        return build.all_of(
            seen,
            _any_of(
                build.operation(number, "<=", zero),
                build.operation(relation, "<>", _array(sorted(sight.partial), OID_TYPE), "AEXPR_OP_ALL"),
                build.operation(
                    _pair(relation, number), "=", _array(sorted(sight.partial_columns), INT8_TYPE), "AEXPR_OP_ANY"
                ),
            ),
        )

    def sees_whole(self, relation: Node) -> Node:
        """Make the condition that a relation is in sight with all its columns."""
        seen = self.sees("relations", relation)
        if not self._sight.partial:
            return seen
        partial = _array(sorted(self._sight.partial), OID_TYPE)
        return build.all_of(seen, build.operation(relation, "<>", partial, "AEXPR_OP_ALL"))

    def may(self, what: str, relation: Node) -> Node:
        """Make the condition that the policy grants a privilege on a relation; those of Sight.rights."""
        rights = self._sight.rights
        granted = build.operation(relation, "=", _array(sorted(rights.relations[what]), OID_TYPE), "AEXPR_OP_ANY")
        if not what.startswith("select"):
            return granted
        closed = build.operation(relation, "<>", _array(self._closed(), OID_TYPE), "AEXPR_OP_ALL")
        is_system = build.operation(relation, "<", build.cast(build.text(str(FIRST_NORMAL_OID)), OID_TYPE))
        return _any_of(granted, build.all_of(is_system, closed))

    def _closed(self) -> list[int]:
        """Return the oids of catalogs that no client may read."""
        relations = self._sight.catalog.relations.items()
        known = catalogs()["relations"]
        return sorted(each.oid for name, each in relations if name.schema in CATALOG_SCHEMAS and str(name) not in known)

    def may_column(self, what: str, relation: Node, number: Node) -> Node:
        """Make the condition that the policy grants a privilege on a column."""
        pairs = self._sight.rights.columns[what]
        return _any_of(
            self.may(what, relation),
            build.operation(_pair(relation, number), "=", _array(sorted(pairs), INT8_TYPE), "AEXPR_OP_ANY"),
        )

    def _listed(self, kind: str) -> tuple[bool, Node | None]:
        sight = self._sight
        seen, hidden = sight.listed(kind)
        is_exclusion = sight.is_open_functions if kind == "functions" else sight.is_open
        oids = hidden if is_exclusion else seen
        return is_exclusion, _array(sorted(oids), OID_TYPE) if oids else None


def _pair(relation: Node, number: Node) -> Node:
    """Make one number of a relation's oid and a column's number."""
    shift = {"A_Const": {"ival": {"ival": 16}}}
    shifted = build.operation(build.cast(relation, INT8_TYPE), "<<", shift)
    return build.operation(shifted, "|", build.cast(number, INT8_TYPE))


def _any_of(*conditions: Node) -> Node:
    return {"BoolExpr": {"boolop": "OR_EXPR", "args": list(conditions)}}


def _array(values: Iterable[object], type_name: Mapping[str, Any]) -> Node:
    """Make an array constant. Values are oids and names of settings: nothing that would need quoting inside it."""
    bounds = {"arrayBounds": [{"Integer": {"ival": -1}}]}
    return build.cast(build.text("{" + ",".join(map(str, values)) + "}"), {**type_name, **bounds})
