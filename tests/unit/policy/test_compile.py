from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgfaucet.policy.compile import claims_used, compile_world
from pgfaucet.sql.catalog import QualifiedName
from tests.kit.catalog import shop
from tests.kit.policy_files import agent, orders, role_of

if TYPE_CHECKING:
    from pgfaucet.sql.world import VisibleRelation, World

ORDERS = QualifiedName("public", "orders")


def world(text: str, **claims: str) -> World:
    made, problems = compile_world(role_of(text), shop(), claims, "agent")
    assert problems == ()
    return made


def said_about(text: str) -> list[str]:
    _, problems = compile_world(role_of(text), shop(), {}, "agent")
    return [str(problem).removeprefix("/p/") for problem in problems]


def visible(made: World) -> set[str]:
    return {str(name) for name in made.relations if name.schema in ("public", "hr")}


def rights(found: VisibleRelation) -> tuple[bool, ...]:
    return found.can_select, found.can_insert, found.can_update, found.can_delete, found.can_truncate


# -- what is in a world


def test_a_role_without_grants_sees_nothing():
    assert visible(world(agent(""))) == set()


def test_a_table_without_a_verb_is_not_there():
    assert visible(world(orders("select: false"))) == set()


def test_a_world_holds_what_is_granted_and_nothing_else():
    made = world(agent("tables: {orders: {select: [id]}, hr.salaries: {delete: true}}"))
    assert visible(made) == {"public.orders", "hr.salaries"}
    assert rights(made.relations[ORDERS]) == (True, False, False, False, False)
    assert rights(made.relations[QualifiedName("hr", "salaries")]) == (False, False, False, True, False)


def test_columns_that_no_verb_names_are_absent():
    made = world(orders("select: [id]\ninsert: [note]\nupdate: [status]"))
    columns = made.relations[ORDERS].columns
    assert list(columns) == ["id", "status", "note"]
    assert [(each.is_readable, each.is_insertable, each.is_updatable) for each in columns.values()] == [
        (True, False, False),
        (False, False, True),
        (False, True, False),
    ]


def test_a_bare_name_is_in_the_first_schema_of_the_search_path():
    assert visible(world(agent("search_path: [hr]\ntables: {salaries: {select: true}}"))) == {"hr.salaries"}


def test_every_table_means_those_outside_the_system_schemas_and_a_named_one_overrides():
    made = world(agent('tables: {"*": {select: true}, orders: {select: [id]}}'))
    assert list(made.relations[ORDERS].columns) == ["id"]
    assert QualifiedName("public", "api_keys") in made.relations


def test_every_table_does_not_open_a_partition_of_a_named_one():
    made = world(agent('tables: {"*": {select: true}, orders: {select: true, row_filter: tenant_id = 1}}'))
    assert QualifiedName("public", "orders_2024") not in made.relations


@pytest.mark.parametrize(
    ("keys", "whole"),
    [
        ("access: full", True),
        ('tables: {"*": {select: true}}', True),
        ('tables: {"*": {select: [id]}}', False),
        ('tables: {"*": {select: true}, orders: {select: [id]}}', False),
        ('tables: {"*": {select: true}, orders: {select: true, mask: {note: "note"}}}', False),
        ("tables: {orders: {select: true}}", False),
    ],
)
def test_only_who_reads_everything_unchanged_sees_everything(keys: str, *, whole: bool):
    assert world(agent(keys)).sees_everything is whole


WIDE = 'functions: ["*"]\nstatements: [ddl]'


@pytest.mark.parametrize(
    ("keys", "may"),
    [
        (f'tables: {{"*": {{select: true}}}}\n{WIDE}', True),
        ('tables: {"*": {select: true}}\nfunctions: ["*"]\nstatements: [do]', False),
        ('tables: {"*": {select: true}}\nstatements: [ddl]', False),
        (f'tables: {{"*": {{insert: true}}}}\n{WIDE}', False),
        (f'tables: {{"*": {{select: [id]}}}}\n{WIDE}', False),
        (f'tables: {{"*": {{select: true}}, orders: {{select: [id]}}}}\n{WIDE}', False),
        (f'tables: {{"*": {{select: true}}, orders: {{select: true, mask: {{note: "note"}}}}}}\n{WIDE}', False),
        (f"tables: {{orders: {{select: true}}}}\n{WIDE}", False),
        ("access: full", False),
    ],
)
def test_only_who_sees_and_calls_everything_defines(keys: str, *, may: bool):
    assert world(agent(keys)).may_define is may


# -- expressions


def test_the_check_is_the_row_filter_where_none_is_written():
    found = world(orders("select: true\nrow_filter: tenant_id = 1")).relations[ORDERS]
    assert found.row_filter is not None
    assert found.check == found.row_filter


