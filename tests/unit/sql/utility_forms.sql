prepare transaction ''
commit prepared ''
rollback prepared ''
prepare transaction 'x'
notify c, ''
comment on table t is ''
load ''
alter type t add value ''
alter type t add value 'a' before ''
alter type t rename value '' to 'b'
alter type t rename value 'a' to ''
create type t as enum ('')
create table t (a text default '')
set x to ''
listen c
create extension x version ''
do ''
do language plpgsql ''
create function f() returns int language sql as ''
create function f() returns int language '' as ''
copy t to stdout (delimiter '')
copy t to stdout (format '')
create collation c (locale = '')
alter table t alter a set default ''
security label on table t is ''
create database d template ''
create trigger t before update on x for each row execute function f('')
create tablespace t location ''
explain (format '') select 1
alter sequence s owned by none
grant select on t to public
alter system set a = ''
create subscription s connection '' publication p
create server s type '' foreign data wrapper w
create view v as select ''
create role r password ''
select '' as "x"
execute p('')
declare c cursor for select ''
create text search dictionary d (template = simple, x = '')
create user mapping for public server s options (a '')
create foreign table f (a int options (b '')) server s
create publication p with (publish = '')
create statistics on a, b from t
create index on t (a)
create table t partition of p for values in ('')
create table t partition of p default
alter domain d set default ''
create rule r as on insert to t do instead nothing
begin isolation level serializable
select * from xmltable('' passing '' columns a int path '')
select json_value('{}', '$' passing '' as x)
create policy p on t
create event trigger e on ddl_command_end when tag in ('') execute function f()
alter event trigger e disable
create language l
create access method a type table handler h
create cast (a as b) without function
create cast (a as b) with inout
alter default privileges grant select on tables to public
drop owned by r
reassign owned by r to s
alter function f() set x to ''
alter role r set x to ''
create transform for int language l (from sql with function f(internal), to sql with function g(internal))
create operator family f using btree
alter operator family f using btree add operator 1 < (int, int)
create conversion c for '' to '' from f
create domain d as text collate "C" default '' check (value <> '')
alter table t add constraint c check (a <> '') not valid
alter table t set (a = '')
create table t (a int) with (x = '')
vacuum (parallel 0) t
cluster
cluster verbose t using i
reindex (verbose) table concurrently t
refresh materialized view m with no data
lock table t in share mode nowait
fetch all in c
fetch relative 3 from c
move backward all in c
close all
discard plans
deallocate all
truncate t restart identity cascade
alter table t owner to current_user
alter table all in tablespace a set tablespace b
alter table t attach partition p for values from (minvalue) to (maxvalue)
alter table t detach partition p concurrently
alter table t replica identity using index i
alter table t alter a add generated always as identity (start 3)
alter table t alter a set statistics -1, alter a set storage external, alter a set compression pglz
alter table t add exclude using gist (a with &&) where (a > 1)
alter index i attach partition j
alter index i alter column 1 set statistics 3
alter view v set (security_barrier)
alter view v rename column a to b
alter materialized view m set schema s
alter type t add attribute a int cascade
alter type t rename attribute a to b
alter sequence s restart
alter publication p add table t
alter subscription s disable
alter text search configuration c add mapping for a with b
alter text search dictionary d (x)
alter statistics s set statistics 3
alter extension e update
alter extension e add table t
alter collation c refresh version
alter database d refresh collation version
alter conversion c rename to d
alter language l rename to m
alter large object 1 owner to r
alter aggregate a(*) rename to b
alter aggregate a(int order by int) owner to r
alter operator + (int, int) set (restrict = none)
alter operator class c using btree rename to d
alter policy p on t to r using (true)
alter rule r on t rename to s
alter trigger t on x depends on extension e
alter function f() no depends on extension e
alter routine f reset all
alter procedure f() security definer
alter server s version '1'
alter foreign data wrapper w options (set a 'b', drop c)
comment on column t.a is null
comment on constraint c on domain d is 'x'
comment on constraint c on t is 'x'
comment on operator + (none, int) is 'x'
comment on large object 1 is 'x'
comment on transform for int language l is 'x'
comment on cast (int as text) is 'x'
comment on trigger t on x is 'y'
comment on policy p on t is 'y'
comment on rule p on t is 'y'
comment on type t is 'y'
comment on domain t is 'y'
comment on access method t is 'y'
drop cast if exists (int as text)
drop transform for int language l
drop function f, g(int)
drop aggregate a(*)
drop operator + (int, none)
drop operator class c using btree
drop trigger t on x
drop rule r on x cascade
drop policy p on x
drop type a, b.c
drop access method a
drop server s
drop user mapping for public server s
drop text search parser p
drop statistics s
drop schema a cascade
drop event trigger e
import foreign schema a limit to (b, c) from server s into d options (x 'y')
grant execute on all functions in schema s to public with grant option
grant usage on foreign server s to r
grant r to s with admin option granted by t
revoke admin option for r from s
revoke grant option for select (a) on t from r cascade
create aggregate a(int) (sfunc = f, stype = int, initcond = '')
create aggregate a(basetype = int, sfunc = f, stype = int)
create operator + (leftarg = int, rightarg = int, function = f, commutator = operator(s.+), hashes)
create type t
create type t (input = a, output = b, internallength = variable, "default" = '')
create type t as range (subtype = int)
create table t of ty (a primary key)
create table t (a int generated always as (1) virtual)
create table t (like u including all excluding defaults)
create table if not exists t as select 1 with no data
create table t (a) on commit drop as values (1)
create unlogged sequence if not exists s as bigint cycle cache 3 minvalue 1 no maxvalue
create recursive view v (a) as select 1
create or replace temp view v with (security_barrier) as select 1 with local check option
create schema authorization current_user
create schema if not exists s authorization r
create constraint trigger t after insert on x from y deferrable initially deferred for each row when (new.a > 1) execute function f(1, 'a')
create trigger t after update of a, b on x referencing old table as o new table as n for each statement execute procedure f()
create function f(int, out a text, variadic b int[] default '{}') returns setof record language sql immutable strict leakproof parallel safe cost 1 rows 2 support g set x = y as 'a', 'b'
create function f() returns table (a int, b text) begin atomic select 1; select 2; end
create function f() returns int return 1
create procedure p(inout a int) language sql begin atomic insert into t values (1); end
create role r superuser createdb connection limit 3 valid until 'x' in role a role b admin c
create user u
create group g
alter role all in database d reset all
alter user u with nologin
set session authorization default
set role none
set local time zone interval '1' hour
set transaction isolation level repeatable read, read only, deferrable
set session characteristics as transaction read write
set xml option document
set names 'utf8'
reset session authorization
show session authorization
set constraints a, b.c immediate
call p(1, x => 2)
merge into t using u on true when matched then delete
