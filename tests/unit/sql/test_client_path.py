from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.client_path import fill, full_path
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import RewriteContext
from pgfaucet.sql.tree import walk
from pgfaucet.sql.world import ON_PATH, SEARCH_PATH
from tests.unit.sql.test_utility import relation, world


def filled(path=("public",), *, is_name=False, schemas=("public", "Odd Schema"), **relations):
    own = world()
    known = {QualifiedName(schema, name): relation(name) for schema, names in relations.items() for name in names}
    resolver = Resolver(
        RewriteContext(replace(own, schemas=frozenset(schemas), relations={**own.relations, **known}), path)
    )
    return fill(resolver, {ON_PATH: {"text": build.text("TEXT"), "is_name": is_name}})


def shown(node, text):
    """Do what the server would: apply the replacements, inmost first. The patterns mean the same to Python."""
    calls = [found["FuncCall"] for found in walk(node) if "FuncCall" in found]
    for call in reversed(calls):
        pattern, replacement = (argument["A_Const"]["sval"]["sval"] for argument in call["args"][1:3])
        pattern = pattern.replace("[[:alnum:]_$]", "[0-9A-Za-z_$]")
        text = re.sub(pattern, replacement.replace(r"\1", r"\g<1>"), text)
    return text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("public.orders", "orders"),
        ('public."Orders"', '"Orders"'),
        ("hr.orders", "hr.orders"),
        ("nextval('public.orders_id_seq'::regclass)", "nextval('orders_id_seq'::regclass)"),
        ("(a ~~ 'public.x'::text)", "(a ~~ 'public.x'::text)"),
        ("xpublic.orders", "xpublic.orders"),
        ("FOREIGN KEY (a) REFERENCES public.orders(id)", "FOREIGN KEY (a) REFERENCES orders(id)"),
        ("'it''s public.x' || public.f()", "'it''s public.x' || f()"),
        ('"public.x" || public.f()', '"public.x" || f()'),
    ],
)
def test_the_schema_is_taken_off(text, expected):
    assert shown(filled(), text) == expected


def test_what_an_earlier_schema_shadows_keeps_its_schema():
    node = filled(("hr", "public"), schemas=("hr", "public"), hr=("orders",), public=("orders", "ordersx"))
    assert shown(node, "public.orders, public.ordersx, hr.orders") == "public.orders, ordersx, orders"


def test_a_quoted_schema_is_taken_off_too():
    assert shown(filled(("Odd Schema",)), '"Odd Schema".orders') == "orders"


@pytest.mark.parametrize("path", [(), ("pg_catalog",), ("nowhere",)])
def test_a_path_without_schemas_in_sight_changes_nothing(path):
    assert filled(path) == build.text("TEXT")


def test_the_path_has_pg_catalog_in_it():
    assert full_path(("public",)) == ("pg_catalog", "public")
    assert full_path(("public", "pg_catalog")) == ("public", "pg_catalog")
    resolver = Resolver(RewriteContext(world(), ("public",)))
    assert fill(resolver, {SEARCH_PATH: {}})["TypeCast"]["arg"]["A_ArrayExpr"]["elements"] == [
        build.text("pg_catalog"),
        build.text("public"),
    ]
