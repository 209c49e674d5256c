"""Functions of pg_catalog that tell of objects (format_type, pg_get_indexdef, ...), as a role may call them: from data/catalogs.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from pgfaucet.policy.catalog_policy import SEARCH_PATH, catalogs, fill_in, filler, pseudo_functions, system_relations
from pgfaucet.sql.catalog import Column, QualifiedName, Relation
from pgfaucet.sql.expression import PolicyError, resolve_expression
from pgfaucet.sql.registered import FIND, FIND_ALL, FIND_OR_FAIL, SHOW, SHOW_ALL, TYPES
from pgfaucet.sql.world import Description

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.policy.sight import Sight
    from pgfaucet.sql.catalog import CatalogSnapshot

Key = tuple[str, int]
"""Name and number of arguments; for a regclass and its kin, what is wanted of it (sql.registered)."""

KINDS: Final = ("functions", "leaky_functions", "sets")
_SIGNATURE: Final = re.compile(r"(\w+)\((.*)\)(?: returns (\w+))?")
_RESULTS: Final = {"text": 25, "name": 19, "bool": 16, "oid": 26, "record": 0, "any": 0}
_DIGITS: Final = "^[0-9]{1,10}$"
_NAMED: Final = f"case when _name is null then null when _name ~ '{_DIGITS}' then _name::oid when _name = '-' then 0::oid else %s end"
_EACH: Final = "case when _values is not null then array(select %s from unnest(_values) with ordinality as u(v, n) order by u.n) end"


class Descriptions(Mapping[Key, Description]):
    """What those functions become for a role, made when it is first asked for."""

    def __init__(self, catalog: CatalogSnapshot, sight: Sight, user: str) -> None:
        self._templates = _templates(catalog)
        self._fill = filler(sight, user)
        self._made: dict[Key, Description] = {}

    @override
    def __getitem__(self, key: Key) -> Description:
        found = self._made.get(key)
        if found is None:
            template = self._templates[key]
            found = self._made[key] = replace(template, node=fill_in(template.node, self._fill))
        return found

    @override
    def __contains__(self, key: object) -> bool:
        return key in self._templates

    @override
    def __iter__(self) -> Iterator[Key]:
        return iter(self._templates)

    @override
    def __len__(self) -> int:
        return len(self._templates)


def _templates(catalog: CatalogSnapshot) -> Mapping[Key, Description]:
    """Return them before a role's sight is filled in: the same for every database of a server, and kept for the last one asked."""
    server = (catalog.system_functions, system_relations(catalog))
    for known, templates in _kept:
        if known == server:
            return templates
    made: dict[Key, Description] = {}
    for section in KINDS:
        for signature, text in catalogs()[section].items():
            with suppress(PolicyError):  # another version's catalogs: the function stays closed
                made |= _function(section, signature, text, catalog)
    for kind, entry in catalogs()["registered"].items():
        with suppress(PolicyError):
            made |= _registered(kind, entry, catalog)
    _kept[:] = [(server, made)]
    return made


_kept: list[tuple[tuple[frozenset[str], dict[QualifiedName, Relation]], Mapping[Key, Description]]] = []


def _function(section: str, signature: str, text: str, catalog: CatalogSnapshot) -> dict[Key, Description]:
    name, arguments, result = _SIGNATURE.fullmatch(signature).groups()  # type: ignore[union-attr] # the file is ours
    if name not in catalog.system_functions:
        return {}
    parameters = [_parameter(argument) for argument in arguments.split(",") if argument.strip()]
    type_oid = -TYPES[result][0] if result in TYPES else _RESULTS[result or "text"]
    found = _described(text, parameters, catalog, is_leaky=section != "functions", result=type_oid)
    return {(name, len(parameters)): replace(found, is_set=section == "sets", is_record=result == "record")}


def _registered(kind: str, entry: Mapping[str, str], catalog: CatalogSnapshot) -> dict[Key, Description]:
    """Make what a value of regclass and its kin is shown as, and what a name means."""
    if catalog.type_named(QualifiedName("pg_catalog", kind)) is None:
        return {}
    oid, name = ("_oid", "oid"), ("_name", "text")
    held, show = -TYPES[kind][0], entry["show"]
    each = _EACH % re.sub(r"\b_oid\b", "u.v", show)
    made = {
        (kind, SHOW): _described(show, [oid], catalog, is_leaky=False, result=25),
        (kind, SHOW_ALL): _described(each, [("_values", "oid[]")], catalog, is_leaky=False, result=1009),
    }
    if "find" not in entry:
        return made
    find = _NAMED % entry["find"]
    # what is not in sight is looked for where it cannot be, which raises the server's own error
    strict = _NAMED % f"coalesce({entry['find']}, quote_ident({entry.get('missing', '_name')})::{kind}::oid)"
    each = _EACH % re.sub(r"\b_name\b", "u.v", strict)
    made[kind, FIND] = _described(find, [name], catalog, is_leaky=True, result=held)
    made[kind, FIND_OR_FAIL] = _described(strict, [name], catalog, is_leaky=True, result=held)
    made[kind, FIND_ALL] = _described(each, [("_values", "text[]")], catalog, is_leaky=True, result=-TYPES[kind][1])
    if f"to_{kind}" in catalog.system_functions:
        made[f"to_{kind}", 1] = made[kind, FIND]
    return made


def _parameter(written: str) -> tuple[str, str]:
    name, kind = written.split()
    return name, kind


def _described(
    text: str, parameters: list[tuple[str, str]], catalog: CatalogSnapshot, *, is_leaky: bool, result: int
) -> Description:
    columns = tuple(
        Column(parameter, number, 0, -1, "", not_null=False, default=None, generated="", identity="")
        for number, (parameter, _) in enumerate(parameters, 1)
    )
    own = Relation(0, QualifiedName("", "pgfaucet"), "r", "", columns, (), frozenset(), (), 0)
    made = resolve_expression(text, own, catalog, SEARCH_PATH, purpose="mask", pseudo=pseudo_functions())
    return Description(tuple(parameters), made.node, made.has_sublink, is_leaky, result)
