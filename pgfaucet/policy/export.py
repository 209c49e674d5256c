"""A policy as native DDL: roles, grants and row security. What PostgreSQL cannot express becomes a comment beside it; what it could only
express wider than the policy says is not granted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pgfaucet.policy import native
from pgfaucet.policy.compile import SYSTEM_SCHEMAS, compile_role
from pgfaucet.sql import build
from pgfaucet.sql.expression import bind_row
from pgfaucet.sql.world import OWN_ROW

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from pgfaucet.policy.compile import CompiledRole, GrantedRelation
    from pgfaucet.policy.model import Limits, Role
    from pgfaucet.sql.catalog import CatalogSnapshot, Function, Relation
    from pgfaucet.sql.world import Node

OURS: Final = "pgfaucet"
"""Names the schema of the functions that look into other tables, and begins the name of every policy."""

SERVICE_POLICY: Final = f"{OURS} service"
VERBS: Final = ("select", "insert", "update", "delete")
WITH_ROW_SECURITY: Final = frozenset({"r", "p"})
SEQUENCE: Final = "S"
RESERVED_ROLES: Final = frozenset({"public", "none"})

PRELUDE: Final = """\
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS "pgfaucet";
ALTER SCHEMA "pgfaucet" OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA "pgfaucet" FROM PUBLIC;"""


@dataclass(frozen=True, slots=True)
class Server:
    """What the export has to know of the server beside the catalog."""

    user: str  # whom the proxy connects as
    user_passes: bool  # row security does not apply to that user: a superuser, or BYPASSRLS
    is_member: bool = False  # that user is a member of a role of the policy: it is to be held back by it
    unfit_roles: Mapping[str, str] = field(default_factory=dict)  # native roles that no policy can hold back, and why
    secured: Mapping[int, frozenset[str]] = field(default_factory=dict)  # tables with row security: their policies


@dataclass(frozen=True, slots=True)
class Subject:
    """A role to be written."""

    role: Role
    compiled: CompiledRole
    claims: Mapping[str, str]  # those with a value


class Export:
    """Writes roles of one database. `everyone` are all roles of the policy that use it, exported or not."""

    def __init__(
        self, catalog: CatalogSnapshot, server: Server, everyone: Iterable[Role], claims: Mapping[str, str]
    ) -> None:
        self._catalog = catalog
        self._server = server
        self._claims = claims
        roles = [compile_role(role, catalog) for role in everyone if role.access != "full"]
        self._secured = {
            granted.visible.relation.oid for role in roles for granted in role.granted.values() if _is_filtered(granted)
        } | server.secured.keys()

    def script(self, roles: Sequence[Role], title: str) -> str:
        """Write the whole script: one transaction that can be run again."""
        subjects = [Subject(role, compile_role(role, self._catalog), self._claims) for role in roles]
        open_claims = sorted({claim for subject in subjects for claim in _claims_of(subject)} - self._claims.keys())
        lines = [native.comment(title), *_head(open_claims), PRELUDE]
        fit = [subject for subject in subjects if self._unfit(subject.role) is None]
        lines += self._tables(fit)
        for subject in subjects:
            lines += ["", *self._role(subject)]
        return "\n".join([*lines, "", "COMMIT;", ""])

    # -- tables, once

    def _tables(self, subjects: Sequence[Subject]) -> Iterator[str]:
        relations = {
            granted.visible.relation.oid: granted.visible.relation
            for subject in subjects
            for granted in subject.compiled.granted.values()
        }
        for relation in relations.values():
            if self._is_secured(relation):
                yield from ("", f"ALTER TABLE {native.qualified(relation.name)} ENABLE ROW LEVEL SECURITY;")
                yield from self._other_users(relation)

    def _other_users(self, relation: Relation) -> Iterator[str]:
        """Keep the proxy's own user as it was, and name the policies of others, which widen ours."""
        found = self._server.secured.get(relation.oid)
        for name in sorted(found or ()):
            if not name.startswith(f"{OURS} "):
                yield native.comment(f"policy {name} of {relation.name} is not pgfaucet's; what it opens, it adds", 2)
        if self._server.user_passes or relation.owner == self._server.user:
            return
        user, table = native.identifier(self._server.user), native.qualified(relation.name)
        if found is not None or self._server.is_member:  # never open what someone has closed
            yield native.comment(f"the rows that {self._server.user} sees itself are not changed here", 2)
            return
        yield f"DROP POLICY IF EXISTS {native.identifier(SERVICE_POLICY)} ON {table};"
        yield f"CREATE POLICY {native.identifier(SERVICE_POLICY)} ON {table} TO {user} USING (true) WITH CHECK (true);"

    def _is_secured(self, relation: Relation) -> bool:
        return relation.oid in self._secured and relation.kind in WITH_ROW_SECURITY

    # -- a role

    def _unfit(self, role: Role) -> str | None:
        if role.access == "full":
            return "access: full is whatever the proxy's own user may do; there is nothing to grant"
        if role.name in RESERVED_ROLES or role.name.startswith("pg_"):
            return "PostgreSQL reserves this name"
        if not native.fits_name(role.name):
            return f"its name is longer than {native.MAX_NAME_BYTES} bytes"
        return self._server.unfit_roles.get(role.name)

    def _role(self, subject: Subject) -> Iterator[str]:
        role = subject.role
        yield native.comment(f"role {role.name}" + (f": {role.description}" if role.description else ""))
        unfit = self._unfit(role)
        if unfit is not None:
            yield native.comment(f"not exported: {unfit}", 2)
            return
        yield from (native.comment(f"not in native form: {note}", 2) for note in _role_notes(role))
        name = native.identifier(role.name)
        create = f"BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {native.literal(role.name)}) THEN CREATE ROLE {name} NOLOGIN; END IF; END"
        yield f"DO {native.literal(create)};"
        yield from self._revokes(name)
        usable = [granted for granted in subject.compiled.granted.values() if _has_rights(granted)]
        functions = self._functions(subject)
        schemas = {granted.visible.relation.name.schema for granted in usable}
        schemas |= {function.name.schema for function in functions}
        if schemas:
            yield f"GRANT USAGE ON SCHEMA {native.identifiers(sorted(schemas))} TO {name};"
        for granted in subject.compiled.granted.values():
            yield from (
                "",
                *_Table(self._catalog, subject, granted, self._is_secured(granted.visible.relation)).lines(),
            )
        yield from self._function_lines(functions, subject)

    def _revokes(self, name: str) -> Iterator[str]:
        schemas = [
            schema for schema in self._catalog.schemas if schema not in SYSTEM_SCHEMAS and not schema.startswith("pg_")
        ]
        if not schemas:
            return
        every = native.identifiers(sorted(schemas))
        yield f"REVOKE ALL ON SCHEMA {every} FROM {name};"
        for kind in ("TABLES", "SEQUENCES", "ROUTINES"):
            yield f"REVOKE ALL ON ALL {kind} IN SCHEMA {every} FROM {name};"

    def _functions(self, subject: Subject) -> list[Function]:
        granted = subject.compiled.functions.functions
        return [function for name in sorted(granted) if name.schema != OURS for function in granted[name]]

    def _function_lines(self, functions: Sequence[Function], subject: Subject) -> Iterator[str]:
        for function in functions:
            types = [self._catalog.types.get(oid) for oid in function.argument_types]
            if None in types:
                yield native.comment(
                    f"function {function.name}: a type of its arguments is not known, so it is not granted"
                )
                continue
            arguments = ", ".join(native.qualified(found.name) for found in types if found is not None)
            yield f"GRANT EXECUTE ON ROUTINE {native.qualified(function.name)}({arguments}) TO {native.identifier(subject.role.name)};"
        for name in sorted(subject.compiled.functions.builtins):
            yield native.comment(f"function {name} of pg_catalog: whoever may call it natively, may", 2)


