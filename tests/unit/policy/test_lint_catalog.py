from __future__ import annotations

import pytest

from pgfaucet.policy.lint_catalog import lint_with_catalog
from pgfaucet.sql.catalog import UniqueKey
from tests.kit.catalog import catalog, relation, shop
from tests.kit.policy_files import agent, load_text

FILTER = "row_filter: \"tenant_id = claim('tenant')::int\""


def said_about(keys: str) -> list[str]:
    """Return the warnings, without their places."""
    problems = lint_with_catalog(load_text(agent(keys)).policy, "shop", shop())
    assert all(problem.is_warning for problem in problems)
    return [problem.what for problem in problems]


@pytest.mark.parametrize(
    "keys",
    [
        f"tables: {{customers: {{select: true, {FILTER}}}}}",
        "tables: {customers: {select: true, insert: true, delete: true}, orders: {select: true, update: true}, order_lines: {select: true}}",
        "access: full",
        f"tables: {{customers: {{select: true, update: [name], {FILTER}}}}}",
    ],
)
def test_where_nothing_is_filtered_or_nothing_can_be_learnt_there_is_no_warning(keys: str):
    assert said_about(keys) == []


def test_a_unique_key_tells_of_hidden_rows_to_who_can_write_it():
    keys = f"tables: {{customers: {{select: true, insert: [email], {FILTER}}}}}"
    problems = lint_with_catalog(load_text(agent(keys)).policy, "shop", shop())
    assert [str(problem) for problem in problems] == [
        (
            '/p/a.yaml:4:14: warning: unique key "customers_email_key" (email) of "public.customers" holds no column of the row filter,'
            " so a write tells whether a hidden row has the same value;"
            " add tenant_id to the key, or do not let the role write (email)"
        )
    ]


def test_a_unique_key_with_the_filters_column_tells_nothing():
    items = relation(
        20_000, "items", {"tenant_id": "int4", "code": "text"}, unique_keys=(UniqueKey("items_key", (1, 2), False),)
    )
    policy = load_text(agent(f"tables: {{items: {{insert: true, {FILTER}}}}}")).policy
    assert lint_with_catalog(policy, "shop", catalog((items,))) == []


def test_a_foreign_key_tells_whether_a_hidden_row_exists():
    assert said_about("tables: {orders: {insert: [customer_id]}}") == [
        'foreign key "orders_customer_id_fkey" of "public.orders" tells whether a hidden row of "public.customers" exists'
    ]
    assert said_about(f"tables: {{orders: {{insert: [customer_id]}}, customers: {{select: true, {FILTER}}}}}") == [
        'foreign key "orders_customer_id_fkey" of "public.orders" tells whether a hidden row of "public.customers" exists'
    ]


def test_deleting_may_delete_hidden_rows_too():
    assert said_about("tables: {orders: {delete: true}}") == [
        'deleting rows of "public.orders" deletes hidden rows of "public.order_lines", by foreign key "order_lines_order_id_fkey"'
    ]


def test_a_delete_that_is_kept_back_tells_of_hidden_rows():
    assert said_about("tables: {customers: {delete: true}}") == [
        (
            'foreign key "orders_customer_id_fkey" keeps rows of "public.customers" that hidden rows of "public.orders" refer to,'
            " and so tells of them"
        )
    ]


def test_rows_behind_a_filter_are_hidden_rows_too():
    filtered = "order_lines: {select: true, row_filter: position = 1}"
    assert len(said_about(f"tables: {{orders: {{delete: true}}, {filtered}}}")) == 1
    assert said_about("tables: {orders: {delete: true}, order_lines: {select: true}}") == []


def test_a_view_may_go_around_the_filters_of_tables():
    assert said_about(f"tables: {{orders: {{select: true, {FILTER}}}, order_totals: {{select: true}}}}") == [
        '"public.order_totals" is a view: it is read with its owner\'s rights, past the row filters of other tables'
    ]


def test_a_partition_without_the_filter_of_its_parent_is_named():
    assert said_about(f"tables: {{orders: {{select: true, {FILTER}}}, orders_2024: {{select: true}}}}") == [
        '"public.orders_2024" holds rows of "public.orders" and has no row filter'
    ]


def test_a_filter_whose_operator_may_raise_is_named():
    assert said_about("tables: {orders: {select: true, row_filter: tenant_id / id = 1}}") == [
        'the row filter of "public.orders" uses /, which is not known to be leakproof for these types'
    ]


@pytest.mark.parametrize(
    "row_filter", ["tenant_id = 42", "status <> 'x'", "total > 1.5", "id in (1, 2)", "note is null"]
)
def test_comparisons_that_cannot_raise_are_fine(row_filter: str):
    assert said_about(f'tables: {{orders: {{select: true, row_filter: "{row_filter}"}}}}') == []


def test_only_the_roles_of_the_database_are_looked_at():
    text = "roles: {agent: {database: d, tables: {orders: {delete: true}}}}\ndatabases: {d: {dsn: postgresql://h/d}}\n"
    policy = load_text(text).policy
    assert lint_with_catalog(policy, "shop", shop()) == []
    assert lint_with_catalog(policy, "d", shop()) != []
