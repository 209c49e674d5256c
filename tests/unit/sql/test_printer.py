from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.sql.printer import print_verified
from tests.unit.sql.test_utility import tree


@pytest.mark.parametrize("sql", ["prepare transaction ''", "commit prepared ''", "rollback prepared ''"])
def test_a_prepared_transaction_may_have_no_name(sql):
    assert print_verified(tree(sql)).lower() == sql


@pytest.mark.parametrize(
    ("sql", "sent"),
    [
        ('select f("paramA" => 1)', 'SELECT f("paramA" := 1)'),
        ("""select f("a ""b' -- " => 1)""", """SELECT f("a ""b' -- " := 1)"""),
        ("""create function f("A b" int) returns int return 1""", 'CREATE FUNCTION f("A b" int) RETURNS int RETURN 1'),
        ("select f(plain => 1)", "SELECT f(plain := 1)"),
    ],
)
def test_names_of_function_parameters_are_quoted_where_they_have_to_be(sql, sent):
    assert print_verified(tree(sql)) == sent


@pytest.mark.parametrize("sql", ["load ''", "alter type t add value ''", "create conversion c for '' to '' from f"])
def test_an_empty_text_that_the_deparser_would_fall_over_is_refused(sql):
    with pytest.raises(FaucetError) as caught:
        print_verified(tree(sql))
    assert caught.value.sqlstate == "XX000"


@pytest.mark.parametrize("sql", ["NOTIFY c", "COMMENT ON TABLE t IS NULL"])
def test_an_empty_text_that_means_none_is_none(sql):
    given = {"NOTIFY c": "notify c, ''", "COMMENT ON TABLE t IS NULL": "comment on table t is ''"}[sql]
    assert print_verified(tree(given)) == sql


PRINT_ALL = """
import sys
import orjson
from pglast.parser import parse_sql_json
from pgfaucet.errors import FaucetError
from pgfaucet.sql.printer import print_verified
for line in sys.stdin:
    print(line, file=sys.stderr, flush=True)
    try:
        print_verified(orjson.loads(parse_sql_json(line))["stmts"][0]["stmt"])
    except FaucetError:
        print("refused", line.strip())
"""


def test_no_statement_of_the_grammar_takes_the_process_down():
    """Played in a process of its own: the deparser is C, and what it falls over would take every client's session with it."""
    forms = (Path(__file__).parent / "utility_forms.sql").read_text()
    done = subprocess.run([sys.executable, "-c", PRINT_ALL], input=forms, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    assert done.stdout.count("refused") == 9
