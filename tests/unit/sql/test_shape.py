"""Two texts that could be decided or rewritten differently never share a template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast.parser import parse_sql_json

from pgfaucet.guard import Epoch, Guard
from pgfaucet.sql.printer import print_statement, print_verified
from pgfaucet.sql.shape import Literal, Reading, hide_literals, shape_of, template_of
from tests.unit.sql.test_utility import world

if TYPE_CHECKING:
    from pgfaucet.sql.normalise import TextShape


def tree(sql: str) -> dict[str, Any]:
    return orjson.loads(parse_sql_json(sql))["stmts"][0]["stmt"]


def shape(sql: str) -> TextShape:
    found = shape_of(sql)
    assert found is not None
    return found


def through_template(sql: str, other: str) -> str | None:
    """Print `other` through the template of `sql`, as long as nothing looks at a literal."""
    taken = shape(sql)
    stmt = tree(sql)
    reading = hide_literals(stmt, sql, taken)
    if reading is None:
        return None
    reading.is_over = True
    template = template_of(print_verified(stmt), taken, reading)
    return template.fill(shape(other)) if template is not None else None


def test_texts_of_one_shape_have_one_key():
    assert shape("select 1, 'a'").key == shape("SELECT 1, 'a'".replace("SELECT", "select") + ";").key
    assert shape("select  2 , 'b' -- said").key == shape("select 1 , 'c'").key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select 1", "select '1'"),
        ("select 1", "select 1.5"),
        ("select 1", "select 99999999999"),
        ("select 99999999999", "select 99999999999999999999"),
        ("select a from t where b = 1", "select a from u where b = 1"),
        ('select "A" from t where b = 1', "select A from t where b = 1"),
        ("select -1", "select - 1"),
    ],
)
def test_other_texts_have_another_key(one, other):
    assert shape(one).key != shape(other).key


@pytest.mark.parametrize(
    "sql",
    [
        "select a from t",
        "select $1, 2",
        "select 1; select 2",
        "set timezone to 'UTC'",
        "select e'a\\n'",
        "select x'1f'",
        "select b'01'",
        "select U&'d\\0061t'",
        "select $$a$$",
        "select 0x10",
        "select 1_000",
        "select 'a'\n'b'",
        "select 9223372036854775808",
        "select 'unterminated",
    ],
)
def test_what_is_not_plainly_written_has_no_shape(sql):
    assert shape_of(sql) is None


@pytest.mark.parametrize(
    ("sql", "other"),
    [
        ("select 1", "select 7"),
        ("select 'a'", "select 'it''s \\ \"q\" $1'"),
        ("select -5, - 6, 3 - 2, 3 -2", "select -1, - 2, 9 - 8, 7 -6"),
        ("select 1.5, -2.25, 1e10", "select .5, -0.0, 2.5e-3"),
        ("select 99999999999, -99999999999", "select 88888888888, -77777777777"),
        ("select interval '1 day', date '2020-01-01'", "select interval '2 hours', date '1999-12-31'"),
        ("select 'x'::varchar(3), cast(1 as numeric(5, 2))", "select 'yyyy'::varchar(2), cast(3 as numeric(4, 1))"),
        ("select a from t where b in (1, 2) and c like 'x%' limit 5", "select a from t where b in (3, 4) and c like '%' limit 0"),
        ("select 'é', a from t where b = 'ü' and c = 3", "select 'x', a from t where b = '日本' and c = 4"),
        ("insert into t values (1, 'a'), (2, 'b')", "insert into t values (10, ''), (0, '''')"),
        ("update t set a = 'x' where b = 1", "update t set a = 'y;--' where b = 2"),
    ],
)  # fmt: skip
def test_a_filled_template_is_what_would_have_been_printed(sql, other):
    filled = through_template(sql, other)
    assert filled is not None
    assert tree_of_values(filled) == tree_of_values(print_statement(tree(other)))


def tree_of_values(sql: str) -> Any:
    def bare(node: Any) -> Any:
        if isinstance(node, list):
            return [bare(item) for item in node]
        if isinstance(node, dict):
            return {key: bare(value) for key, value in node.items() if key != "location"}
        return node

    return bare(tree(sql))


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30))
def test_any_string_goes_through_a_template_unchanged(value):
    quoted = value.replace("'", "''")
    filled = through_template("select a from t where b = 'z'", f"select a from t where b = '{quoted}'")
    assert filled is not None
    found = tree(filled)["SelectStmt"]["whereClause"]["A_Expr"]["rexpr"]["A_Const"]
    assert found["sval"].get("sval", "") == value


@given(st.integers(0, 2**63 + 5))
def test_any_number_goes_through_a_template_unchanged(value):
    text = f"select a from t where b = {value}"
    if None in (shape_of(text), shape_of(text.replace(str(value), str(value ^ 1)))):
        assert value in (2**63, 2**63 ^ 1)
        return
    filled = through_template(text.replace(str(value), str(value ^ 1)), text)
    if shape(text).key == shape(text.replace(str(value), str(value ^ 1))).key:
        assert filled is not None
        assert tree_of_values(filled) == tree_of_values(text)


@pytest.mark.parametrize(
    "read",
    [
        lambda value: value["sval"],
        lambda value: value.get("sval"),
        lambda value: "sval" in value,
        list,
        len,
        lambda value: value == {"sval": "x"},
        [{"sval": "x"}].count,
        lambda value: dict(value.items()),
        lambda value: {**value},
        dict,
        lambda value: next(iter(value.values())),
        bool,
    ],
)
def test_every_way_to_reach_a_value_is_noticed(read):
    reading = Reading()
    read(Literal(reading, 3, "s", {"sval": "x"}, {"sval": "stand-in"}))
    assert reading.seen == {3}


def test_a_value_that_was_read_is_printed_and_is_no_gap():
    sql = "select 'a', 'b'"
    taken, stmt = shape(sql), tree(sql)
    reading = hide_literals(stmt, sql, taken)
    assert reading is not None
    stmt["SelectStmt"]["targetList"][0]["ResTarget"]["val"]["A_Const"]["sval"].get("sval")
    reading.is_over = True
    template = template_of(print_verified(stmt), taken, reading)
    assert template is not None
    assert template.gaps == (1,)
    assert template.fill(shape("select 'c', 'd'")) == "SELECT 'a', 'd'"


# -- through the guard -------------------------------------------------------------------------------------------------------------

QUERIES = [
    ("select id from orders where total = {}", ["1", "2", "2147483647"]),
    ("select id from orders where total > {} and id < {}", ["1", "5"]),
    ("select id, total from kv limit {}", ["1", "0", "20"]),
    ("select id from kv order by {}", ["1"]),
    ("select {}::regclass", ["'orders'", "'kv'", "'hidden'", "'events_1'"]),
    ("select current_setting({})", ["'timezone'", "'datestyle'", "'data_directory'"]),
    ("select set_config({}, {}, false)", ["'timezone'", "'search_path'", "'work_mem'"]),
    ("select to_regclass({})", ["'orders'", "'hidden'"]),
    ("select id from orders group by id having sum(total) > {}", ["1", "10"]),
    ("select case id when {} then total else {} end from orders", ["1", "2"]),
    ("select id from kv offset {}", ["0", "1"]),
    ("select id from orders where id in (select id from kv where total = {})", ["1", "2"]),
]


@pytest.mark.parametrize(("template", "values"), QUERIES)
def test_a_text_is_decided_as_it_would_be_alone(template, values):
    shared = Guard(world(), Epoch(), statement_bytes=65536)
    for first in values:
        for second in values:
            text = template.format(*(first, second)[: template.count("{}")])
            alone = Guard(world(), Epoch(), statement_bytes=65536).decide(text, ("public",), ())
            found = shared.plan_query(text, ("public",))
            assert outcome(found) == outcome(alone), text


def outcome(plan: Any) -> tuple[Any, ...]:
    error = plan.statements[0].error
    if error is not None:
        return error.sqlstate, error.message
    return tree_of_values(plan.text), plan.statements[0].tables, plan.statements[0].settings, plan.statements[0].verb


def test_the_audit_gets_the_literals_of_each_text():
    guard = Guard(world(), Epoch(), statement_bytes=65536)
    first = guard.plan_query("select id from orders where total = 1", ("public",))
    second = guard.plan_query("select id from orders where total = 2 /*traceparent='00-a'*/", ("public",))
    assert first.statements[0] is second.statements[0]
    assert first.given is not None
    assert second.given is not None
    assert (first.given.literals, second.given.literals) == (("1",), ("2",))
    assert second.given.context == (("traceparent", "00-a"),)
    assert guard.epoch.hits == 1