class _Table:
    """Writes what one role is granted of one relation."""

    def __init__(self, catalog: CatalogSnapshot, subject: Subject, granted: GrantedRelation, is_secured: bool) -> None:
        self._catalog = catalog
        self._role = subject.role.name
        self._claims = subject.claims
        self._granted = granted
        self._visible = granted.visible
        self._is_secured = is_secured
        self._relation = granted.visible.relation
        self._to = native.identifier(subject.role.name)
        self._table = native.qualified(granted.visible.relation.name)

    def lines(self) -> Iterator[str]:
        """Write comments, grants and policies."""
        yield native.comment(f"{self._relation.name} for {self._role}")
        yield from (native.comment(f"not in native form: {note}", 2) for note in self._notes())
        if _has_rights(self._granted):
            yield from self._grants()
        if self._relation.kind in WITH_ROW_SECURITY:
            yield from (f"DROP POLICY IF EXISTS {self._policy_name(verb)} ON {self._table};" for verb in VERBS)
        if self._is_secured:
            yield from self._policies()

    def _notes(self) -> Iterator[str]:
        if not _has_rights(self._granted):
            yield "there is no row security on a relation of this kind, so nothing is granted on it"
        for column in self._granted.masks:
            yield f"mask of {column}: native PostgreSQL would show the value itself, so select is not granted on it"
        for column in self._granted.presets:
            yield f"preset of {column}: native PostgreSQL does not put it in; an insert with another value is refused"
        if self._visible.can_truncate and _is_filtered(self._granted):
            yield "truncate: it takes rows that the row filter hides, so it is not granted"

    # -- grants

    def _grants(self) -> Iterator[str]:
        parts = []
        columns = self._visible.columns
        if self._visible.can_select:
            readable = [
                name for name, column in columns.items() if column.is_readable and name not in self._granted.masks
            ]
            parts += self._on_columns("SELECT", readable)
        if self._relation.kind != SEQUENCE:
            insertable = [name for name in columns if columns[name].is_insertable or name in self._granted.presets]
            parts += self._on_columns("INSERT", insertable) if self._visible.can_insert else []
            updatable = [name for name, column in columns.items() if column.is_updatable]
            parts += self._on_columns("UPDATE", updatable) if self._visible.can_update else []
            parts += ["DELETE"] if self._visible.can_delete else []
            parts += ["TRUNCATE"] if self._visible.can_truncate and not _is_filtered(self._granted) else []
        if parts:
            yield f"GRANT {', '.join(parts)} ON {self._table} TO {self._to};"
        if self._visible.can_insert:
            yield from self._sequences()

    def _on_columns(self, verb: str, names: list[str]) -> list[str]:
        if not self._relation.columns:
            return [verb]
        return [f"{verb} ({native.identifiers(names)})"] if names else []

    def _sequences(self) -> Iterator[str]:
        """Grant what a default like nextval() uses; identity columns need nothing."""
        oids = sorted({oid for column in self._relation.columns for oid in column.default_relations})
        for sequence in map(self._catalog.relation_by_oid, oids):
            if sequence is not None and sequence.kind == SEQUENCE:
                yield f"GRANT USAGE ON SEQUENCE {native.qualified(sequence.name)} TO {self._to};"

    # -- policies

    def _policies(self) -> Iterator[str]:
        granted = self._granted
        verbs = [verb for verb in VERBS if getattr(self._visible, f"can_{verb}")]
        row_filter = native.condition(granted.row_filter, self._claims) if granted.row_filter is not None else None
        check = native.condition(granted.check, self._claims) if granted.check is not None else row_filter
        using = yield from self._clause("USING", "row_filter", row_filter, wanted=bool({*verbs} - {"insert"}))
        checked = [*build.conjuncts(check), *self._preset_conditions()] if "insert" in verbs else []
        inserted = build.all_of(*checked) if checked else None
        insert = yield from self._clause("WITH CHECK", "insert", inserted, wanted="insert" in verbs)
        update = yield from self._clause("WITH CHECK", "check", check, wanted="update" in verbs)
        clauses = {"select": using, "insert": insert, "update": f"{using} {update}", "delete": using}
        for verb in verbs:
            head = f"CREATE POLICY {self._policy_name(verb)} ON {self._table} FOR {verb.upper()} TO {self._to}"
            yield f"{head}\n    {clauses[verb]};"

    def _clause(self, word: str, purpose: str, condition: Node | None, *, wanted: bool) -> Generator[str, None, str]:
        """Yield what has to be made first, and return the clause."""
        if condition is None or not wanted:
            return f"{word} (true)"
        if not native.needs_owner(condition):
            return f"{word} ({native.printed(native.bare(condition))})"
        name = native.object_name(self._role, str(self._relation.name), purpose)
        function = f"{native.identifier(OURS)}.{native.identifier(name)}"
        signature = f"{function}({self._table})"
        body = f"SELECT {native.printed(bind_row(condition, OWN_ROW))}"
        yield (
            f"CREATE OR REPLACE FUNCTION {function}({OWN_ROW} {self._table}) RETURNS boolean\n"
            "    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp\n"
            f"    AS {native.literal(body)};"
        )
        yield f"ALTER FUNCTION {signature} OWNER TO CURRENT_USER;"  # had there been one already
        yield f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC;"
        yield f"GRANT EXECUTE ON FUNCTION {signature} TO {self._to};"
        return f"{word} ({function}({native.identifier(self._relation.name.name)}.*))"

    def _preset_conditions(self) -> Iterator[Node]:
        for name, preset in self._granted.presets.items():
            value = native.with_claims(preset, self._claims)
            yield native.is_preset(self._visible.columns[name].column, value, self._catalog)

    def _policy_name(self, verb: str) -> str:
        return native.identifier(native.object_name(OURS, self._role, verb))


