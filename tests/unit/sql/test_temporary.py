from __future__ import annotations

from dataclasses import replace

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.sql.catalog import QualifiedName, Type
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.rewrite import rewrite_statement
from pgfaucet.sql.rewritten import RewriteContext
from tests.unit.sql.test_utility import BARE, ORDERS, relation, tree, world

TYPES = {
    oid: Type(oid, QualifiedName("pg_catalog", name), "b", 0, 0, 0, 0)
    for oid, name in ((23, "int4"), (25, "text"), (2205, "regclass"))
}
MINE = relation("mine", oid=90)
MINE = replace(MINE, relation=replace(MINE.relation, name=QualifiedName("pg_temp", "mine")), row_filter=None)


def rewrite(sql, statements=("temp",)):
    narrow = world()
    known = {item.relation.name: item for item in (ORDERS, BARE, MINE)}
    catalog = replace(narrow.catalog, types=TYPES, system_functions=frozenset({"lower", "pg_read_file"}))
    own = world(relations=known, catalog=catalog, statements=frozenset(statements))
    return rewrite_statement(tree(sql), RewriteContext(own, ("public",), sql))


def refusal(sql, statements=("temp",)):
    with pytest.raises(FaucetError) as caught:
        rewrite(sql, statements)
    return caught.value.sqlstate


@pytest.mark.parametrize(
    ("sql", "sent"),
    [
        (
            "create temp table t (a int primary key, b text not null default lower('X'))",
            "CREATE TEMPORARY TABLE t (a int",
        ),
        (
            "create temp table if not exists t (a int, unique (a)) on commit drop",
            "CREATE TEMPORARY TABLE IF NOT EXISTS t",
        ),
        ("create table pg_temp.t (a int)", "CREATE TABLE pg_temp.t"),
        ("create unique index i on mine (id desc)", "CREATE UNIQUE INDEX i ON pg_temp.mine"),
        ("drop table if exists mine", "DROP TABLE IF EXISTS pg_temp.mine"),
        ("drop table orders", "DROP TABLE pg_temp.orders"),
        ("create temp table t as select id from kv", "CREATE TEMPORARY TABLE t AS SELECT id FROM public.kv"),
        ("select id into temp t from kv", "SELECT id INTO TEMPORARY t FROM public.kv"),
    ],
)
def test_a_role_may_have_temporary_tables_of_its_own(sql, sent):
    made = rewrite(sql)
    assert print_verified(made.tree).startswith(sent)
    assert (made.pin, made.changes_catalog) == ("temporary object", True)


@pytest.mark.parametrize(
    "sql",
    [
        "create table t (a int)",
        "create unlogged table t (a int)",
        "create temp table public.t (a int)",
        "create temp table t (a int check (a > 0))",
        "create temp table t (like orders)",
        "create temp table t (a int references orders)",
        "create temp table t () inherits (orders)",
        "create temp table t (a text default pg_read_file('x'))",
        "create temp table t (a int default (select id from kv))",
        "create temp table t (a regclass)",
        "create temp table t (a int generated always as identity)",
        "create temp table t (a int) with (fillfactor = 10)",
        "create temp table t (a int) tablespace x",
        "create table t as select 1",
        "select 1 as a into t",
        "create temp table t with (fillfactor = 10) as select 1",
        "create index on orders (id)",
        "create index on mine (lower(note))",
        "create index on mine (id) where id > 1",
        "create index on mine using gist (id)",
        "drop table public.orders",
        "drop table mine cascade",
        "drop view mine",
        "alter table mine add b int",
        "create temp view v as select 1",
        "create temp sequence s",
        "grant select on mine to public",
    ],
)
def test_what_such_a_role_may_not_define(sql):
    assert refusal(sql) in ("42501", "0A000")


def test_a_hidden_table_is_as_absent_there_as_elsewhere():
    assert refusal("create temp table t as select * from nowhere") == "42P01"
    assert refusal("create temp table t as select hidden from orders") == "42703"


def test_nothing_of_it_is_open_without_the_statement_kind():
    for sql in (
        "create temp table t (a int)",
        "create temp table t as select 1",
        "select 1 as a into temp t",
        "drop table mine",
    ):
        assert refusal(sql, ()) == "42501"
