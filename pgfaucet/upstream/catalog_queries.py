"""The statements that read the catalog. Constant text, run with only pg_catalog on the search_path.

Temporary objects of other sessions are left out everywhere; those of the session that asks stand in the schema pg_temp. Relation kinds: PostgreSQL manual, pg_class.relkind.
"""

from __future__ import annotations

from typing import Final

PIN_SEARCH_PATH: Final = "SET LOCAL search_path TO pg_catalog, pg_temp"

SERVER: Final = """
SELECT current_setting('server_version_num')::int4 AS server_version, current_database()::text AS database,
       pg_current_snapshot()::text AS seen
"""

SCHEMAS: Final = """
SELECT oid::int8 AS oid, nspname::text AS name FROM pg_namespace
WHERE nspname !~ '^pg_(toast_)?temp_' ORDER BY oid
"""

RELATIONS: Final = """
SELECT c.oid::int8 AS oid, CASE WHEN c.relpersistence = 't' THEN 'pg_temp' ELSE n.nspname::text END AS schema,
       c.relname::text AS name, c.relkind::text AS kind, pg_get_userbyid(c.relowner)::text AS owner, c.reltype::int8 AS row_type,
       c.reltoastrelid::int8 AS toast, i.indexrelid::int8 AS toast_index
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON c.reltoastrelid <> 0 AND i.indrelid = c.reltoastrelid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND n.nspname <> 'pg_toast'
  AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
ORDER BY c.oid
"""

COLUMNS: Final = """
SELECT a.attrelid::int8 AS relation, a.attname::text AS name, a.attnum::int4 AS number, a.atttypid::int8 AS type_oid,
       a.atttypmod AS typmod, format_type(a.atttypid, a.atttypmod) AS type_sql, a.attnotnull AS not_null,
       pg_get_expr(d.adbin, d.adrelid) AS "default", a.attgenerated::text AS generated, a.attidentity::text AS identity,
       a.attcollation::int8 AS collation, coalesce(d.oid, 0)::int8 AS default_oid,
       CASE WHEN a.attgenerated <> '' THEN ARRAY(
           SELECT u.refobjsubid FROM pg_depend u
           WHERE u.classid = 'pg_class'::regclass AND u.objid = a.attrelid AND u.objsubid = a.attnum
             AND u.refclassid = 'pg_class'::regclass AND u.refobjid = a.attrelid AND u.refobjsubid <> a.attnum) END AS uses,
       CASE WHEN d.oid IS NOT NULL THEN ARRAY(
           SELECT u.refobjid::int8 FROM pg_depend u
           WHERE u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid
             AND u.refclassid = 'pg_class'::regclass AND u.refobjid <> a.attrelid) END AS default_relations
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON a.atthasdef AND d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
ORDER BY a.attrelid, a.attnum
"""

INDEXES: Final = """
SELECT i.indexrelid::int8 AS oid, i.indrelid::int8 AS relation, c.relname::text AS name, i.indisunique AS is_unique,
       i.indisprimary AS is_primary, (i.indkey::int2[])[0:i.indnkeyatts - 1] AS key, i.indkey::int2[] AS columns,
       CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL THEN ARRAY(
           SELECT d.refobjsubid FROM pg_depend d
           WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid) END AS used
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
ORDER BY i.indrelid, i.indexrelid
"""

CONSTRAINTS: Final = """
SELECT o.oid::int8 AS oid, o.conrelid::int8 AS relation, o.conname::text AS name, o.contype::text AS kind,
       o.conkey AS columns, o.confrelid::int8 AS "references", o.confkey AS referenced_columns, o.conindid::int8 AS index,
       o.confdeltype::text AS on_delete, o.confupdtype::text AS on_update
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
WHERE (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
ORDER BY o.conrelid, o.oid
"""

TRIGGERS: Final = """
SELECT t.oid::int8 AS oid, t.tgrelid::int8 AS relation, t.tgname::text AS name, t.tgtype::int4 AS type,
       t.tgattr::int2[] AS columns, t.tgconstrrelid::int8 AS "references", t.tgconstraint::int8 AS "constraint",
       CASE WHEN t.tgqual IS NOT NULL THEN ARRAY(
           SELECT d.refobjsubid FROM pg_depend d
           WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.tgrelid) END AS used
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
ORDER BY t.tgrelid, t.oid
"""

PARENTS: Final = """
SELECT inhrelid::int8 AS relation, inhparent::int8 AS parent FROM pg_inherits ORDER BY inhrelid, inhseqno
"""

SEQUENCE_OWNERS: Final = """
SELECT s.seqrelid::int8 AS sequence, d.refobjid::int8 AS relation, d.refobjsubid AS number
FROM pg_sequence s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
ORDER BY s.seqrelid
"""

