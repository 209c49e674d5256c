from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from pglast.parser import parse_sql_json

from pgfaucet.errors import FaucetError
from pgfaucet.plan import StatementKind
from pgfaucet.sql.catalog import CatalogSnapshot, Column, QualifiedName, Relation
from pgfaucet.sql.command import command_of, observe_statement
from pgfaucet.sql.rewritten import RewriteContext, Rewritten
from pgfaucet.sql.utility import STATEMENTS, rewrite_utility
from pgfaucet.sql.world import VisibleColumn, VisibleRelation, World

INNER = {"SelectStmt": {"limitOption": "LIMIT_OPTION_DEFAULT", "op": "SETOP_NONE"}}


def tree(sql: str) -> dict[str, Any]:
    return orjson.loads(parse_sql_json(sql))["stmts"][0]["stmt"]


def column(name: str, number: int, generated: str = "") -> Column:
    return Column(name, number, 23, -1, "integer", not_null=False, default=None, generated=generated, identity="")


def relation(
    name: str, *, kind: str = "r", parents: tuple[int, ...] = (), oid: int = 0, **changes: Any
) -> VisibleRelation:
    columns = (column("id", 1), column("total", 2), column("tax", 3, "s"), column("hidden", 4))
    shown = {item.name: VisibleColumn(item, True, True, True) for item in columns[:3]}
    values: dict[str, Any] = {
        "relation": Relation(oid, QualifiedName("public", name), kind, "svc", columns, (), frozenset(), parents, 0),
        "columns": shown,
        "can_select": True,
        "can_insert": False,
        "can_update": False,
        "can_delete": False,
        "can_truncate": False,
        "row_filter": {"A_Const": {"boolval": {"boolval": True}}},
        "check": None,
        "grant_source": "roles.yaml:1",
    }
    return VisibleRelation(**(values | changes))


ORDERS = relation("orders", oid=1)
BARE = relation("kv", oid=2, row_filter=None)
BARE = replace(BARE, columns={item.name: VisibleColumn(item, True, True, True) for item in BARE.relation.columns})
EVENTS = relation("events", kind="p", oid=3)
PARTITION = relation("events_1", oid=4, parents=(3,))


