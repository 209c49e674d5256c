"""What is in a database, cheap to compare and to put back: for tests that let statements write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import psycopg

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

RELATIONS = """
    select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = %s and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1"""

CATALOG = """
    select md5(concat(
        (select string_agg(concat(relname, relkind, relacl, relowner), ',' order by oid) from pg_class
            where relpersistence = 'p' and relnamespace <> 'pg_toast'::regnamespace),
        (select string_agg(concat(attrelid, attname, attacl), ',' order by attrelid, attnum) from pg_attribute where attrelid > 16383
            and attrelid in (select oid from pg_class where relpersistence = 'p' and relkind in ('r', 'v', 'p', 'm'))),
        (select string_agg(concat(proname, proacl), ',' order by oid) from pg_proc),
        (select string_agg(concat(rolname, rolsuper, rolcanlogin, rolpassword), ',' order by oid) from pg_authid),
        (select string_agg(concat(setdatabase, setrole, setconfig), ',' order by setdatabase, setrole) from pg_db_role_setting),
        (select md5(string_agg(concat(loid, data), ',' order by loid, pageno)) from pg_largeobject),
        (select count(*) from pg_operator), (select count(*) from pg_cast), (select count(*) from pg_trigger),
        (select count(*) from pg_policy), (select count(*) from pg_constraint), (select count(*) from pg_description),
        (select count(*) from pg_namespace where nspname !~ '^pg_'), (select count(*) from pg_extension),
        (select count(*) from pg_foreign_server), (select count(*) from pg_publication), (select count(*) from pg_auth_members)))"""


class Contents:
    """The rows, sequences and catalogs of one database as they were when this was made; a context manager."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("set lock_timeout = '3s'; set statement_timeout = '20s'")
        self.tables = self._names("r")
        self._sequences = self._names("S")
        self._rows = {table: self._copy_out(table) for table in self.tables}
        self._values = {name: self._one(f"select last_value, is_called from {name}") for name in self._sequences}
        self._rows_query = f"select md5(concat_ws(',', {', '.join(self._digests())}))"
        self._first = self._digest()
        self.has_changed = False
        """Whether rows or sequences were not what they had been when `look` looked."""
        self.has_changed_catalog = False
        """The same of objects, grants and settings."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def look(self) -> None:
        """Find out whether something has changed."""
        rows, catalog = self._digest()
        self.has_changed, self.has_changed_catalog = rows != self._first[0], catalog != self._first[1]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query as the superuser."""
        return self._connection.execute(sql).fetchall()

    def rows(self, table: str, columns: Collection[str] = ("*",), condition: str = "true") -> list[tuple[Any, ...]]:
        """Return the rows of one table, without those of its children, sorted."""
        text = f"select {', '.join(columns)} from only {table} where {condition}"
        return [tuple(row) for row in sorted(self.query(text), key=repr)]

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        found = self._connection.execute(
            "select quote_ident(attname) from pg_attribute"
            " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
            (table,),
        )
        return [name for (name,) in found]

    def put_back(self) -> None:
        """Make rows and sequences what they were."""
        run = self._connection.execute
        with self._connection.transaction():
            run("set local session_replication_role = replica")
            run(f"truncate {', '.join(f'only {table}' for table in self.tables)}")
            for table, data in self._rows.items():
                with self._connection.cursor().copy(f"copy {table} from stdin (format binary)") as copy:
                    copy.write(data)
            for name, (value, is_called) in self._values.items():
                run("select setval(%s, %s, %s)", (name, value, is_called))
        self.has_changed = False

    def _digest(self) -> tuple[Any, Any]:
        return self._one(self._rows_query)[0], self._one(CATALOG)[0]

    def _digests(self) -> list[str]:
        rows = [f"(select md5(string_agg(x::text, '|' order by x::text)) from only {table} x)" for table in self.tables]
        return rows + [f"(select concat(last_value, is_called) from {name})" for name in self._sequences]

    def _names(self, kind: str) -> list[str]:
        return [name for (name,) in self._connection.execute(RELATIONS, (kind,))]

    def _copy_out(self, table: str) -> bytes:
        with self._connection.cursor().copy(f"copy {table} to stdout (format binary)") as copy:
            return b"".join(bytes(part) for part in copy)

    def _one(self, sql: str, parameters: Mapping[str, object] | None = None) -> tuple[Any, ...]:
        return self._connection.execute(sql, parameters).fetchone()
