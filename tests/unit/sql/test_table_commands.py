from __future__ import annotations

import pytest

from tests.unit.sql.test_utility import BARE, EVENTS, ORDERS, relation, rewrite, sqlstate, world

CLEARED = relation("kv", oid=2, row_filter=None, can_truncate=True, columns=BARE.columns)
FILTERED = relation("orders", oid=1, can_truncate=True, can_delete=True)
TABLES = {item.relation.name: item for item in (CLEARED, FILTERED, EVENTS)}


def test_truncate_needs_its_grant_and_no_row_filter():
    assert rewrite("truncate kv restart identity", relations=TABLES).tables == ("public.kv",)
    assert sqlstate("truncate kv") == "42501"
    assert sqlstate("truncate orders", relations=TABLES) == "42501"
    assert sqlstate("truncate kv, orders", relations=TABLES) == "42501"
    assert sqlstate("truncate nowhere", relations=TABLES) == "42P01"


def test_truncate_cascade_reaches_what_is_not_named():
    assert sqlstate("truncate kv cascade", relations=TABLES) == "42501"
    assert rewrite("truncate kv cascade", relations=TABLES, sees_everything=True).verb == "TRUNCATE TABLE"


def test_truncate_is_sent_with_qualified_names():
    body = rewrite("truncate kv", relations=TABLES).tree["TruncateStmt"]
    assert body["relations"][0]["RangeVar"]["schemaname"] == "public"


@pytest.mark.parametrize(
    ("sql", "is_open"),
    [
        ("lock table orders in access share mode", True),
        ("lock table orders in row share mode", True),
        ("lock table orders in share mode", False),
        ("lock table orders", False),
    ],
)
def test_who_may_only_read_takes_the_locks_of_readers(sql, is_open):
    assert ORDERS.can_select
    assert not ORDERS.can_delete
    if is_open:
        assert rewrite(sql, statements=frozenset({"lock"})).tables == ("public.orders",)
    else:
        assert sqlstate(sql, statements=frozenset({"lock"})) == "42501"


def test_who_may_write_takes_every_lock():
    assert rewrite("lock table orders", relations=TABLES, statements=frozenset({"lock"})).verb == "LOCK TABLE"


def test_lock_call_and_do_need_their_statement_kind():
    for sql in ("lock table orders in access share mode", "call p()", "do $$begin end$$"):
        assert sqlstate(sql) == "42501"


def test_a_procedure_that_is_not_granted_cannot_be_called():
    assert sqlstate("call p()", statements=frozenset({"call"})) == "42501"
    assert sqlstate("call version()", statements=frozenset({"call"})) == "42501"


def test_do_is_open_only_where_nothing_is_hidden():
    assert sqlstate("do $$begin end$$", statements=frozenset({"do"})) == "42501"
    assert rewrite("do $$begin end$$", statements=frozenset({"do"}), sees_everything=True).verb == "DO"


def test_the_world_of_these_tests_hides_something():
    assert not world().sees_everything