def world(**changes: Any) -> World:
    known = [item.relation for item in (ORDERS, BARE, EVENTS, PARTITION)]
    values: dict[str, Any] = {
        "role": "agent",
        "catalog": CatalogSnapshot(
            1, 180000, "shop", {item.name: item for item in known}, {}, {}, frozenset(), frozenset()
        ),
        "relations": {item.relation.name: item for item in (ORDERS, BARE, EVENTS)},
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
    return World(**(values | changes))


def rewrite(sql: str, tables: tuple[str, ...] = (), **changes: Any) -> Rewritten:
    def rewrite_query(query: dict[str, Any], _: RewriteContext) -> Rewritten:
        return Rewritten(query, "SELECT", tables=tables)

    return rewrite_utility(tree(sql), RewriteContext(world(**changes), ("public",)), rewrite_query)


def sqlstate(sql: str, tables: tuple[str, ...] = (), **changes: Any) -> str:
    with pytest.raises(FaucetError) as raised:
        rewrite(sql, tables, **changes)
    return raised.value.sqlstate


@pytest.mark.parametrize(
    ("sql", "command"),
    [
        ("create table t(a int)", "CREATE TABLE"),
        ("create table t as select 1", "CREATE TABLE AS"),
        ("create materialized view t as select 1", "CREATE MATERIALIZED VIEW AS"),
        ("drop view v", "DROP VIEW"),
        ("alter index i set (fillfactor = 10)", "ALTER INDEX"),
        ("vacuum t", "VACUUM"),
        ("analyze t", "ANALYZE"),
        ("grant select on t to r", "GRANT"),
        ("revoke select on t from r", "REVOKE"),
        ("do $$begin end$$", "DO"),
        ("load 'x'", "LOAD"),
        ("alter system set a = 1", "ALTER SYSTEM"),
        ("create publication p", "CREATE PUBLICATION"),
        ("create extension x", "CREATE EXTENSION"),
        ("listen c", "LISTEN"),
        ("notify c", "NOTIFY"),
        ("lock table t", "LOCK TABLE"),
        ("prepare transaction 'x'", "PREPARE TRANSACTION"),
        ("commit prepared 'x'", "COMMIT PREPARED"),
    ],
)
def test_other_statements_are_refused_by_their_name(sql: str, command: str):
    with pytest.raises(FaucetError) as raised:
        rewrite(sql)
    assert (raised.value.sqlstate, raised.value.message) == ("42501", f"permission denied to execute {command}")
    assert command_of(tree(sql)) == command


@pytest.mark.parametrize(
    "sql",
    [
        "begin",
        "start transaction isolation level serializable, read only, deferrable",
        "commit and chain",
        "end",
        "abort",
        "savepoint a",
        "release a",
        "rollback to a",
    ],
)
def test_transaction_control_passes_as_written(sql: str):
    assert rewrite(sql).tree == tree(sql)
    assert rewrite(sql).kind is StatementKind.TRANSACTION


def test_a_transaction_mode_that_the_policy_fixes_can_not_be_left():
    fixed = {"settings": {"default_transaction_read_only": "on"}}
    assert sqlstate("begin read write", **fixed) == "42501"
    assert sqlstate("set transaction read write", **fixed) == "42501"
    assert sqlstate("set session characteristics as transaction read write", **fixed) == "42501"
    assert rewrite("begin read only", **fixed).verb == "BEGIN"


@pytest.mark.parametrize(
    "sql",
    [
        "set transaction snapshot 'x'",
        "set role a",
        "set role none",
        "reset role",
        "set local session authorization default",
    ],
)
def test_identity_and_snapshots_stay_ours(sql: str):
    assert sqlstate(sql, allow_set=frozenset({"*"})) == "42501"


def test_two_phase_commit_is_a_statement_kind():
    assert rewrite("prepare transaction 'x'", statements=frozenset({"two_phase"})).verb == "PREPARE TRANSACTION"


def test_listen_is_a_statement_kind_and_pins():
    assert rewrite("listen c", statements=frozenset({"listen"})).pin == "LISTEN"


@pytest.mark.parametrize(
    "sql",
    ["unlisten *", "unlisten c", "close all", "close c", "fetch all c", "move 2 in c", "set constraints all deferred"],
)
def test_what_names_only_the_sessions_own_things_passes(sql: str):
    assert rewrite(sql).tree == tree(sql)


def test_named_constraints_are_not_looked_up():
    assert sqlstate("set constraints c deferred") == "42501"


def test_a_cursor_with_hold_pins_the_connection():
    assert rewrite("declare c cursor with hold for select 1").pin == "WITH HOLD cursor"
    assert rewrite("declare c scroll cursor for select 1").pin is None


def test_set_search_path_becomes_a_custom_setting():
    made = rewrite('set local search_path to a, "B"')
    assert made.tree["VariableSetStmt"]["name"] == "pgfaucet.search_path"
    assert made.tree["VariableSetStmt"]["args"] == [{"A_Const": {"sval": {"sval": 'a, "B"'}}}]
    assert made.tree["VariableSetStmt"]["is_local"] is True
    assert made.settings == ("pgfaucet.search_path",)


def test_reset_goes_back_to_a_value_and_not_to_the_servers_own():
    made = rewrite("reset timezone")
    assert "SelectStmt" in made.tree
    assert (made.tag, made.swallow_rows, made.settings) == ("RESET", True, ("timezone",))


def test_reset_all_resets_what_the_client_may_have_set():
    made = rewrite("reset all", allow_set=frozenset({"work_mem"}))
    assert {"work_mem", "timezone", "pgfaucet.search_path"} <= set(made.settings)
    assert {"role", "standard_backslash", "backslash_quote", "data_directory"}.isdisjoint(made.settings)


def test_reset_of_what_may_not_be_set_is_refused():
    assert sqlstate("reset log_statement") == "42501"
    assert sqlstate("reset nosuch") == "42704"


def test_show_of_the_search_path_is_answered_from_the_custom_setting():
    made = rewrite("show search_path")
    assert made.tag == "SHOW"
    assert made.tree["SelectStmt"]["targetList"][0]["ResTarget"]["name"] == "search_path"


def test_show_all_lists_only_what_may_be_seen():
    assert "data_directory" not in str(rewrite("show all").tree)
    assert "TimeZone" in str(rewrite("show all").tree)


def test_show_passes_for_harmless_settings_only():
    assert rewrite("show server_version").tree == tree("show server_version")
    assert sqlstate("show primary_conninfo") == "42501"


def test_deallocate_and_discard_tell_the_session():
    assert rewrite("deallocate p").kind is StatementKind.DEALLOCATE
    assert rewrite("deallocate p").name == "p"
    assert rewrite("deallocate all").tag == "DEALLOCATE ALL"
    assert rewrite("discard all").kind is StatementKind.DISCARD_ALL
    assert rewrite("discard plans").kind is StatementKind.ORDINARY


@pytest.mark.parametrize(
    "sql",
    [
        "copy orders from stdin",
        "copy orders to '/tmp/x'",
        "copy (select 1) to program 'id'",
        "copy orders from '/etc/passwd'",
    ],
)
def test_copy_moves_no_files_and_runs_no_programs(sql: str):
    assert sqlstate(sql) == "42501"


def test_copy_of_a_table_is_a_query_over_its_visible_columns():
    query = rewrite("copy orders to stdout (format csv, header)").tree["CopyStmt"]["query"]["SelectStmt"]
    assert [item["ResTarget"]["name"] for item in query["targetList"]] == ["id", "total", "tax"]
    assert query["fromClause"] == [{"RangeVar": {"schemaname": "public", "relname": "orders", "relpersistence": "p"}}]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("copy nosuch to stdout", "42P01"),
        ("copy orders(hidden) to stdout", "42703"),
        ("copy orders(tax) to stdout", "42P10"),
        ("copy (select 1) to stdout (freeze)", "42601"),
        ("copy (delete from orders) to stdout", "0A000"),
    ],
)
def test_copy_fails_as_the_server_would(sql: str, expected: str):
    assert sqlstate(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "explain analyze select 1",
        "explain (analyze) select 1",
        "explain (analyze off, analyze on) select 1",
        "explain (analyze 1) select 1",
        "explain create table t as select 1",
    ],
)
def test_safe_explain_never_runs_the_statement(sql: str):
    assert sqlstate(sql) == "42501"


