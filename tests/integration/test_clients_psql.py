"""psql 18, unchanged but for the DSN."""

from __future__ import annotations

import subprocess

import pytest

from pgfaucet.demo.postgres import clean_environment


@pytest.fixture(scope="module")
def psql(proxy):
    def run(script, *options, dsn=None):
        command = [proxy.postgres.program("psql"), "-X", "-d", dsn or proxy.dsn(), "-v", "VERBOSITY=sqlstate", *options]
        environment = {**clean_environment(), "PGCLIENTENCODING": "UTF8"}
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, env=environment, timeout=30, check=False
        )
        return done.stdout + done.stderr

    return run


def test_a_query_shows_own_rows_only(psql):
    assert psql("select id, body from notes order by id;", "-At") == "2|first\n3|second\n"


def test_a_hidden_table_and_an_absent_one_get_the_same_answer(psql):
    assert psql("select * from api_keys;\nselect * from no_such_table;") == "ERROR:  42P01\nERROR:  42P01\n"


def test_a_failed_block_stays_failed_until_rollback(psql):
    script = "begin;\nselect * from api_keys;\nselect 1;\nrollback;\nselect count(*) from notes;"
    assert psql(script, "-At") == "BEGIN\nROLLBACK\n2\nERROR:  42P01\nERROR:  25P02\n"


def test_on_error_rollback_recovers_a_block_after_a_refusal(psql):
    script = "begin;\nselect id from notes where id = 2;\nselect * from api_keys;\nselect id from notes where id = 3;\ncommit;"
    printed = psql(script, "-At", "-v", "ON_ERROR_ROLLBACK=on")
    assert printed == "BEGIN\n2\n3\nCOMMIT\nERROR:  42P01\n"


def test_several_statements_in_one_query_string_each_give_their_result(psql):
    assert psql("select 1 \\; select count(*) from notes \\; select 'x';", "-At") == "1\n2\nx\n"


def test_extended_protocol_meta_commands_work(psql):
    script = "select id, body from notes where id = $1 \\bind 2 \\g\nselect $1::int + 1 \\parse p\n\\bind_named p 41 \\g\n\\close_prepared p\n"
    assert psql(script, "-At").split() == ["2|first", "42"]


def test_describe_and_cursor_fetching_work(psql):
    assert psql("select id, body from notes \\gdesc", "-At") == "id|integer\nbody|text\n"
    assert psql("\\set FETCH_COUNT 1\nselect id from notes order by id;", "-At") == "2\n3\n"


def test_copy_of_a_query_goes_out(psql):
    assert (
        psql("\\copy (select id, body from notes order by id) to stdout csv header") == "id,body\n2,first\n3,second\n"
    )
    assert psql("copy (select body from notes order by id) to stdout;") == "first\nsecond\n"


def test_conninfo_and_listing_of_tables_work(psql):
    assert "agent" in psql("\\conninfo")
    listed = psql("\\dt", "-At")
    assert "notes" in listed
    assert "api_keys" not in listed


def test_dt_describe_shows_granted_columns_only(psql):
    described = psql("\\d notes", "-At")
    assert "body" in described
    assert "secret" not in described


def test_an_unknown_token_is_refused_as_a_wrong_password(psql, proxy):
    printed = psql("select 1", dsn=proxy.dsn("fct_aaaaaaaaaaaa_" + "b" * 43))
    assert 'FATAL:  password authentication failed for user "agent"' in printed


def test_psql_runs_in_a_pipeline(psql):
    script = "\\startpipeline\nselect id from notes where id = $1 \\bind 2 \\sendpipeline\nselect count(*) from notes \\bind \\sendpipeline\n\\endpipeline\n"
    assert psql(script, "-At") == "2\n2\n"


DESCRIBING = r"""
    \d | \d+ | \dS | \d notes | \d+ notes | \d+ orders | \d orders_pkey | \d orders_id_seq | \da | \dA | \dAc | \dAf | \dAo
    | \dAp | \db | \dc | \dC | \dconfig | \dd | \dD | \ddp | \dE | \des | \det | \deu | \dew | \df | \df+ | \dF | \dFd |
    \dFp | \dFt | \dg | \du | \di | \dl | \dL | \dm | \dn | \dn+ | \do | \dO | \dp | \z | \dP | \drds | \drg | \dRp | \dRs |
    \ds | \dt | \dT | \dT+ | \dv | \dx | \dX | \dy | \l | \conninfo | \encoding | \dt *.* | \d * | \dti
"""
MORE = r"\dt+ | \di+ | \dv+ | \ds+ | \dx+ | \dT+ | \dD+ | \dd | \do+ | \dC+"

HIDDEN = ("api_keys", "order_items", "secret", "purchase_cost", "HIDDEN", "sk_live", "email", "ana@", "Alder")


def commands(text):
    return [command.strip() for command in text.replace("\n", " ").split("|")]


@pytest.mark.parametrize("command", commands(DESCRIBING) + commands(MORE))
def test_describing_commands_show_the_world(psql, command):
    printed = psql(command, "-At")
    assert "ERROR" not in printed
    assert [name for name in HIDDEN if name in printed] == []


@pytest.mark.parametrize("command", [r"\l+", r"\db+", r"\dP+"])
def test_what_tells_of_the_machine_is_refused(psql, command):
    assert "ERROR:  42" in psql(command, "-At")
