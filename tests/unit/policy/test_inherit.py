from __future__ import annotations

import pytest

from tests.kit.policy_files import load_text, role_of, said_about

BASE = """\
roles:
  base:
    database: shop
    tables: {orders: {select: true, row_filter: a = 1}, items: {select: [id]}}
    functions: [public.total]
    statements: [temp]
    settings: {statement_timeout: 5s}
    allow_set: [work_mem]
    limits: {rows: 10}
    explain: full
    require_where: true
"""


def with_base(entry: str) -> str:
    """Add a role to BASE; it stands in line 12."""
    return f"{BASE}  agent: {entry}\n"


def two(one: str, other: str, child: str = "{inherits: [one, other]}") -> str:
    """Write two parents and a child, in lines 2 to 4."""
    return f"roles:\n  one: {{database: shop, {one}}}\n  other: {{database: shop, {other}}}\n  agent: {child}\n"


def grants(text: str) -> dict[str, object]:
    return {grant.name: grant.select for grant in role_of(text).tables}


def test_a_role_takes_over_what_its_parent_grants():
    role = role_of(with_base("{inherits: [base]}"))
    assert [grant.name for grant in role.tables] == ["orders", "items"]
    assert role.tables[0].row_filter == "a = 1"
    assert (role.database, role.functions, role.statements) == ("shop", ("public.total",), ("temp",))
    assert (role.settings, role.allow_set) == ({"statement_timeout": "5s"}, ("work_mem",))
    assert (role.limits.rows, role.explain, role.require_where) == (10, "full", True)


def test_its_own_table_replaces_the_inherited_entry_whole():
    role = role_of(with_base("{inherits: [base], tables: {orders: {delete: true}}}"))
    (orders,) = [grant for grant in role.tables if grant.name == "orders"]
    assert (orders.select, orders.delete, orders.row_filter) == (False, True, None)


def test_a_table_is_the_same_whether_its_schema_is_written_or_not():
    role = role_of(with_base("{inherits: [base], tables: {public.orders: {select: [id]}}}"))
    assert sorted(grant.name for grant in role.tables) == ["items", "public.orders"]


def test_its_own_values_win():
    role = role_of(
        with_base("{inherits: [base], explain: safe, limits: {rows: 99}, settings: {STATEMENT_TIMEOUT: 9s}}")
    )
    assert (role.explain, role.limits.rows, role.settings) == ("safe", 99, {"statement_timeout": "9s"})


def test_lists_are_united():
    role = role_of(with_base("{inherits: [base], functions: [f], statements: [copy, temp], allow_set: [jit]}"))
    assert role.functions == ("public.total", "f")
    assert role.statements == ("temp", "copy")
    assert role.allow_set == ("work_mem", "jit")


def test_limits_are_merged_one_by_one():
    limits = role_of(with_base("{inherits: [base], limits: {connections: 3}}")).limits
    assert (limits.rows, limits.connections) == (10, 3)


def test_a_grandparent_counts_wherever_it_is_written():
    text = "roles:\n  agent: {inherits: [middle]}\n  middle: {inherits: [top]}\n  top: {database: shop, tables: {t: {select: true}}}"
    assert grants(text) == {"t": True}


def test_a_parent_may_come_by_two_ways():
    text = """
    roles:
      top: {database: shop, limits: {rows: 5}, tables: {t: {select: [id]}}}
      left: {inherits: [top]}
      right: {inherits: [top]}
      agent: {inherits: [left, right]}
    """
    assert grants(text) == {"t": ("id",)}


def test_a_parent_may_be_in_another_file():
    loaded = load_text("roles: {agent: {inherits: [base]}}", rest=BASE + "databases: {shop: {dsn: postgresql://h/d}}")
    assert loaded.policy.roles["agent"].database == "shop"


@pytest.mark.parametrize("key", ["description: Reads", "mode: enforce"])
def test_what_describes_a_role_is_not_inherited(key: str):
    role = role_of(f"roles:\n  one: {{database: shop, {key}}}\n  agent: {{inherits: [one]}}\n")
    assert (role.description, role.mode) == ("", "enforce")


def test_access_full_is_not_inherited():
    text = "roles:\n  full: {database: shop, access: full}\n  agent: {inherits: [full]}\n"
    assert said_about(text) == [
        (
            'a.yaml:3:22: role "full" has access: full, which is not inherited;'
            " write access: full in this role if it is meant to have it"
        )
    ]


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ("explain: full", "explain: off", "explain"),
        ("require_where: true", "require_where: false", "require_where"),
        ("limits: {rows: 1}", "limits: {rows: 2}", "limits.rows"),
        ("settings: {jit: on}", "settings: {JIT: off}", "settings.jit"),
        ("search_path: [a]", "search_path: [b]", "search_path"),
    ],
)
def test_a_value_on_which_parents_differ_must_be_written(one: str, other: str, key: str):
    assert said_about(two(one, other)) == [
        f'a.yaml:4:11: roles "one" and "other" differ on {key}; write {key} in role "agent"'
    ]