def test_safe_explain_of_a_filtered_relation_shows_no_costs_and_no_columns():
    options = rewrite("explain (verbose, format json, costs on) select 1", ("public.orders",)).tree["ExplainStmt"][
        "options"
    ]
    assert [(item["DefElem"]["defname"], item["DefElem"]["arg"]["String"]["sval"]) for item in options] == [
        ("format", "json"),
        ("costs", "off"),
    ]


def test_safe_explain_of_what_the_role_sees_whole_keeps_its_options():
    assert rewrite("explain (verbose) select 1", ("public.kv",)).tree == tree("explain (verbose) select 1")


def test_safe_explain_never_names_a_hidden_partition():
    assert sqlstate("explain select 1", ("public.events",)) == "42501"


def test_explain_may_be_off_or_full():
    assert sqlstate("explain select 1", explain="off") == "42501"
    assert rewrite("explain analyze select 1", ("public.orders",), explain="full").tree == tree(
        "explain analyze select 1"
    )


def test_a_refused_statement_is_still_told_for_the_audit():
    seen = observe_statement(tree("with c as (select 1) select * from c, hr.salaries, orders"))
    assert (seen.verb, seen.tables) == ("SELECT", ("hr.salaries", "orders"))


@pytest.mark.parametrize(
    ("sql", "pin"),
    [
        ("create temp table t(a int)", "temporary object"),
        ("select 1 into temp t", "temporary object"),
        ("listen c", "LISTEN"),
        ("prepare p as select 1", None),
        ("set role a", "SET ROLE"),
        ("select 1", None),
    ],
)
def test_what_outlives_its_transaction_is_seen_in_the_text(sql: str, pin: str | None):
    assert observe_statement(tree(sql)).pin == pin


def test_every_entry_of_the_table_is_a_statement_class_of_the_grammar():
    assert all(name.endswith("Stmt") for name in STATEMENTS)
