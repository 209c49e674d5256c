"""Functions and casts that tell of objects, through the real proxy: what is hidden answers as what does not exist."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.types import TypeInfo
from psycopg.types.enum import EnumInfo

from pgfaucet.demo.postgres import clean_environment
from tests.kit.proxy import Proxy

SCHEMA = """
create schema vault;
create type mood as enum ('sad', 'glad');
create type veiled_mood as enum ('x');
create domain veiled_domain as int check (value > 0);
create function veiled_function(int) returns int language sql as 'select 1';
create function plain_function(a int default 7) returns int language sql as 'select 2';
create table shown (id serial primary key, feeling mood default 'glad', veiled_column text default 'VEILED', parent int references shown,
  size int check (size > 0));
create table veiled (id serial primary key, own text default 'VEILED', shown int references shown);
create table vault.veiled_too (id int primary key);
create index veiled_index on shown (veiled_column);
create view shown_view as select id, size from shown where size < 1000;
create view shown_over_veiled as select id from veiled;
create function veiled_trigger() returns trigger language plpgsql as 'begin return new; end';
create trigger on_shown before insert on shown for each row execute function veiled_trigger('VEILED');
create sequence veiled_sequence;
create table veiled_top (id int, k int) partition by list (k);
create table shown_part partition of veiled_top for values in (1);
create statistics veiled_statistics on id, veiled_column from shown;
comment on table veiled is 'VEILED'; comment on table shown is 'seen'; comment on column shown.veiled_column is 'VEILED';
create role veiled_role;
grant usage on schema vault to faucet_svc;
grant all on all tables in schema public, vault to faucet_svc;
"""
ROLES = """\
roles:
  clerk:
    description: Sees a little
    database: shop
    tables:
      shown: {select: [id, feeling, parent, size], insert: [feeling, size], row_filter: id > 0}
      shown_view: {select: true}
      shown_over_veiled: {select: true}
      shown_part: {select: true}
    functions: [public.plain_function]
  auditor:
    description: Sees all but a little
    database: shop
    tables:
      "*": {select: true}
      shown: {select: [id, feeling, parent, size]}
      veiled: {}
      vault.veiled_too: {}
      veiled_top: {}
      shown_part: {select: true}
