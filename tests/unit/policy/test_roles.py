from __future__ import annotations

import pytest

from tests.kit.policy_files import agent, orders, role_of, said_about


@pytest.mark.parametrize("name", ["orders", "hr.salaries", '"*"', "'\"Odd.Name\"'", "a b", "Größe", '\'hr."a""b"\''])
def test_a_table_is_named_with_or_without_its_schema(name: str):
    assert len(role_of(agent(f"tables:\n  {name}: {{select: true}}")).tables) == 1


@pytest.mark.parametrize("name", ["a.b.c", "hr.*", ".orders", "orders.", "f(x)", "' a'", '""'])
def test_what_is_no_name_of_a_table_is_refused(name: str):
    (said,) = said_about(agent(f"tables:\n  {name}: {{select: true}}"))
    assert said.startswith("a.yaml:5:7: ")
    assert said.endswith(' is not the name of a table; write table, schema.table, or "*" for every table')


@pytest.mark.parametrize("name", ["pg_catalog.pg_class", "information_schema.tables", "pg_toast.x"])
def test_a_catalog_cannot_be_granted(name: str):
    assert said_about(agent(f"tables:\n  {name}: {{select: true}}")) == [
        f'a.yaml:5:7: "{name}" is a catalog; leave it out: catalogs show what the role may see by themselves'
    ]


def test_one_table_under_two_names_names_both_places():
    assert said_about(agent("tables:\n  orders: {select: true}\n  public.orders: {select: true}")) == [
        'a.yaml:6:7: "public.orders" is the table that stands at a.yaml:5:7 already; keep one'
    ]


def test_without_a_search_path_a_table_needs_its_schema():
    assert said_about(agent("search_path: []\ntables: {orders: {select: true}}")) == [
        'a.yaml:5:14: "orders" names no schema and search_path is empty; write schema.table'
    ]


def test_a_function_is_named_without_arguments():
    assert said_about(agent("functions: [public.total(int)]")) == [
        'a.yaml:4:17: "public.total(int)" is not the name of a function; write schema.function, without arguments'
    ]


@pytest.mark.parametrize("schema", ["$user", "pg_temp", "pg_temp_3"])
def test_a_search_path_names_schemas_of_the_database(schema: str):
    assert said_about(agent(f"search_path: [{schema}, public]")) == [
        f'a.yaml:4:19: "{schema}" has no meaning in a role\'s search_path; name schemas of the database'
    ]


@pytest.mark.parametrize(
    "name", ["role", "session_authorization", "standard_conforming_strings", "client_encoding", "pgfaucet.role", "Role"]
)
def test_some_settings_can_be_neither_fixed_nor_opened(name: str):
    assert said_about(agent(f"settings: {{{name}: x}}")) == [
        f'a.yaml:4:16: the setting "{name}" cannot be given to a role; remove it'
    ]
    assert said_about(agent(f"allow_set: [{name}]")) == [
        f'a.yaml:4:17: the setting "{name}" cannot be given to a role; remove it; no role can open this setting'
    ]


def test_search_path_is_a_key_of_the_role():
    (said,) = said_about(agent("settings: {search_path: hr}"))
    assert said.endswith("remove it; search_path is a key of the role")


def test_a_setting_written_twice_in_other_letters_is_an_error():
    assert said_about(agent("settings: {jit: on, JIT: off}")) == ['a.yaml:4:25: "JIT" is "jit" again; keep one']


@pytest.mark.parametrize("value", ["5s", "500ms", "10min", "1h", "3000", "1.5 s"])
def test_a_timeout_is_a_time_of_postgresql(value: str):
    assert role_of(agent(f"settings: {{statement_timeout: {value}}}")).settings == {"statement_timeout": value}


@pytest.mark.parametrize("value", ["10m", "forever", "-1", "5S"])
def test_any_other_timeout_is_refused(value: str):
    assert said_about(agent(f"settings: {{lock_timeout: {value}}}")) == [
        f'a.yaml:4:30: "{value}" is not a time as PostgreSQL writes it; write it as in 500ms, 5s, 10min or 1h'
    ]


def test_an_expression_that_is_empty_is_an_error():
    assert said_about(orders("row_filter: ''")) == ["a.yaml:6:21: this has no value; write one, or remove the key"]
