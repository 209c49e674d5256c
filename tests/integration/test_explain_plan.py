"""`pgfaucet explain --plan`: how the server would run what would be sent. Nothing runs."""

from __future__ import annotations

import json

import pytest

SELECT = "select id, status from orders where total > 10"


def _explain(proxy, statement, *options):
    arguments = ("--role", "desk", "--claim", "tenant=42", *options, statement)
    done = proxy.run_command("explain", "-c", str(proxy.policies), *arguments)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_plan_stands_below_the_text(proxy):
    code, shown = _explain(proxy, SELECT, "--plan")
    sends, plan = shown.split("\n  plan    ")
    assert code == 0
    assert "\n  sends   SELECT" in sends
    assert "on orders" in plan
    assert "cost=" not in plan
    assert all(line.startswith(" " * 10) for line in plan.splitlines()[1:])


def test_without_the_option_there_is_none(proxy):
    assert "  plan " not in _explain(proxy, SELECT)[1]


@pytest.mark.parametrize(
    ("statement", "node"),
    [
        ("insert into notes (body) values ('planned only')", "Insert on notes"),
        ("update notes set body = 'planned only' where id = 2", "Update on notes"),
        ("delete from notes", "Delete on notes"),
        (
            "merge into notes n using (values (2)) v(id) on n.id = v.id when matched then update set body = 'planned only'",
            "Merge on notes",
        ),
        ("select id from notes where id = $1 and body = $2", "on notes"),
        ("update notes set body = $1 where id = 2", "Update on notes"),
    ],
)
def test_each_verb_has_a_plan_and_does_not_run(proxy, postgres, statement, node):
    before = postgres.value(proxy.database, "select md5(string_agg(notes::text, ',' order by id)) from notes")
    code, shown = _explain(proxy, statement, "--plan", "--json")
    answer = json.loads(shown)
    assert (code, answer["plan"]["error"]) == (0, None)
    assert any(node in line for line in answer["plan"]["lines"])
    after = postgres.value(proxy.database, "select md5(string_agg(notes::text, ',' order by id)) from notes")
    assert after == before


def test_a_refused_statement_and_one_without_a_plan_have_none(proxy):
    code, shown = _explain(proxy, "begin; select * from api_keys", "--plan", "--json")
    answers = [json.loads(line) for line in shown.splitlines()]
    assert (code, [answer["plan"] for answer in answers]) == (1, [None, None])


def test_what_the_server_cannot_plan_is_said(proxy):
    code, shown = _explain(proxy, "select 1 / 0", "--plan")
    assert (code, shown.splitlines()[-1]) == (0, "  plan    cannot be shown: division by zero")


def test_a_failed_plan_leaves_the_next_one_alone(proxy):
    _, shown = _explain(proxy, "select 1 / 0 where 1 = $1; select id from notes where id = $1", "--plan", "--json")
    first, second = (json.loads(line)["plan"] for line in shown.splitlines())
    assert first["error"] == "division by zero"
    assert second["error"] is None
