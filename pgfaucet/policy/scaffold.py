"""Drafts a policy from a live catalog: what `pgfaucet init` writes. It grants reading only, and what it is not sure of stands in a comment."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgfaucet.sql.catalog import CatalogSnapshot, Relation

TENANTS: Final = (
    "tenant",
    "org",
    "organization",
    "organisation",
    "company",
    "account",
    "workspace",
    "customer",
    "user",
)
"""What rows belong to, as the columns that say so are mostly called: `tenant_id`. The first of those that most tables have is taken."""

_PRIVATE: Final = re.compile(
    r"(^|_)(pass|passwd|password|passphrase|pwd|secret|token|key|hash|salt|digest|signature|otp|pin|ssn|iban|cvv|cvc|credentials?)(_|$)"
    r"|api_?key|private_?key|card_?number|credit_?card|social_security",
    re.IGNORECASE,
)
_NOT_PRIVATE: Final = re.compile(r"^(primary_|foreign_|sort_)?key$", re.IGNORECASE)
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*")
_WORDS_OF_YAML: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_WIDTH: Final = 120

SERVER: Final = """\
server:
  listen: 127.0.0.1:6432
  tokens: {{store: "sqlite:tokens.db", max_ttl: 24h}}
  audit: {{file: audit.jsonl, key: audit.key, durability: batch, params: hash}}
databases:
  {name}:
    dsn: {dsn}
{password}    pool: {{mode: transaction, size: 20, wait_timeout: 10s}}
"""


def server_text(name: str, dsn: str, variable: str | None) -> str:
    """Write the server's file; `variable`: of the environment, that holds the password, None where none is needed."""
    password = f"    password: ${{{variable}}}\n" if variable is not None else ""
    return SERVER.format(name=_key(name), dsn=json.dumps(dsn), password=password)


def variable_for(database: str) -> str:
    """Name the variable that holds a database's password."""
    return f"{re.sub(r'[^A-Z0-9]+', '_', database.upper()).strip('_') or 'DATABASE'}_PASSWORD"


def role_text(database: str, catalog: CatalogSnapshot) -> str:
    """Write the file of one role that reads what seems to belong to its tenant."""
    relations = sorted(_relations(catalog), key=lambda relation: relation.name)
    tenant = _tenant_column(relations)
    roots = _roots(relations, tenant) if tenant is not None else {}
    lines = [
        f"# Drafted from the catalog of {database}: read it line by line before you use it. Only what stands here is open.",
        "roles:",
        f"  {_key(f'{database}-reader')}:",
        f"    description: Reads {database}" + (f", one {tenant[:-3]} only" if tenant is not None else ""),
        f"    database: {_key(database)}",
        "    tables:",
    ]
    body = [line for relation in relations for line in _table(relation, tenant, roots.get(relation.oid))]
    if all(line.lstrip().startswith("#") for line in body):
        lines[-1] = "    tables: {}"
    return "\n".join([*lines, *body, "    limits: {rows: 10000}", ""])


def dsn_without_password(user: str, hosts: Iterable[tuple[str, int]], database: str, options: dict[str, str]) -> str:
    """Write a connection URI."""
    places = list(hosts)
    sockets = [name for name, _ in places if name.startswith(("/", "@"))]
    if sockets:
        options = {"host": sockets[0], "port": str(places[0][1]), **options}
    where = "" if sockets else ",".join(f"{f'[{name}]' if ':' in name else name}:{port}" for name, port in places)
    query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in options.items())
    return f"postgresql://{quote(user, safe='')}@{where}/{quote(database, safe='')}" + (f"?{query}" if query else "")


def _relations(catalog: CatalogSnapshot) -> Iterator[Relation]:
    for name, relation in catalog.relations.items():
        is_system = name.schema in ("pg_catalog", "information_schema") or name.schema.startswith("pg_")
        if not is_system and relation.kind in "rpvm" and relation.columns and not relation.parents:
            yield relation


def _tenant_column(relations: list[Relation]) -> str | None:
    """Return the column by which most tables are told apart; at least two must have it."""
    counts = Counter(column.name for relation in relations for column in relation.columns)
    found = [f"{word}_id" for word in TENANTS if counts[f"{word}_id"] >= 2]
    return max(found, key=lambda name: counts[name], default=None)  # the first of equals


def _roots(relations: list[Relation], tenant: str) -> dict[int, str]:
    """Return the tables that the column refers to, by oid, and the column that it refers to there."""
    by_oid = {relation.oid: relation for relation in relations}
    roots: dict[int, str] = {}
    for relation in relations:
        numbers = {column.number for column in relation.columns if column.name == tenant}
        for constraint in relation.constraints:
            root = by_oid.get(constraint.references)
            if constraint.kind == "f" and constraint.columns == numbers and root is not None:
                names = [column.name for column in root.columns if column.number in constraint.referenced_columns]
                roots[root.oid] = names[0]
    return roots


def _table(relation: Relation, tenant: str | None, root: str | None) -> Iterator[str]:
    name = _table_name(relation)
    if name is None or not all(_PLAIN.fullmatch(column.name) for column in relation.columns):
        yield f"      # {json.dumps(str(relation.name))} has names that must be quoted: add it by hand"
        return
    private = [column.name for column in relation.columns if _is_private(column.name)]
    shown = [column.name for column in relation.columns if column.name not in private]
    key = next((column for column in relation.columns if column.name == (root or tenant)), None)
    mark = "" if tenant is None or key is not None else "# "
    if mark:
        yield f"      # {name} has no {tenant}: everybody's rows would be read"
    if private:
        yield f"      # {name}: left out, since they look private: {', '.join(private)}"
    if not shown:
        return
    yield f"      {mark}{name}:"
    yield from _wrapped(f"      {mark}  select: [", shown, mark)
    if tenant is not None and key is not None:
        yield f"        row_filter: {key.name} = claim('{tenant[:-3]}')::{key.type_sql}"


def _wrapped(start: str, names: list[str], mark: str) -> Iterator[str]:
    line = start
    for place, name in enumerate(names):
        part = name + ("]" if place == len(names) - 1 else ", ")
        if len(line) + len(part) > _WIDTH:
            yield line.rstrip()
            line = f"      {mark}    "
        line += part
    yield line


def _is_private(name: str) -> bool:
    return _PRIVATE.search(name) is not None and _NOT_PRIVATE.match(name) is None


def _table_name(relation: Relation) -> str | None:
    schema, name = relation.name
    if not (_PLAIN.fullmatch(schema) and _PLAIN.fullmatch(name)):
        return None
    return _key(name) if schema == "public" else f"{schema}.{name}"


def _key(name: str) -> str:
    is_plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) is not None and name.lower() not in _WORDS_OF_YAML
    return name if is_plain else json.dumps(name)
