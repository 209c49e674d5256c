from __future__ import annotations

from dataclasses import replace

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.policy.compile import compile_world
from pgfaucet.sql.catalog import Index, QualifiedName, Type
from pgfaucet.sql.registered_names import find, oid_of, split
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import RewriteContext
from tests.kit.catalog import shop
from tests.kit.policy_files import agent, role_of

KEYS = "tables: {orders: {select: [id, tenant_id]}, order_totals: {select: true}}\nfunctions: [public.order_total]"
INDEXES = (
    Index(20_100, "orders_pkey", True, True, (1,), frozenset({1})),
    Index(20_101, "orders_note", False, False, (6,), frozenset({6})),
)


@pytest.fixture
def resolver():
    snapshot = shop()
    orders = QualifiedName("public", "orders")
    relations = snapshot.relations | {orders: replace(snapshot.relations[orders], indexes=INDEXES)}
    types = snapshot.types | {1007: Type(1007, QualifiedName("pg_catalog", "_int4"), "b", 0, 23, 0, 0)}
    types[23] = replace(types[23], array=1007)
    known = replace(snapshot, relations=relations, types=types)
    world, _ = compile_world(role_of(agent(KEYS)), known, {}, "agent")
    return Resolver(RewriteContext(world, ("public",)))


@pytest.mark.parametrize(
    ("kind", "written", "oid"),
    [
        ("regclass", "orders", 20_020),
        ("regclass", ' "public" . ORDERS', 20_020),
        ("regclass", "shop.public.orders", 20_020),
        ("regclass", "orders_pkey", 20_100),
        ("regclass", "123", 123),
        ("regclass", "-", 0),
        ("regtype", "int4", 23),
        ("regtype", "integer[]", 1007),
        ("regtype", "numeric(10,2)", 1700),
        ("regtype", "order_totals", 20_051),
        ("regnamespace", "public", 2200),
        ("regrole", "agent", 10),
        ("regproc", "order_total", 22_000),
        ("regprocedure", "public.order_total(int4)", 22_000),
    ],
)
def test_a_name_in_sight_is_found(resolver, kind, written, oid):
    assert oid_of(find(resolver, kind, written, None)) == oid


@pytest.mark.parametrize(
    ("kind", "written", "sqlstate"),
    [
        ("regclass", "api_keys", "42P01"),
        ("regclass", "hr.salaries", "42P01"),
        ("regclass", "orders_note", "42P01"),
        ("regclass", "no such", "42602"),
        ("regclass", "other.public.orders", "0A000"),
        ("regclass", "99999999999", "22003"),
        ("regtype", "api_keys", "42704"),
        ("regtype", "orders", "42704"),  # its row type names columns that are hidden
        ("regtype", "int4) , (select 1", "42601"),
        ("regtype", "int4) from api_keys--", "42601"),
        ("regtype", "setof int4", "42601"),
        ("regtype", "api_keys.key%type", "42601"),
        ("regnamespace", "hr", "3F000"),
        ("regnamespace", "nowhere", "3F000"),
        ("regrole", "postgres", "42704"),
        ("regproc", "dblink_exec", "42883"),
        ("regprocedure", "order_total(text)", "42883"),
        ("regprocedure", "order_total", "22P02"),
        ("regoper", "public.+", "42704"),
        ("regcollation", "public.secret", "42704"),
    ],
)
def test_a_name_that_means_nothing_in_sight_is_an_error(resolver, kind, written, sqlstate):
    with pytest.raises(FaucetError) as raised:
        find(resolver, kind, written, None)
    assert raised.value.sqlstate == sqlstate


def test_what_only_the_server_can_have_is_left_to_it(resolver):
    assert oid_of(find(resolver, "regproc", "lower", None)) is None
    assert oid_of(find(resolver, "regoper", "+", None)) is None


@pytest.mark.parametrize(
    ("written", "parts"), [('"A.b".c', ["A.b", "c"]), ("A", ["a"]), ("shop.b.c", ["b", "c"]), ("a b", []), ("", [])]
)
def test_a_name_is_taken_apart(written, parts):
    assert split(written, "shop") == parts
