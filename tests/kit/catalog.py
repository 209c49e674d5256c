"""A catalog made by hand: what decides and what checks a policy works on it as on a live one, without a server."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pgfaucet.sql.catalog import (
    CatalogSnapshot,
    Column,
    Constraint,
    Function,
    OperatorKey,
    QualifiedName,
    Relation,
    Type,
    UniqueKey,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLIC = 2200
SYSTEM_TYPES = {"bool": 16, "int8": 20, "int4": 23, "text": 25, "numeric": 1700, "uuid": 2950}
SQL_NAMES = {"bool": "boolean", "int8": "bigint", "int4": "integer"}


def relation(oid: int, name: str, columns: dict[str, str], **changes: Any) -> Relation:
    """Make a table; `columns` are names and types of pg_catalog. Its row type has the next oid."""
    schema, _, bare = name.rpartition(".")
    values: dict[str, Any] = {
        "oid": oid,
        "name": QualifiedName(schema or "public", bare),
        "kind": "r",
        "owner": "shop",
        "columns": tuple(
            Column(column, number, SYSTEM_TYPES[kind], -1, SQL_NAMES.get(kind, kind), False, None, "", "")
            for number, (column, kind) in enumerate(columns.items(), 1)
        ),
        "unique_keys": (),
        "before_triggers": frozenset(),
        "parents": (),
        "row_type": oid + 1,
    }
    return Relation(**(values | changes))


def function(oid: int, name: str, *, extension: str = "") -> Function:
    """Make a function from integer to integer."""
    integer = SYSTEM_TYPES["int4"]
    schema, _, bare = name.rpartition(".")
    return Function(oid, QualifiedName(schema, bare), "f", "i", (integer,), integer, False, "sql", False, extension)


def catalog(relations: Iterable[Relation], functions: Iterable[Function] = ()) -> CatalogSnapshot:
    """Make a snapshot of these relations and functions, and of a few types, functions and operators of pg_catalog."""
    tables = {each.name: each for each in relations}
    types = {oid: Type(oid, QualifiedName("pg_catalog", name), "b", 0, 0, 0, 0) for name, oid in SYSTEM_TYPES.items()}
    types |= {each.row_type: Type(each.row_type, each.name, "c", 0, 0, 0, each.oid) for each in tables.values()}
    schemas = {"pg_catalog": 11, "public": PUBLIC}
    numbers = itertools.count(90_000)
    for each in tables.values():
        schemas.setdefault(each.name.schema, next(numbers))
    return CatalogSnapshot(
        version=1,
        server_version=180_000,
        database="shop",
        relations=tables,
        types=types,
        functions={each.name: (each,) for each in functions},
        system_functions=frozenset({"count", "sum", "left", "lower", "length", "now", "random", "pg_read_file", "md5"}),
        leakproof_operators=frozenset(
            OperatorKey(name, oid, oid) for name in ("=", "<>", "<", ">") for oid in (16, 20, 23, 25)
        ),
        schemas=schemas,
        aggregate_functions=frozenset({"count", "sum"}),
        volatile_functions=frozenset({"random", "pg_read_file"}),
        system_operators=frozenset({"=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||", "~~"}),
    )


def shop() -> CatalogSnapshot:
    """Make the catalog of a small shop: tenants and customers, their orders and order lines, a view, and secrets."""
    tenant = {"tenant_id": "int4"}
    tenants = relation(
        20_000, "tenants", {"id": "int4", "name": "text"}, unique_keys=(UniqueKey("tenants_pkey", (1,), True),)
    )
    customers = relation(
        20_010,
        "customers",
        {"id": "int4", **tenant, "name": "text", "email": "text"},
        unique_keys=(UniqueKey("customers_pkey", (1,), True), UniqueKey("customers_email_key", (4,), False)),
    )
    orders = relation(
        20_020,
        "orders",
        {"id": "int4", **tenant, "customer_id": "int4", "status": "text", "total": "numeric", "note": "text"},
        unique_keys=(UniqueKey("orders_pkey", (1,), True),),
        constraints=(
            Constraint(21_000, "orders_customer_id_fkey", "f", frozenset({3}), 20_010, frozenset({1}), 0, "a", "a"),
        ),
    )
    lines = relation(
        20_030,
        "order_lines",
        {"order_id": "int4", "position": "int4", "price": "numeric"},
        constraints=(
            Constraint(21_001, "order_lines_order_id_fkey", "f", frozenset({1}), 20_020, frozenset({1}), 0, "c", "a"),
        ),
    )
    old = relation(20_040, "orders_2024", {"id": "int4", **tenant, "note": "text"}, parents=(20_020,))
    totals = relation(20_050, "order_totals", {**tenant, "total": "numeric"}, kind="v")
    secrets = relation(20_060, "api_keys", {"key": "text"})
    salaries = relation(20_070, "hr.salaries", {"id": "int4", "amount": "numeric"})
    return catalog(
        (tenants, customers, orders, lines, old, totals, secrets, salaries),
        (function(22_000, "public.order_total"), function(22_001, "public.dblink_exec", extension="dblink")),
    )
