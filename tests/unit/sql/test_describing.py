from __future__ import annotations

from dataclasses import replace

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName, Type
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.registered import SHOW
from pgfaucet.sql.rewrite import RewriteContext, rewrite_statement
from pgfaucet.sql.world import SEARCH_PATH, Description
from tests.unit.sql.test_utility import tree, world

OWN = build.column("pgf_row", "_oid")
SEEN = build.case(build.operation(OWN, "=", build.text("1")), build.call("pg_get_indexdef", OWN), build.null())
TYPES = {
    oid: Type(oid, QualifiedName("pg_catalog", name), "b", 0, 0, 0, 0) for oid, name in ((23, "int4"), (26, "oid"))
}


def described(sql: str, node=SEEN, **changes) -> str:
    one = Description((("_oid", "oid"),), node, has_sublink=False, is_leaky=False)
    own = world()
    catalog = replace(own.catalog, types=TYPES, aggregate_functions=frozenset({"max"}))
    descriptions = {("pg_get_indexdef", 1): replace(one, **changes), ("regclass", SHOW): one}
    known = replace(own, catalog=catalog, descriptions=descriptions)
    return print_verified(rewrite_statement(tree(sql), RewriteContext(known, ("public",))).tree)


def test_a_call_becomes_what_is_judged_and_described():
    sent = described("select pg_get_indexdef(7)")
    assert sent.count("7") == 2
    assert "CASE WHEN" in sent
    assert sent.endswith("AS pg_get_indexdef")


def test_a_column_of_a_relation_may_stand_in_both_places():
    assert "pgf_arguments" not in described("select pg_get_indexdef(id) from kv")


@pytest.mark.parametrize("argument", ["x.one", "(select id from kv)", "kv.id + 1", "case when true then 1 else 2 end"])
def test_any_other_argument_is_evaluated_once(argument):
    sent = described(f"select pg_get_indexdef({argument}) from kv, (select id from kv) as x(one)")
    assert sent.count("pgf_arguments") > 1
    assert "OFFSET 0" in sent


def test_what_looks_into_the_catalogs_takes_its_argument_from_outside():
    assert "pgf_arguments" in described("select pg_get_indexdef(id) from kv", has_sublink=True)


def test_a_number_cast_to_regclass_is_shown_as_a_call_too():
    assert "CASE WHEN" in described("select id::regclass from kv")
    assert "CASE WHEN" not in described("select id from kv where id::regclass = 7")


def test_a_set_is_made_of_the_array_of_its_rows():
    sent = described("select pg_get_indexdef(id) from kv", is_set=True)
    assert sent.startswith("SELECT pg_catalog.unnest(CASE WHEN")


def test_the_clients_search_path_is_put_in():
    sent = described("select pg_get_indexdef(7)", build.operation(OWN, "=", {SEARCH_PATH: {}}, "AEXPR_OP_ANY"))
    assert "ARRAY['pg_catalog', 'public']" in sent


@pytest.mark.parametrize(
    "call",
    [
        "pg_get_indexdef(1, 2)",
        "pg_get_indexdef(_oid => 1)",
        "pg_get_indexdef(variadic array[1])",
        "pg_get_indexdef(distinct 1)",
        "public.pg_get_indexdef(1)",
        "pg_get_viewdef(1)",
    ],
)
def test_what_is_not_described_is_refused(call):
    with pytest.raises(FaucetError) as raised:
        described(f"select {call}")
    assert raised.value.sqlstate == "42501"


def test_an_aggregate_in_an_argument_is_refused():
    with pytest.raises(FaucetError) as raised:
        described("select pg_get_indexdef(max(id)) from kv")
    assert raised.value.sqlstate in {"0A000", "42501"}