def test_databases_of_parents_may_not_differ():
    text = "roles:\n  one: {database: shop}\n  other: {database: d}\n  agent: {inherits: [one, other]}\ndatabases:\n  d: {dsn: postgresql://h/d}\n"
    assert said_about(text) == [
        'a.yaml:4:11: roles "one" and "other" differ on database; write database in role "agent"'
    ]


def test_a_table_on_which_parents_differ_must_be_written_and_both_places_are_named():
    text = two("tables: {t: {select: true}}", "tables: {public.t: {select: [id]}}")
    assert said_about(text) == [
        (
            'a.yaml:4:11: inherited entries for table "public.t" differ: a.yaml:2:34 and a.yaml:3:36;'
            ' write the entry for "public.t" in role "agent"'
        )
    ]


@pytest.mark.parametrize(
    ("one", "other", "child"),
    [
        ("tables: {t: {select: true}}", "tables: {t: {select: true}}", "{inherits: [one, other]}"),
        (
            "tables: {t: {select: true}}",
            "tables: {t: {select: [id]}}",
            "{inherits: [one, other], tables: {t: {select: [x]}}}",
        ),
        ("explain: full", "explain: off", "{inherits: [one, other], explain: safe}"),
        ("limits: {rows: 1}", "limits: {bytes: 1KB}", "{inherits: [one, other]}"),
    ],
)
def test_where_parents_agree_or_the_role_decides_there_is_no_conflict(one: str, other: str, child: str):
    assert role_of(two(one, other, child)).database == "shop"


def test_a_parent_that_is_not_there_is_an_error_with_the_nearest_one():
    assert said_about(with_base("{inherits: [bse]}")) == [
        'a.yaml:12:22: role "bse" does not exist; did you mean "base"?'
    ]


def test_a_circle_is_an_error_that_shows_it_once():
    text = "roles:\n  a: {database: shop, inherits: [b]}\n  b: {database: shop, inherits: [c]}\n  c: {database: shop, inherits: [a]}\n"
    assert said_about(text) == [
        "a.yaml:4:34: roles inherit in a circle: a -> b -> c -> a; remove one of them from inherits"
    ]


def test_a_role_that_inherits_from_itself_is_a_circle():
    assert said_about("roles:\n  a: {database: shop, inherits: [a]}\n") == [
        "a.yaml:2:34: roles inherit in a circle: a -> a; remove one of them from inherits"
    ]


def test_a_long_chain_is_no_problem():
    roles = [f"  r{n}: {{inherits: [r{n + 1}]}}" for n in range(3_000)]
    text = "\n".join(["roles:", *roles, "  r3000: {database: shop, limits: {rows: 7}}"])
    assert load_text(text).policy.roles["r0"].limits.rows == 7


def test_a_mistake_in_a_parent_is_said_once():
    assert (
        len(said_about("roles:\n  a: {database: shop, explain: x}\n  b: {inherits: [a]}\n  c: {inherits: [b]}\n")) == 1
    )


def test_a_role_without_a_database_is_an_error():
    assert said_about("roles:\n  a: {}\n") == ['a.yaml:2:3: role "a" names no database; write database: NAME']


def test_an_inherited_table_keeps_its_schema_on_another_search_path():
    text = "roles:\n  a: {database: shop, search_path: [hr], tables: {t: {select: true}}, functions: [f]}\n  agent: {inherits: [a], search_path: [public]}\n"
    role = role_of(text)
    assert [grant.name for grant in role.tables] == ["hr.t"]
    assert role.functions == ("hr.f",)


def test_an_inherited_expression_is_not_read_on_another_search_path():
    text = "roles:\n  a: {database: shop, search_path: [hr], tables: {t: {select: true, row_filter: x in (select x from u)}}}\n  agent: {inherits: [a], search_path: [public]}\n"
    assert said_about(text) == [
        (
            "a.yaml:3:26: the inherited entry at a.yaml:2:51 was written for search_path [hr];"
            ' begin search_path with it, or write the entry for "t" in role "agent"'
        )
    ]


def test_what_is_inherited_under_another_search_path_keeps_its_name_with_quotes_and_dots():
    text = two(
        'search_path: [a.b], tables: {\'"it""s"\': {select: true}}, functions: [\'"f.g"\']',
        "search_path: [public]",
        "{inherits: [one, other], search_path: [public]}",
    )
    role = role_of(text)
    assert [grant.name for grant in role.tables] == ['"a.b"."it""s"']
    assert role.functions == ('"a.b"."f.g"',)