TYPES: Final = """
SELECT t.oid::int8 AS oid, CASE WHEN n.oid = pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname::text END AS schema, t.typname::text AS name, t.typtype::text AS kind,
       t.typbasetype::int8 AS base, CASE WHEN e.oid IS NULL THEN 0 ELSE t.typelem END::int8 AS element,
       t.typarray::int8 AS "array", t.typrelid::int8 AS relation,
       coalesce(r.rngsubtype, m.rngtypid, 0)::int8 AS subtype, coalesce(r.rngmultitypid, 0)::int8 AS multirange
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
LEFT JOIN pg_range r ON t.typtype = 'r' AND r.rngtypid = t.oid
LEFT JOIN pg_range m ON t.typtype = 'm' AND m.rngmultitypid = t.oid
WHERE (n.nspname !~ '^pg_(toast_)?temp_' OR n.oid = pg_my_temp_schema()) AND n.nspname <> 'pg_toast'
ORDER BY t.oid
"""

FUNCTIONS: Final = """
SELECT p.oid::int8 AS oid, CASE WHEN n.oid = pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname::text END AS schema, p.proname::text AS name,
       p.prokind::text AS kind,
       p.provolatile::text AS volatility, p.proargtypes::oid[]::int8[] AS argument_types, p.prorettype::int8 AS return_type,
       p.proretset AS returns_set, l.lanname::text AS language, p.proleakproof AS is_leakproof,
       coalesce(x.extname, '')::text AS extension, coalesce(p.proallargtypes, p.proargtypes::oid[])::int8[] AS signature,
       ARRAY(SELECT a.name FROM unnest(p.proargnames, p.proargmodes) WITH ORDINALITY a (name, mode, place)
             WHERE a.mode IN ('o', 'b', 't') ORDER BY a.place) AS output_columns
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
                     AND d.refclassid = 'pg_extension'::regclass
LEFT JOIN pg_extension x ON x.oid = d.refobjid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND (n.nspname !~ '^pg_(toast_)?temp_' OR n.oid = pg_my_temp_schema())
ORDER BY n.nspname, p.proname, p.oid
"""

SYSTEM_FUNCTIONS: Final = """
SELECT p.proname::text AS name, bool_or(p.provolatile = 'v') AS is_volatile, bool_or(p.prokind IN ('a', 'w')) AS is_aggregate,
       bool_or(p.proretset) AS returns_set, count(DISTINCT o.names) = 1 AS agrees, min(o.names) AS columns
FROM pg_proc p, LATERAL (
    SELECT ARRAY(SELECT a.name FROM unnest(p.proargnames, p.proargmodes) WITH ORDINALITY a (name, mode, place)
                 WHERE a.mode IN ('o', 'b', 't') ORDER BY a.place) AS names) o
WHERE p.pronamespace = 'pg_catalog'::regnamespace
GROUP BY p.proname ORDER BY p.proname
"""

LEAKPROOF_OPERATORS: Final = """
SELECT o.oprname::text AS name, o.oprleft::int8 AS "left", o.oprright::int8 AS "right"
FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
WHERE p.proleakproof AND o.oprnamespace = 'pg_catalog'::regnamespace
"""

SYSTEM_OPERATORS: Final = """
SELECT DISTINCT oprname::text AS name FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace
"""

MARK: Final = """
WITH temporary AS MATERIALIZED (SELECT oid FROM pg_class WHERE relpersistence = 't')
SELECT concat_ws('.',
    (SELECT bit_xor(hash_record_extended(ROW (oid, nspname), 1)) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'),
    (SELECT bit_xor(hash_record_extended(ROW (oid, relname, relnamespace, relkind, relowner, reltype, reltoastrelid), 2))
     FROM pg_class WHERE relpersistence <> 't'),
    (SELECT bit_xor(hash_record_extended(ROW (attrelid, attname, attnum, atttypid, atttypmod, attnotnull, attgenerated,
                                              attidentity, attcollation), 3))
     FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid NOT IN (SELECT oid FROM temporary)),
    (SELECT bit_xor(hash_record_extended(ROW (oid, adrelid, adnum), 4))
     FROM pg_attrdef WHERE adrelid NOT IN (SELECT oid FROM temporary)),
    (SELECT bit_xor(hash_record_extended(ROW (indexrelid, indisunique, indisprimary), 5))
     FROM pg_index WHERE indrelid NOT IN (SELECT oid FROM temporary)),
    (SELECT bit_xor(hash_record_extended(ROW (oid, conname, contype, conrelid), 6))
     FROM pg_constraint WHERE conrelid NOT IN (SELECT oid FROM temporary)),
    (SELECT bit_xor(hash_record_extended(ROW (inhrelid, inhparent), 7)) FROM pg_inherits),
    (SELECT bit_xor(hash_record_extended(ROW (oid, tgname, tgtype, tgrelid), 8))
     FROM pg_trigger WHERE tgrelid NOT IN (SELECT oid FROM temporary)),
    (SELECT bit_xor(hash_record_extended(ROW (oid, typname, typnamespace, typtype, typbasetype, typelem, typarray), 9))
     FROM pg_type WHERE typrelid NOT IN (SELECT oid FROM temporary)),
    (SELECT bit_xor(hash_record_extended(ROW (oid, proname, pronamespace, prokind, provolatile, proleakproof, proretset, prolang,
                                              prorettype, proargtypes), 10)) FROM pg_proc),
    (SELECT bit_xor(hash_record_extended(ROW (rolname, oid), 11)) FROM pg_roles))
"""