def test_a_check_of_its_own_replaces_it():
    found = world(orders("insert: true\nrow_filter: tenant_id = 1\ncheck: tenant_id = 2")).relations[ORDERS]
    assert found.check is not None
    assert found.check != found.row_filter


def test_a_missing_claim_of_a_filter_matches_no_row():
    text = orders("select: true\nrow_filter: tenant_id = claim('tenant')::int")
    without = world(text).relations[ORDERS].row_filter
    assert without is not None
    assert without["A_Const"]["boolval"] == {}
    assert world(text, tenant="42").relations[ORDERS].row_filter != without


def test_a_preset_column_is_known_but_cannot_be_inserted_by_the_client():
    found = world(orders("insert: true\npreset: {tenant_id: \"claim('tenant')::int\"}"), tenant="42").relations[ORDERS]
    column = found.columns["tenant_id"]
    assert column.preset is not None
    assert (column.is_insertable, column.is_readable) == (False, False)


def test_a_mask_stands_on_its_column():
    found = world(orders('select: [id, note]\nmask: {note: "left(note, 3)"}')).relations[ORDERS]
    assert found.columns["note"].mask is not None
    assert found.columns["id"].mask is None


def test_the_claims_that_a_role_uses_are_those_of_all_its_expressions():
    text = orders(
        "insert: true\nrow_filter: a = claim('f')\ncheck: a = claim('c')\npreset: {a: claim('p')}\nmask: {b: claim('m')}"
    )
    assert claims_used(role_of(text)) == {"f", "c", "p", "m"}


# -- what does not fit the catalog


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (agent("tables: {ordrs: {select: true}}"), '4:14: relation "public.ordrs" does not exist; did you mean "orders"?'),
        (orders("select: [id, statu]"), '5:7: column "statu" of relation "public.orders" does not exist; did you mean "status"?'),
        (orders("select: true\nmask: {nte: \"''\"}"), '7:22: column "nte" of relation "public.orders" does not exist; did you mean "note"?'),
        (orders("select: true\nrow_filter: id = 1 and tenant = 1"), '7:32: column "tenant" does not exist; did you mean "tenant_id"?'),
        (orders("select: true\nrow_filter: |\n  id = 1\n  and total = tenant"), '9:23: column "tenant" does not exist; did you mean "tenant_id"?'),
        (orders("select: true\nrow_filter: count(id) > 1"), "7:21: pg_catalog.count is an aggregate or window function; it can only stand in a sub-select"),
        (orders("select: true\nrow_filter: '*'"), "7:22: * cannot stand here; mend the row_filter of orders"),
        (orders("select: true\nrow_filter: no_such(id)"), "7:21: function no_such does not exist; mend the row_filter of orders"),
        (orders("select: true\nrow_filter: id in (select x from nowhere)"), '7:42: relation "nowhere" does not exist; mend the row_filter of orders'),
        (agent("functions: [order_totl]"), '2:3: function "order_totl" does not exist; did you mean "order_total"?'),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_named_at_its_place(text: str, said: str):
    (line,) = said_about(text)
    assert line == f"a.yaml:{said}"


@pytest.mark.parametrize("name", ["pg_read_file", "dblink_exec"])
def test_a_dangerous_function_is_never_opened(name: str):
    (line,) = said_about(agent(f"functions: [{name}]"))
    assert line == (
        f'a.yaml:2:3: function "{name}" cannot be granted; take it out:'
        " functions that reach files, SQL text, other servers or other sessions are never opened"
    )
    made, _ = compile_world(role_of(agent(f'functions: [{name}, "*"]')), shop(), {}, "agent")
    assert QualifiedName("public", name) not in made.functions
    assert name not in made.system_functions


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (orders("select: true\nrow_filter: nowhere = 1"), None),
        (orders("select: true\ninsert: true\nupdate: true\ncheck: nowhere = 1"), (True, False, False, False, False)),
        (orders("select: true\ninsert: true\npreset: {nowhere: '1'}"), (True, False, False, False, False)),
        (orders("select: true\nupdate: true\npreset: {note: nowhere}"), (True, False, True, False, False)),
    ],
)
def test_a_mistake_takes_away_and_never_gives(text: str, left: tuple[bool, ...] | None):
    made, problems = compile_world(role_of(text), shop(), {}, "agent")
    assert len(problems) == 1
    found = made.relations.get(ORDERS)
    assert (rights(found) if found is not None else None) == left


def test_a_column_whose_mask_does_not_compile_cannot_be_read():
    made, problems = compile_world(role_of(orders("select: true\nmask: {note: nowhere}")), shop(), {}, "agent")
    assert len(problems) == 1
    note = made.relations[ORDERS].columns.get("note")
    assert note is None or not note.is_readable


def test_a_granted_function_is_in_the_world():
    assert QualifiedName("public", "order_total") in world(agent("functions: [order_total]")).functions
    assert world(agent("")).functions == {}
