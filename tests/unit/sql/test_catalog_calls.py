from __future__ import annotations

from dataclasses import replace

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName, Type
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.registered import SHOW
from pgfaucet.sql.rewrite import RewriteContext, rewrite_statement
from pgfaucet.sql.world import Description
from tests.unit.sql.test_utility import tree, world

TWO = (("_relation", "regclass"), ("_column", "column"))
THREE = (("_role", "regrole"), *TWO)
NODE = build.call("told", build.column("pgf_row", "_relation"), build.column("pgf_row", "_column"))
DESCRIPTIONS = {
    ("has_column_privilege", 2): Description(TWO, NODE, has_sublink=False, is_leaky=True, result=16),
    ("has_column_privilege", 3): Description(THREE, NODE, has_sublink=False, is_leaky=True, result=16),
    ("regclass", SHOW): Description((("_oid", "oid"),), build.null(), has_sublink=False, is_leaky=False),
}


def sent(sql: str, **changes) -> str:
    own = world()
    types = {
        oid: Type(oid, QualifiedName("pg_catalog", name), "b", 0, 0, 0, 0) for oid, name in ((23, "int4"), (26, "oid"))
    }
    catalog = replace(own.catalog, types=types, system_functions=frozenset({"has_column_privilege", "generate_series"}))
    known = replace(own, catalog=catalog, descriptions=DESCRIPTIONS, user="agent", **changes)
    return print_verified(rewrite_statement(tree(sql), RewriteContext(known, ("public",))).tree)


def refused(sql: str) -> str:
    with pytest.raises(FaucetError) as raised:
        sent(sql)
    return raised.value.sqlstate


def test_a_name_becomes_the_oid_of_what_is_in_sight():
    assert sent("select has_column_privilege('orders', 'id')").count("'1'::pg_catalog.oid") == 1
    assert "'1'::pg_catalog.oid" in sent("select has_column_privilege(1, 'id')") or "1::pg_catalog.oid" in sent(
        "select has_column_privilege(1, 'id')"
    )


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("'nowhere', 'id'", "42P01"),
        ("'orders', 'hidden'", "42703"),
        ("'orders', 'nowhere'", "42703"),
        ("'postgres', 'orders', 'id'", "42704"),
        ("'orders'", "42501"),
        ("_relation => 'orders', _column => 'id'", "42501"),
        ("variadic array['orders', 'id']", "42501"),
    ],
)
def test_a_name_that_means_nothing_in_sight_is_an_error(call, sqlstate):
    assert refused(f"select has_column_privilege({call})") == sqlstate


def test_public_is_an_account_without_rights():
    assert "told(" in sent("select has_column_privilege('public', 'orders', 'id')")


def test_oids_from_nowhere_are_not_asked_about():
    assert refused("select has_column_privilege(i::oid, 'id') from generate_series(1, 9) i") == "42501"
    assert "told(" in sent("select has_column_privilege(id::oid, 'id') from orders")


def test_a_function_that_the_policy_opens_is_left_as_it_is():
    opened = sent("select has_column_privilege('a', 'b')", system_functions=frozenset({"has_column_privilege"}))
    assert "pg_catalog.has_column_privilege('a', 'b')" in opened
