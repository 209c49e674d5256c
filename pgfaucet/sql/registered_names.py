"""What a written name means as a regclass, regtype, ...: found in the role's world when the statement is decided.

The rules are those of regclassin and its kin (utils/adt/regproc.c): digits are an oid, `-` is none, a name goes along the search_path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build, types
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.parse import parse
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.catalog import CatalogSnapshot, Function
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.world import Node

_OID_TYPE: Final = {"names": [build.string("pg_catalog"), build.string("oid")], "typemod": -1}
_PART: Final = r'(?:"(?:[^"]|"")+"|[^\s".()\[\],]+)'
_IDENTIFIER: Final = re.compile(r'"((?:[^"]|"")+)"|([^\s".]+)')
_QUALIFIED: Final = re.compile(rf"\s*{_PART}(?:\s*\.\s*{_PART}){{0,2}}\s*")
_SIGNATURE: Final = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})?)\s*\((.*)\)\s*", re.DOTALL)
_SYSTEM_ONLY: Final = re.compile(
    r"\s*(?:pg_catalog\.)?(?:[a-z_][a-z0-9_]*|[-+*/<>=~!@#%^&|`?]+)\s*(?:\([a-z0-9_ ,]*\))?\s*"
)
_SPECIAL_SCHEMAS: Final = {"pg_catalog": 11, "pg_toast": 99}
_OWN_ACCOUNT: Final = 10
_MAX_OID: Final = 2**32 - 1
_MAX_TYPE_BYTES: Final = 1024


def find(resolver: Resolver, kind: str, written: str, location: int | None) -> Node:
    """Return the oid of what a name means as a value of the type `kind`.

    Raises FaucetError: as PostgreSQL words it for a name that means nothing.
    """
    if written.isascii() and written.isdigit():
        if int(written) > _MAX_OID:
            resolver.fail("22003", f'value "{written}" is out of range for type oid', location)
        return oid_constant(int(written))
    if written == "-" and kind not in ("regoper", "regoperator"):
        return oid_constant(0)
    return _FINDERS.get(kind, _system)(resolver, kind, written, location)


def oid_constant(oid: int) -> Node:
    """Make an oid."""
    return build.cast(build.text(str(oid)), dict(_OID_TYPE))


def oid_of(node: Node) -> int | None:
    """Return the value of an oid that `find` has made; None for anything else."""
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    written = node.get("A_Const", {}).get("sval", {}).get("sval", "")
    return int(written) if written.isdigit() else None


def split(written: str, database: str) -> list[str]:
    """Take a name apart; empty when it is not one (varlena.c, textToQualifiedNameList)."""
    if _QUALIFIED.fullmatch(written) is None:
        return []
    path = [quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in _IDENTIFIER.findall(written)]
    return path[1:] if len(path) == 3 and path[0] == database else path


def _relation(resolver: Resolver, _kind: str, written: str, location: int | None) -> Node:
    world, path = resolver.world, _path(resolver, written, location)
    if len(path) <= 2:
        schema = path[0] if len(path) == 2 else None
        found = world.lookup(schema, path[-1], resolver.context.search_path)
        if found is not None:
            return oid_constant(found.relation.oid)
        for candidate in (schema,) if schema is not None else _search_path(resolver):
            oid = _other_relations(world.catalog).get(QualifiedName(candidate, path[-1]))
            if oid is not None and world.knows("relations", oid):
                return oid_constant(oid)
    resolver.fail(Sqlstate.UNDEFINED_TABLE, f'relation "{".".join(path)}" does not exist', location)


def _other_relations(catalog: CatalogSnapshot) -> dict[QualifiedName, int]:
    """Return indexes and composite types by name; kept with the snapshot."""
    kept: dict[QualifiedName, int] | None = catalog.__dict__.get("_other_relations")
    if kept is None:
        kept = {
            QualifiedName(relation.name.schema, index.name): index.oid
            for relation in catalog.relations.values()
            for index in relation.indexes
        }
        kept |= {composite.name: oid for oid, composite in catalog.composites.items()}
        catalog.__dict__["_other_relations"] = kept
    return kept


def _type(resolver: Resolver, _kind: str, written: str, location: int | None) -> Node:
    type_name = _type_name(resolver, written, location)
    names = strings(type_name["names"])
    if len(names) == 3 and names[0] == resolver.world.catalog.database:
        names = names[1:]
    found = types.find_type(resolver, names[0] if len(names) == 2 else None, names[-1]) if len(names) <= 2 else None
    oid = 0 if found is None else found.array if type_name.get("arrayBounds") else found.oid
    if not oid or not resolver.world.knows("types", oid):
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, f'type "{written}" does not exist', location)
    return oid_constant(oid)


def _type_name(resolver: Resolver, written: str, location: int | None) -> Node:
    """Read a type's name as the grammar does (parseTypeString)."""
    try:
        statements = parse(f"SELECT CAST(NULL AS {written})", max_bytes=_MAX_TYPE_BYTES, max_depth=20)
        (target,) = statements[0].stmt["SelectStmt"].pop("targetList")
        cast = target["ResTarget"].pop("val")["TypeCast"]
        is_plain = len(statements) == 1 and not target["ResTarget"].keys() - {"location"}
        is_plain = is_plain and statements[0].stmt["SelectStmt"].keys() <= {"limitOption", "op"}
    except (FaucetError, KeyError, ValueError, IndexError):
        is_plain, cast = False, {}
    found: Node = cast.get("typeName", {})
    if not is_plain or found.get("setof") or found.get("pct_type") or cast["arg"].keys() != {"A_Const"}:
        resolver.fail(Sqlstate.SYNTAX_ERROR, f'invalid type name "{written}"', location)
    return found


