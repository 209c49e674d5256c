from __future__ import annotations

from dataclasses import replace

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.sql.catalog import Function, QualifiedName
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.rewrite import rewrite_statement
from pgfaucet.sql.rewritten import RewriteContext
from tests.unit.sql.test_utility import relation, tree, world

ALL = frozenset({"ddl", "temp", "copy", "listen", "lock", "do", "call", "two_phase"})
OPENED = Function(90, QualifiedName("public", "price"), "f", "i", (23,), 23, False, "sql", False)
CLOSED = Function(91, QualifiedName("public", "connectby"), "f", "v", (25,), 25, True, "c", False)
PG_CLASS = relation("pg_class", oid=1259)


def definer(**changes):
    before = world()
    catalog = replace(
        before.catalog,
        relations=before.catalog.relations | {QualifiedName("pg_catalog", "pg_class"): PG_CLASS.relation},
        functions={OPENED.name: (OPENED,), CLOSED.name: (CLOSED,)},
        system_functions=frozenset({"lower", "length", "now", "pg_read_file", "query_to_xml", "setval", "nextval"}),
    )
    values = {
        "catalog": catalog,
        "functions": {OPENED.name: (OPENED,)},
        "system_functions": frozenset({"nextval", "setval"}),
        "sees_everything": True,
        "may_define": True,
        "statements": ALL,
    }
    return world(**(values | changes))


def rewrite(sql, path=("public",), **changes):
    return rewrite_statement(tree(sql), RewriteContext(definer(**changes), path, sql))


def refusal(sql, **changes):
    with pytest.raises(FaucetError) as caught:
        rewrite(sql, **changes)
    return caught.value


@pytest.mark.parametrize(
    "sql",
    [
        "create table t (a int primary key, b text default lower('X') check (length(b) > price(1)))",
        "create unlogged table t (like orders including all)",
        "create table t partition of events for values from (1) to (2)",
        "alter table orders add column x int default 1, drop column total, alter id type bigint using id + 1",
        "alter table orders rename total to sum",
        "alter table orders owner to somebody",
        "drop table if exists a, b.c cascade",
        "create unique index concurrently i on orders (lower(note)) where price(id) > 1",
        "create view v as select id, price(id) from orders where total > 1",
        "create or replace view s.v as with o as (select * from orders) select count(*) from o",
        "create materialized view m as select id from orders",
        "refresh materialized view concurrently m",
        "create sequence s increment 2 owned by orders.id",
        "create schema s create table t (a int) create view v as select 1",
        "create type mood as enum ('a', 'b')",
        "create type pair as (a int, b text)",
        "create domain positive as int check (value > 0)",
        "alter type mood add value 'c'",
        "create extension if not exists hstore",
        "create function f() returns int language sql as 'select 1'",
        "create trigger t before update on orders for each row execute function price()",
        "create rule r as on insert to orders do instead insert into kv values (1)",
        "create policy p on orders using (id > 1)",
        "create statistics st on id, total from orders",
        "comment on column orders.id is 'x'",
        "grant select on orders to somebody",
        "revoke all on all tables in schema public from public",
        "alter default privileges in schema public grant select on tables to somebody",
        "vacuum (analyze) orders",
        "analyze",
        "reindex table orders",
        "cluster orders using i",
        "alter function price(int) volatile",
        "create aggregate total(int) (sfunc = int4pl, stype = int)",
        "set constraints c deferred",
    ],
)
def test_what_the_database_owns_may_be_defined(sql):
    made = rewrite(sql)
    assert made.changes_catalog is not sql.startswith("set")
    assert print_verified(made.tree)


@pytest.mark.parametrize(
    "sql",
    [
        "create database d",
        "drop database d",
        "alter database d set work_mem = 1",
        "create role r",
        "alter role r superuser",
        "drop role r",
        "grant r to s",
        "drop owned by r",
        "reassign owned by r to s",
        "create tablespace t location '/x'",
        "alter system set work_mem = 1",
        "checkpoint",
        "load 'x'",
        "security label on table orders is 'x'",
        "create server s foreign data wrapper w",
        "create foreign data wrapper w",
        "create foreign table f (a int) server s",
        "create user mapping for public server s",
        "import foreign schema x from server s into y",
        "create subscription s connection 'host=x' publication p",
        "create publication p for all tables",
        "create extension dblink",
        "create extension tablefunc",
        "create language l",
        "create access method a type table handler h",
        "drop server s",
        "comment on database shop is 'x'",
        "comment on role r is 'x'",
        "grant connect on database shop to r",
        "grant set on parameter work_mem to r",
        "alter extension hstore add table orders",
    ],
)
def test_what_reaches_out_of_the_database_is_not_open(sql):
    assert refusal(sql).sqlstate in ("42501", "0A000")


