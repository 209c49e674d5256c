"""Every function of the running server is decided: open to everybody on purpose, answered by us, or refused."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from typing import NamedTuple

import orjson
import pytest
from pglast.parser import parse_sql_json

from pgfaucet.sql.builtins import FunctionClass, classify, is_type_allowed, unclassified
from tests.differential.fuzz.databases import ROLES, SUITE, make_guard

FUNCTIONS = """
select n.nspname, p.proname, p.prokind, has_function_privilege('agent', p.oid, 'execute') as is_public,
    (select string_agg(t.typname, ' ' order by i) from unnest(p.proargtypes) with ordinality a(o, i) join pg_type t on t.oid = o)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname <> 'information_schema' order by p.oid
"""


CATALOGS = files("pgfaucet") / "data" / "catalogs.yaml"
"""What we put in the place of functions that tell of objects; the function itself stands in it, behind a condition."""

SETTINGS = {"current_database", "current_setting"}
"""Sent where the argument is a literal that the role may read."""


def may_describe(name):
    return classify(name) is FunctionClass.CATALOG_INFO


class Function(NamedTuple):
    schema: str
    name: str
    kind: str
    is_public: bool
    takes: tuple[str, ...]

    @property
    def call(self) -> str:
        given = [f"null::{kind}" if is_type_allowed(kind) else "null" for kind in self.takes]
        if self.schema == "pg_catalog" and self.kind == "w":
            return f'pg_catalog."{self.name}"({", ".join(given)}) over ()'
        return f'{self.schema}."{self.name}"({", ".join(given)})'


@pytest.fixture(scope="module")
def server(postgres):
    """Return a database with every extension that the server has, and the oracle's unprivileged role."""
    postgres.run_sql("postgres", ROLES)
    postgres.load_template("differential", SUITE / "schema.sql")
    name = postgres.new_database("differential")
    for (extension,) in postgres.rows(
        name, "select name from pg_available_extensions where name <> 'plpgsql' order by 1"
    ):
        postgres.run_sql(name, f'create extension if not exists "{extension}" cascade')
    yield postgres, name
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def functions(server):
    postgres, name = server
    rows = postgres.rows(name, FUNCTIONS)
    return [
        Function(schema, called, kind, public == "t", tuple(takes.split()))
        for schema, called, kind, public, takes in rows
    ]


@pytest.fixture(scope="module")
def guard(server, tmp_path_factory):
    return asyncio.run(make_guard(*server, tmp_path_factory.mktemp("policy")))


def calls_in(tree):
    """Give the qualified names of the functions that a tree calls."""
    if isinstance(tree, list):
        for item in tree:
            yield from calls_in(item)
    elif isinstance(tree, dict):
        if "funcname" in tree:
            yield ".".join(part["String"]["sval"] for part in tree["funcname"])
        for value in tree.values():
            yield from calls_in(value)


def test_nothing_of_pg_catalog_is_unheard_of(functions):
    names = [function.name for function in functions if function.schema == "pg_catalog"]
    assert len(names) > 3000
    assert unclassified(names) == []


def test_what_is_open_to_everybody_is_open_natively(functions):
    closed = {function.name for function in functions if function.schema == "pg_catalog" and not function.is_public}
    assert closed
    assert [name for name in sorted(closed) if classify(name) is FunctionClass.SAFE] == []


def test_each_is_decided(functions, guard):
    described = SETTINGS | {name for name in re.findall(r"\b\w+(?=\()", CATALOGS.read_text()) if may_describe(name)}
    refused = sent = 0
    for function in functions:
        for sql in (
            f"select {function.call}",
            f"select * from {function.call} f",
            f"select 1 from dept where {function.call} is null",
        ):
            plan = guard.plan(sql, guard.world.search_path)
            if plan.refused is not None:
                refused += 1
                assert plan.refused.error.sqlstate[:2] in {"42", "0A", "22"}, (sql, plan.refused.error)
                continue
            sent += 1
            assert function.schema == "pg_catalog", sql
            for called in calls_in(orjson.loads(parse_sql_json(plan.text))):
                schema, _, name = called.partition(".")
                assert schema == "pg_catalog"
                assert classify(name) is FunctionClass.SAFE or name in described, (sql, plan.text)
    assert refused > 3000
    assert sent > 3000