def _schema(resolver: Resolver, _kind: str, written: str, location: int | None) -> Node:
    (name, *more) = _path(resolver, written, location)
    oid = _SPECIAL_SCHEMAS.get(name) or resolver.world.catalog.schemas.get(name)
    if more or oid is None or not resolver.world.knows("schemas", oid):
        resolver.fail("3F000", f'schema "{name}" does not exist', location)
    return oid_constant(oid)


def _role(resolver: Resolver, _kind: str, written: str, location: int | None) -> Node:
    path = _path(resolver, written, location)
    if path != [resolver.world.user]:
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, "role does not exist", location)
    return oid_constant(_OWN_ACCOUNT)


def _function(resolver: Resolver, kind: str, written: str, location: int | None) -> Node:
    signature = _SIGNATURE.fullmatch(written) if kind == "regprocedure" else None
    if kind == "regprocedure" and signature is None:
        resolver.fail("22P02", "expected a left parenthesis", location)
    path = _path(resolver, signature[1] if signature is not None else written, location)
    schema = path[0] if len(path) == 2 else None
    is_system = schema in (None, "pg_catalog") and path[-1] in resolver.world.catalog.system_functions
    if is_system and _SYSTEM_ONLY.fullmatch(written) is not None:
        return _system(resolver, kind, written, location)
    wanted = None
    if signature is not None:
        parts = [part for part in signature[2].split(",") if part.strip()]
        wanted = tuple(oid_of(_type(resolver, kind, part, location)) for part in parts)
    for candidate in (schema,) if schema is not None else resolver.context.search_path:
        found = _overloads(resolver, QualifiedName(candidate, path[-1]), wanted)
        if len(found) > 1:
            resolver.fail("42725", f'more than one function named "{written}"', location)
        if found:
            return oid_constant(found[0].oid)
    resolver.fail(Sqlstate.UNDEFINED_FUNCTION, f'function "{written}" does not exist', location)


def _overloads(resolver: Resolver, name: QualifiedName, wanted: tuple[int | None, ...] | None) -> list[Function]:
    world = resolver.world
    return [
        each
        for each in world.functions.get(name, ())
        if world.knows("functions", each.oid) and (wanted is None or each.argument_types == wanted)
    ]


def _system(resolver: Resolver, kind: str, written: str, location: int | None) -> Node:
    """Let the server find what can only be its own: on its search_path there is nothing else."""
    if _SYSTEM_ONLY.fullmatch(written) is None:
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, f'"{written}" does not exist', location)
    own = {"names": [build.string("pg_catalog"), build.string(kind)], "typemod": -1}
    return build.cast(build.cast(build.text(written), own), dict(_OID_TYPE))


def _path(resolver: Resolver, written: str, location: int | None) -> list[str]:
    path = split(written, resolver.world.catalog.database)
    if not path:
        _invalid(resolver, location)
    if len(path) > 2:
        what = f'cross-database references are not implemented: "{".".join(path)}"'
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, what, location)
    return path


def _invalid(resolver: Resolver, location: int | None) -> NoReturn:
    resolver.fail("42602", "invalid name syntax", location)


def _search_path(resolver: Resolver) -> tuple[str, ...]:
    path = resolver.context.search_path
    return path if "pg_catalog" in path else ("pg_catalog", *path)


_FINDERS: Final[dict[str, Callable[[Resolver, str, str, int | None], Node]]] = {
    "regclass": _relation,
    "regtype": _type,
    "regnamespace": _schema,
    "regrole": _role,
    "regproc": _function,
    "regprocedure": _function,
}
