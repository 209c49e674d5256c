-- What makes the second database of the fuzzer: other rows where the role can't look, the same where it can. Keys that a statement of
-- the fuzzer could write stay, because a unique key tells of a row that has it under any policy.
update people set name = 'other' || id, salary = 5 + id, note = 'CHANGED' || id, dept_id = 3, created = now(), doc = '[]', tags = '{u}',
    active = not active, mgr_id = null, ssn = 'q', m = 'ok', score = 0.25 where tenant_id <> 42;
update people set ssn = 'other' || id;
delete from people where tenant_id = 8 and id > 30;
insert into people (id, tenant_id, name, salary, note, email, score) select 5000 + i, 7, 'more', 110, '9', 'z' || i, 0 from generate_series(1, 400) i;
update dept set dname = 'other', budget = 0, id = id + 6000 where tenant_id <> 42;
update ev set kind = 'z', ts = ts + interval '1 year', amt = -1 where tenant_id <> 42;
insert into ev select 7000 + i, 7, 'q', timestamp '2024-01-01 06:00', 1.5 from generate_series(1, 50) i;
update animals set aname = 'dog' || id where tenant_id <> 42;
insert into animals values (8001, 9, 'cat'), (8002, 9, 'cow');
update tagged set v = null where tenant_id <> 42;
insert into tagged (id, tenant_id, k, v) select 9000 + i, 8, 'k' || i, 'v1' from generate_series(1, 30) i;
insert into hidden_t values (2, 'second');
