from __future__ import annotations

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.sql import settings
from pgfaucet.sql.catalog import CatalogSnapshot
from pgfaucet.sql.settings import (
    check_current_setting,
    check_set_config,
    format_search_path,
    milliseconds,
    parse_search_path,
)
from pgfaucet.sql.world import World


def world(**changes: object) -> World:
    values: dict[str, object] = {
        "role": "agent",
        "catalog": CatalogSnapshot(1, 180000, "shop", {}, {}, {}, frozenset(), frozenset()),
        "relations": {},
        "search_path": ("public",),
        "schemas": frozenset({"public"}),
        "functions": {},
        "types": frozenset(),
        "user": "agent",
        "sees_everything": False,
        "may_define": False,
        "require_where": False,
        "statements": frozenset(),
        "allow_set": frozenset(),
        "settings": {},
        "explain": "safe",
    }
    return World(**(values | changes))  # type: ignore[arg-type] # a builder


def sqlstate_of_set(name: str, value: str | None, **changes: object) -> str:
    with pytest.raises(FaucetError) as raised:
        check_set_config(name, value, world(**changes))
    return raised.value.sqlstate


@pytest.mark.parametrize(
    "name", ["TimeZone", "datestyle", "application_name", "extra_float_digits", "bytea_output", "jit"]
)
def test_display_settings_are_open_to_everyone(name: str):
    assert check_set_config(name, "x", world()) == name.lower()


@pytest.mark.parametrize(
    "name", ["log_statement", "enable_seqscan", "work_mem", "transform_null_equals", "role", "my.claim"]
)
def test_other_settings_are_refused(name: str):
    assert sqlstate_of_set(name, "on") == "42501"


def test_a_setting_that_does_not_exist_is_told_apart_from_a_forbidden_one():
    assert sqlstate_of_set("tiemzone", "UTC") == "42704"


def test_allow_set_opens_a_setting():
    assert check_set_config("work_mem", "1MB", world(allow_set=frozenset({"work_mem"}))) == "work_mem"
    assert check_set_config("my.claim", "1", world(allow_set=frozenset({"my.claim"}))) == "my.claim"


@pytest.mark.parametrize(
    "name",
    ["role", "session_authorization", "backslash_quote", "array_nulls", "transform_null_equals", "pgfaucet.role"],
)
def test_allow_set_never_opens_what_changes_how_text_is_read_or_who_we_are(name: str):
    assert sqlstate_of_set(name, "on", allow_set=frozenset({"*", name})) == "42501"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("standard_conforming_strings", "off"),
        ("client_encoding", "SQL_ASCII"),
        ("client_min_messages", "debug5"),
        ("client_min_messages", "log"),
        ("client_encoding", None),
    ],
)
def test_some_settings_take_only_harmless_values(name: str, value: str | None):
    assert sqlstate_of_set(name, value, allow_set=frozenset({"*"})) == "42501"


@pytest.mark.parametrize(
    ("name", "value"),
    [("client_encoding", "utf-8"), ("standard_conforming_strings", "ON"), ("client_min_messages", "warning")],
)
def test_harmless_values_of_those_pass(name: str, value: str):
    assert check_set_config(name, value, world()) == name


FIXED = {"settings": {"statement_timeout": "3s"}}


@pytest.mark.parametrize("value", ["1s", "3000", "2999ms", "3s", " 1 s "])
def test_a_fixed_timeout_may_be_lowered(value: str):
    assert check_set_config("statement_timeout", value, world(**FIXED)) == "statement_timeout"


@pytest.mark.parametrize("value", ["0", "1h", "3001", "0.4", "100us", "-1", "0x10", "1e3", "", None])
def test_a_fixed_timeout_may_not_be_raised_or_lifted(value: str | None):
    assert sqlstate_of_set("statement_timeout", value, **FIXED) in ("42501", "22023")


def test_where_one_timeout_is_fixed_no_other_may_be_lifted():
    assert sqlstate_of_set("lock_timeout", "0", **FIXED) == "42501"
    assert check_set_config("lock_timeout", "5s", world(**FIXED)) == "lock_timeout"


def test_without_a_fixed_timeout_a_client_may_lift_its_own():
    assert check_set_config("statement_timeout", "0", world()) == "statement_timeout"


def test_a_fixed_mode_can_not_be_left_by_its_transaction_setting():
    fixed = {"settings": {"default_transaction_read_only": "on"}}
    assert sqlstate_of_set("transaction_read_only", "off", **fixed) == "42501"
    assert check_set_config("default_transaction_read_only", "true", world(**fixed)) == "default_transaction_read_only"


def test_the_context_is_bounded():
    assert check_set_config("pgfaucet.context", "traceparent=1", world()) == "pgfaucet.context"
    assert sqlstate_of_set("pgfaucet.context", "x" * 5000) == "22023"


def test_search_path_lives_in_a_custom_setting():
    assert check_set_config("search_path", "a, b", world()) == "pgfaucet.search_path"
    assert check_current_setting("search_path", world()) == "pgfaucet.search_path"


def test_search_path_may_not_look_in_the_temporary_schema_first():
    assert sqlstate_of_set("search_path", "pg_temp, public") == "42501"
    assert check_set_config("search_path", "public, pg_temp", world()) == "pgfaucet.search_path"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a, B", ("a", "b")),
        ('"B",  a', ("B", "a")),
        ('"$user", public', ("$user", "public")),
        ('"a""b"', ('a"b',)),
        ("", ()),
        ("a,", ()),
        ('"a', ()),
        ("a b", ()),
    ],
)
def test_search_path_is_read_as_the_server_reads_it(text: str, path: tuple[str, ...]):
    assert parse_search_path(text) == path


def test_search_path_is_written_with_quotes_where_identifiers_need_them():
    assert (
        format_search_path(("public", "B", "select", "$user", 'a"b', ""))
        == 'public, "B", "select", "$user", "a""b", ""'
    )


@pytest.mark.parametrize(
    "name", ["data_directory", "primary_conninfo", "hba_file", "log_directory", "shared_preload_libraries"]
)
def test_settings_that_tell_of_the_server_are_not_shown(name: str):
    with pytest.raises(FaucetError) as raised:
        check_current_setting(name, world())
    assert raised.value.sqlstate == "42501"
    assert name not in settings.shown_settings(world())


def test_settings_of_the_service_account_are_answered_for_the_role():
    assert check_current_setting("session_authorization", world()) is None
    assert settings.constant_setting("session_authorization", world(user="bot")) == "bot"


def test_an_unknown_setting_can_not_be_seen():
    with pytest.raises(FaucetError) as raised:
        check_current_setting("pgfaucet.base.timezone", world())
    assert raised.value.sqlstate == "42704"


@pytest.mark.parametrize(
    ("text", "value"), [("1s", 1000), ("2min", 120000), ("1.5h", 5400000), ("1 d", 86400000), ("x", None)]
)
def test_durations_are_read_in_milliseconds(text: str, value: float | None):
    assert milliseconds(text) == value