"""
ROLE_NAMES = ("clerk", "auditor")
ABSENT = 3_999_999_999
OBJECTS = {  # kind -> SQL for the oid of a hidden one
    "relation": "'veiled'::regclass::oid",
    "other relation": "'vault.veiled_too'::regclass::oid",
    "index": "'veiled_index'::regclass::oid",
    "row type": "'veiled'::regtype::oid",
    "constraint": "(select oid from pg_constraint where conname = 'veiled_shown_fkey')",
    "default": "(select oid from pg_attrdef where adrelid = 'veiled'::regclass and adnum = 2)",
    "default of a hidden column": "(select oid from pg_attrdef where adrelid = 'shown'::regclass and adnum = 3)",
    "rule": "(select oid from pg_rewrite where ev_class = 'shown_over_veiled'::regclass)",
    "statistics": "(select oid from pg_statistic_ext where stxname = 'veiled_statistics')",
    "trigger": "(select min(oid) from pg_trigger where tgrelid = 'veiled'::regclass)",
    "role": "(select oid from pg_roles where rolname = 'veiled_role')",
    "owner": "(select oid from pg_roles where rolname = 'faucet_svc')",
}
CLOSED_OBJECTS = {  # hidden from who sees nothing unless it is named
    "type": "'veiled_mood'::regtype::oid",
    "domain": "'veiled_domain'::regtype::oid",
    "function": "'veiled_function'::regproc::oid",
    "schema": "'vault'::regnamespace::oid",
    "sequence": "'veiled_sequence'::regclass::oid",
}
BY_OID = [
    "format_type({0}, -1)",
    "oidvectortypes(array_to_string(array[{0}, 23], ' ')::oidvector)",
    "pg_get_userbyid({0})",
    "pg_table_is_visible({0})",
    "pg_type_is_visible({0})",
    "pg_function_is_visible({0})",
    "pg_statistics_obj_is_visible({0})",
    "pg_get_indexdef({0})",
    "pg_get_indexdef({0}, 1, true)",
    "pg_get_constraintdef({0})",
    "pg_get_constraintdef({0}, true)",
    "pg_get_triggerdef({0})",
    "pg_get_viewdef({0}::oid)",
    "pg_get_viewdef({0}::oid, true)",
    "pg_get_ruledef({0})",
    "pg_get_partkeydef({0})",
    "pg_get_partition_constraintdef({0})",
    "pg_get_statisticsobjdef({0})",
    "pg_get_statisticsobjdef_columns({0})",
    "pg_get_function_arguments({0})",
    "pg_get_function_identity_arguments({0})",
    "pg_get_function_result({0})",
    "pg_get_functiondef({0})",
    "pg_get_expr((select min(adbin::text) from pg_attrdef where adnum > 99)::pg_node_tree, {0})",
    "pg_get_expr(null, {0})",
    "col_description({0}, 1)",
    "obj_description({0})",
    "obj_description({0}, 'pg_class')",
    "obj_description({0}, 'pg_type')",
    "shobj_description({0}, 'pg_authid')",
    "pg_describe_object(1259, {0}, 0)",
    "pg_describe_object(1247, {0}, 0)",
    "pg_describe_object(1255, {0}, 0)",
    "pg_describe_object(2606, {0}, 0)",
    "pg_describe_object(2615, {0}, 0)",
    "(pg_identify_object(1259, {0}, 0)).identity",
    "(pg_identify_object(2604, {0}, 0)).identity",
    "pg_relation_is_updatable({0}::oid, true)",
    "pg_column_is_updatable({0}::oid, 1::int2, true)",
    "pg_partition_root({0}::oid)",
    "array(select pg_partition_ancestors({0}::oid))",
    "(select count(*) from pg_partition_ancestors({0}::oid))",
    "has_table_privilege({0}::oid, 'select')",
    "has_table_privilege({0}::oid, 'bogus')",
    "has_any_column_privilege({0}::oid, 'select')",
    "has_column_privilege({0}::oid, 'id', 'select')",
    "has_column_privilege({0}::oid, 1::int2, 'select')",
    "has_schema_privilege({0}::oid, 'usage')",
    "has_sequence_privilege({0}::oid, 'usage')",
    "has_function_privilege({0}::oid, 'execute')",
    "has_type_privilege({0}::oid, 'usage')",
    "has_database_privilege({0}::oid, 'connect')",
    "pg_has_role({0}::oid, 'usage')",
    "has_table_privilege({0}::oid, 'shown'::regclass, 'select')",
    "row_security_active({0}::oid)",
    *[f"{{0}}::{kind}::text" for kind in ("regclass", "regtype", "regproc", "regprocedure", "regnamespace", "regrole")],
    *[f"{{0}}::{kind}" for kind in ("regclass", "regtype", "regproc", "regnamespace", "regrole")],
    "array[{0}]::oid[]::regclass[]",
    "array_agg({0}::regclass)",
    "to_json({0}::regclass)",
    "format('%s', {0}::regclass)",
    "{0}::regclass || ''",
    "'{0}'::regclass",
    "to_regclass('{0}')",
    "coalesce({0}::regclass::text, 'none')",
    "(select count(*) from pg_class where oid = {0}::regclass)",
    "(select count(*) from pg_attribute where attrelid = {0})",
    "(select max(x::text) from (select {0}::regclass as x) as y)",
]
NAMES = {  # hidden, absent
    "relation": ("veiled", "nowher"),
    "qualified": ("public.veiled", "public.nowher"),
    "in a hidden schema": ("vault.veiled_too", "vaulx.veiled_too"),
    "index": ("veiled_index", "nowher_index"),
    "type": ("veiled[]", "nowher[]"),
    "upper": ('"veiled"', '"nowher"'),
}
CLOSED_NAMES = {
    "schema": ("vault", "vaulx"),
    "function": ("veiled_function", "nowher_function"),
    "qualified function": ("public.veiled_function(int)", "public.nowher_function(int)"),
    "type": ("veiled_mood", "nowher_mood"),
    "sequence": ("veiled_sequence", "nowher_sequence"),
    "role": ("veiled_role", "nowher_role"),
}
BY_NAME = [
    *[f"'{{0}}'::{kind}" for kind in ("regclass", "regtype", "regproc", "regprocedure", "regnamespace", "regrole")],
    *[f"to_{kind}('{{0}}')" for kind in ("regclass", "regtype", "regproc", "regprocedure", "regnamespace", "regrole")],
    *[
        f"('{{0}}' || '')::{kind}"
        for kind in ("regclass", "regtype", "regproc", "regprocedure", "regnamespace", "regrole")
    ],
    "'{{{0}}}'::regclass[]",
    "string_to_array('{0}', ',')::regclass[]",
    "(select count(*) from pg_class where oid::regclass = '{0}')",
    "(select count(*) from pg_type where typinput = '{0}')",
    "(select count(*) from pg_type where typinput in ('{0}'))",
    "(select count(*) from pg_type where typinput::regproc = '{0}'::regproc)",
    "pg_get_serial_sequence('{0}', 'id')",
    "pg_get_viewdef('{0}')",
    "has_table_privilege('{0}', 'select')",
    "has_table_privilege('{0}', 'shown', 'select')",
    "has_column_privilege('{0}', 'id', 'select')",
    "has_schema_privilege('{0}', 'usage')",
    "has_function_privilege('{0}', 'execute')",
    "has_type_privilege('{0}', 'usage')",
    "has_database_privilege('{0}', 'connect')",
    "pg_has_role('{0}', 'usage')",
    "row_security_active('{0}')",
    "pg_relation_is_updatable('{0}', true)",
]


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    postgres.run_sql(name, SCHEMA)
    with Proxy(postgres, name, tmp_path_factory.mktemp("proxy"), roles=ROLES) as running:
        yield running
    postgres.drop_database(name)
    postgres.run_sql("postgres", "drop role veiled_role")


@pytest.fixture(scope="module")
def connect(proxy):
    made: dict[str, psycopg.Connection] = {}

    def connection(role):
        if role not in made:
            made[role] = psycopg.connect(proxy.dsn(proxy.mint(role).text, user=role), autocommit=True)
        return made[role]

    yield connection
    for each in made.values():
        each.close()


def outcome(connection, sql, own):
    """Return rows or the error, without what the statement itself says."""
    try:
        found = str(connection.execute(sql).fetchall())
    except psycopg.Error as error:
        found = f"{error.sqlstate} {error.diag.message_primary}"
    return found.replace(str(own), "<own>")


@pytest.mark.parametrize("role", ROLE_NAMES)
@pytest.mark.parametrize("expression", BY_OID)
def test_a_hidden_oid_is_as_one_that_is_none(proxy, connect, role, expression):
    kinds = OBJECTS | (CLOSED_OBJECTS if role == "clerk" else {})
    absent = outcome(connect(role), f"select {expression.format(ABSENT)}", ABSENT)
    for kind, sql in kinds.items():
        oid = proxy.postgres.value(proxy.database, f"select {sql}")
        assert outcome(connect(role), f"select {expression.format(oid)}", oid) == absent, kind


@pytest.mark.parametrize("role", ROLE_NAMES)
@pytest.mark.parametrize("expression", BY_NAME)
def test_a_hidden_name_is_as_one_that_is_none(connect, role, expression):
    for kind, (hidden, absent) in (NAMES | (CLOSED_NAMES if role == "clerk" else {})).items():
        told = [
            outcome(connect(role), f"select {expression.format(name)}", name.strip('"')).replace(name, "<own>")
            for name in (hidden, absent)
        ]
        assert told[0].replace("veiled", "nowher").replace("vault", "vaulx") == told[1], kind


@pytest.mark.parametrize(
    "expression",
    [
        "col_description('shown'::regclass, {0})",
        "pg_describe_object('pg_class'::regclass, 'shown'::regclass, {0})",
        "has_column_privilege('shown', {0}::int2, 'select')",
        "pg_column_is_updatable('shown', {0}::int2, true)",
    ],
)
@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_hidden_column_is_as_one_that_is_none(connect, role, expression):
    hidden, absent = (outcome(connect(role), f"select {expression.format(number)}", number) for number in (3, 99))
    assert hidden == absent


EVERYWHERE = [
    "select pg_get_expr(adbin, adrelid) from pg_attrdef",
    "select pg_get_expr(a.adbin, c.oid) from pg_attrdef a, pg_class c where c.relname ~ 'shown|veiled'",
    "select pg_get_constraintdef(oid), pg_get_constraintdef(oid, true) from pg_constraint",
    "select pg_get_indexdef(indexrelid), pg_get_indexdef(indexrelid, 0, true) from pg_index",
    "select pg_get_triggerdef(oid), pg_get_triggerdef(oid, true) from pg_trigger",
    "select pg_get_viewdef(oid) from pg_class where relkind = 'v'",
    "select pg_get_ruledef(oid) from pg_rewrite",
    "select pg_get_functiondef(oid), pg_get_function_arguments(oid) from pg_proc where oid > 16384",
    "select pg_describe_object(classid, objid, objsubid), pg_describe_object(refclassid, refobjid, refobjsubid) from pg_depend",
    "select (pg_identify_object(d.classid, d.objid, d.objsubid)).* from pg_depend d",
    "select n::oid::regclass, n::oid::regtype, n::oid::regproc, n::oid::regnamespace, n::oid::regrole from generate_series(16384, 19000) n",
    "select format_type(n::oid, null), obj_description(n::oid), pg_get_userbyid(n::oid) from generate_series(16384, 19000) n",
    "select pg_get_viewdef(n::oid), pg_get_indexdef(n::oid), pg_get_triggerdef(n::oid), pg_get_ruledef(n::oid) from generate_series(16384, 19000) n",
    "select pg_get_constraintdef(n::oid), pg_get_statisticsobjdef(n::oid), pg_get_partkeydef(n::oid) from generate_series(16384, 19000) n",
    """select pg_describe_object(c.oid, n::oid, 0), (pg_identify_object(c.oid, n.n, 0)).identity from pg_class c, generate_series(16384, 17500) n
    where c.relname in ('pg_class', 'pg_type', 'pg_proc', 'pg_constraint', 'pg_trigger', 'pg_rewrite', 'pg_namespace', 'pg_attrdef')""",
]


@pytest.mark.parametrize("sql", EVERYWHERE)
def test_nothing_hidden_is_ever_named(connect, sql):
    told = outcome(connect("clerk"), sql, "shown_over_veiled")
    assert "veiled" not in told.lower()
    assert "vault" not in told


def test_what_is_in_sight_is_told(connect):
    row = (
        connect("clerk")
        .execute(
            "select 'shown'::regclass, 'shown'::regclass::oid::regclass::text, to_regtype('mood'), format_type('mood[]'::regtype, null),"
            " pg_get_serial_sequence('shown', 'id'), pg_get_viewdef('shown_view'), obj_description('shown'::regclass, 'pg_class'),"
            " pg_describe_object('pg_class'::regclass, 'shown'::regclass, 1), pg_get_userbyid(10), 'plain_function'::regproc"
        )
        .fetchone()
    )
    assert row == (
        "shown",
        "shown",
        "mood",
        "mood[]",
        "public.shown_id_seq",
        " SELECT id,\n    size\n   FROM shown\n  WHERE (size < 1000);",
        "seen",
        "column id of table shown",
        "clerk",
        "plain_function",
    )


def test_what_the_server_writes_follows_the_clients_search_path(connect):
    clerk = connect("clerk")
    asked = (
        "select c.oid::regclass, pg_table_is_visible(c.oid), format_type(t.oid, null), pg_type_is_visible(t.oid), to_regclass('shown'),"
        " (select pg_get_expr(adbin, adrelid) from pg_attrdef where adnum = 1), (select pg_get_constraintdef(oid) from pg_constraint"
        " where contype = 'f') from pg_class c, pg_type t where c.relname = 'shown' and t.typname = 'mood'"
    )
    reference = "FOREIGN KEY (parent) REFERENCES {}shown(id)"
    shown = ("shown", True, "mood", True, "shown", "nextval('shown_id_seq'::regclass)", reference.format(""))
    assert clerk.execute(asked).fetchone() == shown
    clerk.execute("set search_path = pg_catalog")
    hidden = (
        "public.shown",
        False,
        "public.mood",
        False,
        None,
        "nextval('public.shown_id_seq'::regclass)",
        reference.format("public."),
    )
    assert clerk.execute(asked).fetchone() == hidden
    clerk.execute("reset search_path")


def test_privileges_are_those_of_the_policy(connect):
    row = (
        connect("clerk")
        .execute(
            "select has_table_privilege('shown', 'select'), has_table_privilege('shown', 'insert'), has_any_column_privilege('shown', 'insert'),"
            " has_column_privilege('shown', 'size', 'insert'), has_column_privilege('shown', 'id', 'insert'),"
            " has_table_privilege('shown', 'delete, select'), has_table_privilege('shown', 'select with grant option'),"
            " has_table_privilege(current_user, 'shown', 'select'), has_table_privilege('public', 'shown', 'select'),"
            " has_schema_privilege('public', 'usage'), has_schema_privilege('public', 'create'), pg_has_role('clerk', 'usage'),"
            " has_table_privilege('pg_class', 'select'), has_table_privilege('pg_authid', 'select'), has_function_privilege('pg_read_file(text)', 'execute')"
        )
        .fetchone()
    )
    assert row == (
        True, False, True, True, False, True, False, True, False, True, False, True, True, False, False
    )  # fmt: skip


def test_an_argument_is_evaluated_once(connect):
    clerk = connect("clerk")
    shown = clerk.execute("select 'shown'::regclass::oid").fetchone()[0]
    told = clerk.execute(
        f"select distinct (case when random() < 0.5 then {shown} else {shown} + 0 * n end)::oid::regclass::text"
        " from generate_series(1, 200) n"
    ).fetchall()
    assert told == [("shown",)]
    for oid in ("(select max(oid) from pg_class where relname = 'shown')", "max(oid)"):
        assert clerk.execute(f"select ({oid})::regclass from pg_class where relname = 'shown'").fetchone() == ("shown",)
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        clerk.execute("select format_type(count(*), null) from shown")


@pytest.mark.parametrize(
    "around",
    [
        "({0})::regclass",
        "({0})::regclass::text",
        "({0})::regclass || ''",
        "concat(({0})::regclass)",
        "array[({0})]::oid[]::regclass[]",
        "pg_typeof({0})",
        "format_type({0}, null)",
        "has_table_privilege({0}::oid, 'select')",
        "has_table_privilege('clerk', ({0})::oid, 'select')",
        "pg_get_serial_sequence('shown', ({0})::text)",
        "({0}) = 'shown'::regclass",
        "({0})::regclass = 'shown'",
    ],
)
def test_a_query_in_an_argument_is_filtered_as_anywhere(proxy, connect, around):
    proxy.postgres.run_sql(proxy.database, "insert into shown (id, size) values (-7, 1) on conflict do nothing")
    raising = "select 1 / (id + 7) from shown where id < 0"
    sql = around.format(f"({raising})")
    told = outcome(connect("clerk"), f"select {sql} order by 1", "none")
    assert "22012" not in told
    assert told[:1] == "[", told


@pytest.mark.parametrize(
    "call",
    [
        "pg_relation_size('shown')",
        "pg_total_relation_size('shown')",
        "pg_relation_filepath('shown')",
        "pg_stat_get_live_tuples('shown'::regclass)",
        "pg_tablespace_size(1663)",
        "pg_get_object_address('table', '{shown}', '{}')",
        "pg_input_is_valid('veiled', 'regclass')",
        "pg_sequence_last_value('shown_id_seq')",
        "makeaclitem(10, 10, 'select', false)",
        "pg_table_is_visible(_oid => 1)",
    ],
)
def test_everything_else_stays_closed(connect, call):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connect("clerk").execute(f"select {call}")


def test_psql_describes_tables(proxy):
    command = [
        proxy.postgres.program("psql"),
        "-X",
        "-d",
        proxy.dsn(proxy.mint("clerk").text, user="clerk"),
        "-P",
        "pager=off",
    ]
    script = r"\d;\d shown;\d+ shown;\dt;\di;\dv;\df;\dn;\dT;\du;\l;\conninfo;\d+ shown_view".replace(";", "\n")
    done = subprocess.run(
        command, input=script, capture_output=True, text=True, env=clean_environment(), timeout=60, check=False
    )
    assert done.stderr == ""
    told = done.stdout.replace("shown_over_veiled", "")
    assert "veiled" not in told.lower()
    for line in (
        " id      | integer |           | not null | nextval('shown_id_seq'::regclass)",
        '    "shown_parent_fkey" FOREIGN KEY (parent) REFERENCES shown(id)',
        " public | shown ",
        "  WHERE size < 1000;",
    ):
        assert line in told


def test_sqlalchemy_reflects_what_is_in_sight(proxy):
    engine = sa.create_engine(proxy.dsn(proxy.mint("clerk").text, user="clerk", scheme="postgresql+psycopg"))
    metadata = sa.MetaData()
    metadata.reflect(engine, views=True)
    engine.dispose()
    assert set(metadata.tables) == {"shown", "shown_view", "shown_over_veiled", "shown_part"}
    shown = metadata.tables["shown"]
    assert [column.name for column in shown.columns] == ["id", "feeling", "parent", "size"]
    assert shown.columns["feeling"].type.enums == ["sad", "glad"]
    assert [key.target_fullname for key in shown.foreign_keys] == ["shown.id"]
    assert not shown.indexes


def test_psycopg_finds_types_by_name(connect):
    clerk = connect("clerk")
    assert EnumInfo.fetch(clerk, "mood").labels == ["sad", "glad"]
    assert TypeInfo.fetch(clerk, "public.mood").regtype == "mood"
    assert TypeInfo.fetch(clerk, "veiled_mood") is None
