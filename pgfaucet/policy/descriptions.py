"""Functions of pg_catalog that tell of objects (format_type, pg_get_indexdef, ...), as a role may call them: from data/catalogs.yaml."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgfaucet.policy.catalog_policy import SEARCH_PATH, catalogs, fill_in, filler, pseudo_functions
from pgfaucet.sql import build
from pgfaucet.sql.catalog import Column, QualifiedName, Relation
from pgfaucet.sql.expression import PolicyError, resolve_expression
from pgfaucet.sql.world import Description

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgfaucet.policy.sight import Sight
    from pgfaucet.sql.catalog import CatalogSnapshot

Key = tuple[str, int]
"""Name and number of arguments."""

KINDS: Final = ("functions", "leaky_functions", "arguments")
_SIGNATURE: Final = re.compile(r"(\w+)\((.*)\)")


def descriptions(catalog: CatalogSnapshot, sight: Sight, user: str) -> dict[Key, Description]:
    """Return what those functions become for a role."""
    fill = filler(sight, user)
    return {key: replace(found, node=fill_in(found.node, fill)) for key, found in _templates(catalog).items()}


def _templates(catalog: CatalogSnapshot) -> Mapping[Key, Description]:
    """Return them before a role's sight is filled in; kept with the snapshot."""
    kept: dict[Key, Description] | None = catalog.__dict__.get("_descriptions")
    if kept is None:
        kept = {}
        for kind in KINDS:
            for signature, text in catalogs()[kind].items():
                if _exists(signature.partition("(")[0], catalog):
                    with suppress(PolicyError):  # another version's catalogs: the function stays closed
                        kept.update((_template(signature, text, catalog, kind),))
        catalog.__dict__["_descriptions"] = kept
    return kept


def _exists(name: str, catalog: CatalogSnapshot) -> bool:
    """Whether a server has that function; a cast is written as a function, named for its type."""
    cast = QualifiedName("pg_catalog", name.removeprefix("text_to_"))
    return name in catalog.system_functions or catalog.type_named(cast) is not None


def _template(signature: str, text: str, catalog: CatalogSnapshot, kind: str) -> tuple[Key, Description]:
    name, arguments = _SIGNATURE.fullmatch(signature).groups()  # type: ignore[union-attr] # the file is ours
    parameters = [tuple(argument.split()) for argument in arguments.split(",") if argument.strip()]
    columns = tuple(
        Column(parameter, number, 0, -1, "", not_null=False, default=None, generated="", identity="")
        for number, (parameter, _) in enumerate(parameters, 1)
    )
    own = Relation(0, QualifiedName("", name), "r", "", columns, (), frozenset(), (), 0)
    made = resolve_expression(text, own, catalog, SEARCH_PATH, purpose="mask", pseudo=pseudo_functions())
    types = tuple(
        (parameter, {"names": [build.string("pg_catalog"), build.string(type_name)], "typemod": -1})
        for parameter, type_name in parameters
    )
    return (name, len(parameters)), Description(
        types, made.node, made.has_sublink, is_leaky=kind != "functions", is_argument=kind == "arguments"
    )
