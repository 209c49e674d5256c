from __future__ import annotations

import pytest

from pgfaucet.plan import QueryPlan, StatementKind, StatementPlan
from pgfaucet.sql.parts import parts_of


def plan(*statements):
    made = [StatementPlan(*("X", (), "", "", (), (), (), ""), **each) for each in statements]
    return QueryPlan(tuple(made), "")


CHANGE = plan({"changes_catalog": True}, {})


def stripped(text, *, in_block=False, given=CHANGE):
    parts, is_wrapped = parts_of(text, given, in_block=in_block)
    return [part.strip() for part in parts], is_wrapped


def test_a_string_is_cut_behind_ddl_that_something_else_follows():
    text = "create table a(); create index on a(b); insert into a values (1); select 1; drop table a"
    first, second = ["create table a(); create index on a(b)", "insert into a values (1); select 1; drop table a"]
    assert stripped(text) == ([first, second], True)


def test_parts_stand_where_they_stood():
    text = "create table \u00e4();\n select 1"
    parts, _ = parts_of(text, CHANGE, in_block=False)
    assert parts[1].index("select") == text.index("select")
    assert parts[1][: text.index("select")].isspace()


@pytest.mark.parametrize(
    "text", ["select 1; select 2", "create table a(); create table b()", "create table a()", "select 1; drop table a"]
)
def test_what_can_be_decided_at_once_is_not_cut(text):
    assert stripped(text) == ([], False)


def test_names_of_prepared_statements_are_settled_one_by_one():
    given = plan({"kind": StatementKind.PREPARE}, {"kind": StatementKind.EXECUTE})
    parts, _ = stripped("prepare p as select 1; execute p; deallocate p; select 2", given=given)
    assert parts == ["prepare p as select 1", "execute p", "deallocate p", "select 2"]


def test_a_string_with_transactions_of_its_own_is_not_put_into_one():
    assert stripped("begin; create table a(); select 1; commit") == (
        ["begin; create table a()", "select 1; commit"],
        False,
    )
    assert stripped("create table a(); select 1; commit; select 2") == ([], False)
    assert stripped("create table a(); select 1; commit", in_block=True)[1] is False


def test_in_a_block_nothing_is_put_around_the_parts():
    assert stripped("create table a(); select 1", in_block=True) == (["create table a()", "select 1"], False)


def test_without_a_change_the_text_is_not_looked_at():
    assert parts_of("not sql; at all", plan({}, {}), in_block=False) == ((), False)
    assert parts_of("not sql; at all", CHANGE, in_block=False) == ((), False)