@pytest.mark.parametrize(
    "sql",
    [
        "create view v as select pg_read_file('/etc/passwd')",
        "create view v as select * from query_to_xml('select 1', true, true, '')",
        "create view v as select pg_catalog.pg_read_file('x')",
        "create view v as select * from connectby('x')",
        "create view v as select public.connectby('x')",
        "create materialized view m as select pg_read_file('x')",
        "create table t as select pg_read_file('x')",
        "create table t (a text default pg_read_file('x'))",
        "create table t (a text generated always as (pg_read_file('x')) stored)",
        "create table t (a text check (pg_read_file(a) <> ''))",
        "alter table orders alter note set default pg_read_file('x')",
        "alter table orders alter note type text using pg_read_file(note)",
        "create index on orders (pg_read_file(note))",
        "create index on orders (id) where pg_read_file(note) <> ''",
        "create policy p on orders using (pg_read_file(note) <> '')",
        "create rule r as on insert to orders do also select pg_read_file('x')",
        "create domain d as text check (pg_read_file(value) <> '')",
        "create trigger t before update on orders for each row when (pg_read_file('x') <> '') execute function price()",
        "create trigger t before update on orders for each row execute function connectby()",
        "create schema s create view v as select pg_read_file('x')",
        "grant execute on function pg_read_file(text) to public",
        "create statistics st on (pg_read_file(note)), id from orders",
        "select pg_read_file('x') into t",
    ],
)
def test_a_function_that_is_closed_cannot_be_had_through_a_definition(sql):
    error = refusal(sql)
    assert (error.sqlstate, "permission denied for function" in error.message) == ("42501", True)


@pytest.mark.parametrize(
    "sql",
    [
        "create view v as select * from pg_class",
        "create view v as select * from pg_catalog.pg_authid",
        "create view v as select * from information_schema.tables",
        "create materialized view m as select (select count(*) from pg_catalog.pg_authid)",
        "grant select on pg_catalog.pg_authid to public",
        "grant select on all tables in schema pg_catalog to public",
        "create rule r as on insert to orders do also select * from pg_catalog.pg_authid",
        "create policy p on orders using (exists (select from pg_catalog.pg_authid))",
        "create table t (like pg_catalog.pg_authid)",
        "create trigger t after insert on pg_class for each row execute function price()",
    ],
)
def test_no_definition_reaches_a_catalog(sql):
    assert refusal(sql).sqlstate == "42501"


@pytest.mark.parametrize(
    "sql",
    [
        "create function f() returns int language sql as 'select 1'",
        "alter function price(int) strict",
        "create operator @@@ (function = pg_read_file, rightarg = text)",
        "create aggregate a(text) (sfunc = pg_read_file, stype = text)",
        "create cast (text as int) with function price(int)",
        "create type t (input = x, output = y)",
        "alter function connectby(text) rename to harmless",
        "alter function connectby(text) set schema s",
        "alter operator @@@ (none, text) set (restrict = price)",
        "create operator class c for type int using btree as function 1 price(int)",
        "create event trigger e on ddl_command_end execute function price()",
        "create conversion c for 'UTF8' to 'LATIN1' from price",
        "create type r as range (subtype = int, subtype_diff = price)",
    ],
)
def test_what_gives_functions_other_names_needs_do_as_well(sql):
    error = refusal(sql, statements=ALL - {"do"})
    assert error.sqlstate == "42501"
    assert "statement kind do" in (error.hint or "")


def test_a_function_stays_closed_under_its_name_with_do_too():
    assert refusal("alter function pg_read_file(text) rename to harmless").sqlstate == "42501"
    assert refusal("alter function public.connectby(text) rename to harmless").sqlstate == "42501"


def test_ddl_needs_its_kind_and_a_role_that_sees_everything():
    assert refusal("create table t (a int)", statements=ALL - {"ddl"}, may_define=False).sqlstate == "42501"
    error = refusal("drop table orders", statements=frozenset({"ddl"}), may_define=False)
    assert "without row_filter and mask" in (error.hint or "")


@pytest.mark.parametrize(
    "sql",
    [
        "create temp table t (a int)",
        "create temp view v as select 1",
        "create temp table t as select 1",
        "select 1 as a into temp t",
        "create table pg_temp.t (a int)",
        "create type pg_temp.x as enum ('a')",
        "create function pg_temp.f() returns int language sql as 'select 1'",
    ],
)
def test_temporary_objects_keep_the_connection_and_need_their_kind(sql):
    assert rewrite(sql).pin == "temporary object"
    assert refusal(sql, statements=ALL - {"temp"}).sqlstate == "42501"


def test_where_new_objects_are_temporary_by_the_search_path_the_connection_stays():
    assert rewrite("create table t (a int)", path=("pg_temp", "public")).pin == "temporary object"
    assert rewrite("create table t (a int)").pin is None


def test_the_query_of_a_new_table_is_rewritten():
    assert print_verified(rewrite("create table t as table kv").tree).endswith("FROM public.kv")
    assert " INTO t " in print_verified(rewrite("select id into t from kv").tree)


def test_a_statement_inside_a_schema_is_judged_by_itself():
    assert refusal("create schema s create table t (a int) grant select on pg_class to public").sqlstate == "42501"