def _is_filtered(granted: GrantedRelation) -> bool:
    return granted.row_filter is not None or granted.check is not None or bool(granted.presets)


def _has_rights(granted: GrantedRelation) -> bool:
    """Say whether anything may be granted natively: on a view or foreign table nothing where rows are filtered."""
    return granted.visible.relation.kind in WITH_ROW_SECURITY or not _is_filtered(granted)


def _claims_of(subject: Subject) -> frozenset[str]:
    found: set[str] = set()
    for granted in subject.compiled.granted.values():
        for expression in (granted.row_filter, granted.check, *granted.presets.values()):
            found |= expression.claims if expression is not None else frozenset()
    return frozenset(found)


def _head(open_claims: Sequence[str]) -> Iterator[str]:
    yield native.comment(
        "Run it as a superuser or the tables' owner. It changes only the roles named here; what is granted to PUBLIC stays."
    )
    if open_claims:
        settings = ", ".join(native.SETTING + claim for claim in open_claims)
        yield native.comment(
            f"Claims are settings: {settings}. Whoever can run SET can change them; --claim K=V writes constants instead."
        )
    for claim in open_claims:
        if not native.is_settable(claim):
            yield native.comment(f"claim {claim}: no setting can have this name, so it is absent; use --claim")


def _role_notes(role: Role) -> Iterator[str]:
    for name, value in role.settings.items():
        yield f"settings.{name} = {value}: a native role can change its settings"
    yield from (f"limits.{name} = {value}" for name, value in _limits(role.limits))
    if role.allow_set:
        yield f"allow_set: {', '.join(role.allow_set)}; a native role can change any of its settings"
    if role.statements:
        yield f"statements: {', '.join(role.statements)}"
    if role.require_where:
        yield "require_where"
    if role.mode != "enforce":
        yield f"mode: {role.mode}; native grants and row security always refuse"
    yield f"explain: {role.explain}; a native role can EXPLAIN what it can run"
    yield f"search_path: {', '.join(role.search_path)}; a native role has its own"


def _limits(limits: Limits) -> Iterator[tuple[str, object]]:
    for name in type(limits).__dataclass_fields__:
        value = getattr(limits, name)
        if value is not None:
            yield name, value
