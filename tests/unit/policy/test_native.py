from __future__ import annotations

import pytest

from pgfaucet.policy import native
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.expression import resolve_expression
from tests.kit.catalog import shop

CATALOG = shop()
ORDERS = CATALOG.relations[QualifiedName("public", "orders")]


def compiled(text: str, purpose: str = "row_filter"):
    return resolve_expression(text, ORDERS, CATALOG, ("public",), purpose=purpose)


def condition(text: str, **claims: str) -> str:
    return native.printed(native.bare(native.condition(compiled(text), claims)))


SETTING = "NULLIF(pg_catalog.current_setting('pgfaucet.claim_tenant', true), '')"


def test_names_and_strings_are_quoted():
    assert native.qualified(QualifiedName("a.b", 'c"d')) == '"a.b"."c""d"'
    assert native.literal("it's") == "'it''s'"


def test_a_comment_is_one_line_whatever_is_in_it():
    assert native.comment("a\n; drop table x\r\ny", 2) == "--   a ; drop table x y"


def test_a_long_name_is_cut_and_stays_different():
    long = "r" * 70
    one, other = native.object_name("pgfaucet", long, "select"), native.object_name("pgfaucet", long, "insert")
    assert one != other
    assert len(one) == len(other) == 63
    assert native.object_name("é" * 40).startswith("é" * 27)


def test_a_claim_is_a_setting_that_is_absent_when_empty():
    assert condition("tenant_id = claim('tenant')::int4") == f"tenant_id = {SETTING}::int"


def test_a_claim_with_a_value_is_a_constant():
    assert condition("note = claim('k')", k="it's") == "note = 'it''s'::pg_catalog.text"


@pytest.mark.parametrize(
    "text",
    [
        "tenant_id = 1 or note is distinct from claim('tenant')",
        "coalesce(claim('tenant'), 'x') = note",
        "not (note = claim('tenant') and false)",
        "claim('tenant') is null",
    ],
)
def test_a_condition_that_could_hold_without_its_claim_asks_for_it(text):
    assert condition(text).startswith(f"{SETTING} IS NOT NULL AND ")


def test_a_comparison_is_not_asked_twice():
    assert "IS NOT NULL" not in condition("note = claim('tenant') and (total > 1 or claim('tenant') = 'x')")


def test_a_condition_that_reaches_further_is_known():
    assert native.needs_owner(compiled("id in (select order_id from order_lines)").node)
    assert native.needs_owner(compiled("public.order_total(id) > 1").node)
    assert not native.needs_owner(compiled("lower(note) = claim('x') and total > 1").node)


def test_a_preset_is_compared_as_the_columns_type():
    column = {each.name: each for each in ORDERS.columns}
    preset = native.with_claims(compiled("claim('tenant')", "preset"), {"tenant": "7"})
    said = native.printed(native.is_preset(column["tenant_id"], preset, CATALOG))
    assert said == "tenant_id IS NOT DISTINCT FROM '7'::pg_catalog.text::int"
    said = native.printed(native.is_preset(column["total"], preset, CATALOG))
    assert said == "total::pg_catalog.text IS NOT DISTINCT FROM '7'::pg_catalog.text::numeric::pg_catalog.text"
