from __future__ import annotations

from dataclasses import replace

import pytest

from pgfaucet.sql import build
from pgfaucet.sql.catalog import CatalogSnapshot, OperatorKey, QualifiedName, Type
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.registered import FIND_OR_FAIL, SHOW, SHOW_ALL
from pgfaucet.sql.rewrite import RewriteContext, rewrite_statement
from pgfaucet.sql.world import Description
from tests.unit.sql.test_utility import tree, world

OID = build.column("pgf_row", "_oid")
DESCRIPTIONS = {
    ("regclass", SHOW): Description((("_oid", "oid"),), build.call("shown", OID), has_sublink=False, is_leaky=False),
    ("regclass", SHOW_ALL): Description(
        (("_oid", "oid[]"),), build.call("all_shown", OID), has_sublink=False, is_leaky=False, result=1009
    ),
    ("regclass", FIND_OR_FAIL): Description(
        (("_oid", "text"),), build.call("found", OID), has_sublink=True, is_leaky=True, result=-2205
    ),
}
TYPES = ((23, "int4"), (25, "text"), (26, "oid"))


def sent(sql: str) -> str:
    own = world()
    types = {oid: Type(oid, QualifiedName("pg_catalog", name), "b", 0, 0, 1028, 0) for oid, name in TYPES}
    catalog: CatalogSnapshot = replace(
        own.catalog,
        types=types,
        leakproof_operators=frozenset({OperatorKey("=", 26, 26)}),
        system_functions=frozenset({"concat", "pg_typeof", "unnest", "length"}),
    )
    known = replace(own, catalog=catalog, descriptions=DESCRIPTIONS)
    return print_verified(rewrite_statement(tree(sql), RewriteContext(known, ("public",))).tree)


@pytest.mark.parametrize(
    "sql",
    [
        "select id::regclass from kv",
        "select id::regclass::text from kv",
        "select 'kv'::regclass",
        "select id::regclass || '' from kv",
        "select concat(id::regclass) from kv",
        "select x.r from (select id::regclass as r from kv) as x",
        "with x as (select id::regclass as r from kv) select * from x",
        "select id::regclass from kv union select 2::regclass",
        "select id::regclass::text from kv union select 'x'",
    ],
)
def test_a_value_is_shown_where_it_leaves(sql):
    assert "shown(" in sent(sql)
    assert "regclass" not in sent(sql).replace("AS regclass", "")


@pytest.mark.parametrize(
    "sql",
    [
        "select id from kv where id::regclass = 2",
        "select id::regclass::oid from kv",
        "select id::regclass from kv union select 2",
        "select id from kv where id::regclass = 'kv'",
        "select id from kv where id::regclass in ('kv', 'orders')",
        "select id from kv where id = any ('{kv,orders}'::regclass[])",
        "select 1 from (select id::regclass as r from kv) as x",
    ],
)
def test_a_value_that_stays_is_an_oid(sql):
    assert "shown(" not in sent(sql)
    assert "regclass" not in sent(sql)


def test_a_name_known_when_the_statement_runs_is_looked_for_then():
    assert "found(" in sent("select id from kv where id = $1::regclass")
    assert "found(" in sent("select ('k' || 'v')::regclass")


def test_order_stays_that_of_the_oids():
    ordered = sent("select id::regclass as r from kv order by r").partition("ORDER BY")[2]
    assert "shown(" not in ordered
    assert "id" in ordered


def test_with_distinct_the_order_names_what_is_given():
    assert sent("select distinct id::regclass from kv order by id::regclass").endswith("ORDER BY 1")


def test_arrays_are_shown_whole():
    assert "all_shown(" in sent("select array[id]::oid[]::regclass[] from kv")
    assert sent("select unnest(array[id]::oid[]::regclass[]) from kv").startswith(
        "SELECT pg_catalog.unnest((SELECT pg_catalog.all_shown("
    )


@pytest.mark.parametrize(
    "around", ["({})::regclass", "pg_typeof(({}))", "({})::regclass || ''", "length(({})::regclass::text)"]
)
def test_a_query_inside_is_the_one_that_was_filtered(around):
    inner = around.format("select id from orders")
    assert sent(f"select {inner} from kv order by 1").count("public.orders orders WHERE true") == sent(
        f"select {inner} from kv order by 1"
    ).count("public.orders")
