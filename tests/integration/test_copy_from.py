"""COPY ... FROM STDIN: allowed where insert is, with presets and the check on every row."""

from __future__ import annotations

import psycopg
import pytest

from tests.kit import wire
from tests.kit.policies import ROLES
from tests.kit.proxy import Proxy
from tests.kit.wire import Wire, errors, query, status, tags

WIDE = (
    ROLES
    + """\
  loader:
    description: Fills one table as it likes
    database: shop
    tables: {tenants: {select: true, insert: true}}
"""
)


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    with Proxy(postgres, name, tmp_path_factory.mktemp("copy"), roles=WIDE) as running:
        yield running
    postgres.drop_database(name)


@pytest.fixture
def session(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as opened:
        yield opened


def notes(session):
    return int(session.rows("select count(*) from notes")[0][0])


def copy_in(session, sql, data):
    session.send(query(sql))
    answers = [session.receive()]
    if answers[-1].tag != "G":
        return answers + session.until("Z")
    session.send(wire.message("d", data.encode()), wire.message("c"))
    return answers + session.until("Z")


def test_rows_are_inserted_with_the_preset_and_counted(proxy, session):
    answers = copy_in(session, "copy notes (body, pinned) from stdin", "one\tt\ntwo\tf\n")
    assert tags(answers) == "GCZ"
    assert answers[1].body == b"COPY 2\0"
    stored = "select string_agg(tenant_id || body, ',' order by id) from notes where body in ('one', 'two')"
    assert proxy.postgres.value(proxy.database, stored) == "42one,42two"


def test_the_first_row_that_fails_the_check_undoes_all(proxy, session):
    rows = "5\tnew\t10\n5\tnew\t20000\n"
    answers = copy_in(session, "copy orders (customer_id, status, total) from stdin", rows)
    assert errors(answers) == [("42501", 'new row violates row-level security policy for table "orders"')]
    assert tags(answers) == "GEZ"
    assert session.rows("select count(*) from orders") == [["10"]]


def test_a_preset_column_cannot_be_given(session):
    answers = copy_in(session, "copy notes (tenant_id, body) from stdin", "43\tsmuggled\n")
    assert errors(answers)[0][0] == "42501"


def test_hidden_columns_and_tables_do_not_exist(session):
    assert errors(copy_in(session, "copy notes (secret) from stdin", "x\n"))[0][0] == "42703"
    assert errors(copy_in(session, "copy api_keys from stdin", "x\n"))[0][0] == "42P01"
    assert errors(copy_in(session, "copy tenants from stdin", "x\n"))[0][0] == "42501"


def test_files_and_programs_are_refused(session):
    for sql in ("copy notes from '/etc/passwd'", "copy notes from program 'id'", "copy notes to '/tmp/x'"):
        assert errors(session.run(sql))[0][0] == "42501"


def test_bad_data_gives_the_servers_error_and_the_session_goes_on(session):
    before = notes(session)
    answers = copy_in(session, "copy notes (body, pinned) from stdin", "x\tmaybe\n")
    assert errors(answers)[0][0] == "22P02"
    assert status(answers) == "I"
    assert notes(session) == before


def test_copy_works_twice_in_a_block_and_with_savepoints(session):
    before = notes(session)
    session.run("begin")
    assert tags(copy_in(session, "copy notes (body) from stdin", "a\n")) == "GCZ"
    assert tags(copy_in(session, "copy notes (body) from stdin", "b\n")) == "GCZ"
    session.run("savepoint s")
    assert status(copy_in(session, "copy notes (pinned) from stdin", "no\nperhaps\n")) == "E"
    session.run("rollback to s")
    assert notes(session) == before + 2
    session.run("rollback")
    assert notes(session) == before


def test_a_client_that_gives_up_gets_its_own_words_back(session):
    session.send(query("copy notes (body) from stdin"))
    assert session.receive().tag == "G"
    session.send(wire.message("f", wire.cstring("changed my mind")))
    answers = session.until("Z")
    assert errors(answers) == [("57014", "COPY from stdin failed: changed my mind")]


def test_where_filters_rows(session):
    answers = copy_in(session, "copy notes (body) from stdin where body like 'k%'", "keep\ndrop\n")
    assert answers[1].body == b"COPY 1\0"


def test_a_table_without_restrictions_is_filled_directly(proxy):
    with Wire.logged_in(proxy.port, proxy.token("loader")) as session:
        answers = copy_in(session, "copy tenants from stdin with (format csv, header)", "id,name,plan\n50,New,basic\n")
        assert answers[1].body == b"COPY 1\0"
        assert session.rows("select name from tenants where id = 50") == [["New"]]


def test_psycopg_copies_in_text_and_binary(proxy):
    with psycopg.connect(proxy.dsn()) as connection:
        with connection.cursor().copy("copy notes (body, score) from stdin") as copy:
            copy.write_row(("text", 1.5))
        with connection.cursor().copy("copy notes (body, score) from stdin (format binary)") as copy:
            copy.set_types(["text", "float8"])
            copy.write_row(("binary", 2.5))
        found = connection.execute("select body, score from notes where score is not null order by score").fetchall()
        assert found == [("text", 1.5), ("binary", 2.5)]


def test_the_record_counts_the_rows(proxy, session):
    copy_in(session, "copy notes (body) from stdin", "four\nfive\nsix\n")
    record = proxy.audit(event="statement", verb="COPY")[-1]
    assert (record["tables"], record["row_count"], record["decision"]) == (["public.notes"], 3, "allow")
