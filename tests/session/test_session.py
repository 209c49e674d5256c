"""What goes to the client and what to the server, message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgfaucet.guard import POISON
from pgfaucet.sql.checks import CHECK_NONCE
from pgfaucet.wire import messages as m

if TYPE_CHECKING:
    from tests.session.conftest import Session

pytestmark = pytest.mark.interpreted  # the fakes stand in the place of compiled classes
READY = m.ready_for_query(ord("I"))
IN_BLOCK = m.ready_for_query(ord("T"))
IN_FAILED_BLOCK = m.ready_for_query(ord("E"))
ROWS = m.frame(b"T", b"\0\0")
ROW = m.frame(b"D", b"\0\0")


def tag(text: str) -> bytes:
    return m.command_complete(text)


def error(sqlstate: str, message: str, **more: str) -> bytes:
    return m.response_from_fields(b"E", {"S": "ERROR", "V": "ERROR", "C": sqlstate, "M": message, **more})


REFUSED = error("42P01", 'relation "secret" does not exist')


def test_a_simple_query_is_forwarded_and_its_answer_comes_back_whole(session: Session) -> None:
    assert session.client(m.query("select 1")) == m.query("select 1")
    answer = ROWS + ROW + tag("SELECT 1") + READY
    assert session.server(answer) == answer
    assert session.log.records == [("SELECT", None, 1)]
    assert not session.pool.is_lent


@pytest.mark.parametrize("cut", range(1, 40))
def test_an_answer_may_be_split_anywhere(session: Session, cut: int) -> None:
    session.client(m.query("select 1"))
    answer = ROWS + m.frame(b"D", b"\0\1\0\0\0\1x") + tag("SELECT 1") + READY
    assert session.server(answer[:cut]) + session.server(answer[cut:]) == answer
    assert session.log.records == [("SELECT", None, 1)]


def test_a_refused_query_takes_no_connection(session: Session) -> None:
    assert session.client(m.query("select secret")) == b""
    assert session.take() == REFUSED + READY
    assert session.log.records == [("SELECT", "42P01", None)]


def test_a_refusal_in_a_block_fails_the_block_on_the_server(session: Session) -> None:
    session.client(m.query("begin"))
    session.server(tag("BEGIN") + IN_BLOCK)
    assert session.client(m.query("select secret")) == m.query(POISON)
    assert session.server(
        error("42P01", 'relation "pg_catalog.pgfaucet_refused" does not exist') + IN_FAILED_BLOCK
    ) == (REFUSED + IN_FAILED_BLOCK)
    assert session.pool.is_lent


def test_a_refusal_in_a_failed_block_is_what_the_server_says_of_the_block(session: Session) -> None:
    session.client(m.query("begin"))
    session.server(tag("BEGIN") + IN_BLOCK)
    session.client(m.query("select secret"))
    session.server(error("42P01", "x") + IN_FAILED_BLOCK)
    session.client(m.query("select secret"))
    aborted = error("25P02", "current transaction is aborted")
    assert session.server(aborted + IN_FAILED_BLOCK) == aborted + IN_FAILED_BLOCK
    assert session.log.records[-1] == ("SELECT", "25P02", None)


def test_what_comes_before_a_refused_statement_in_the_string_runs(session: Session) -> None:
    assert session.client(m.query("begin; select secret")) == m.query(f"begin; {POISON}")
    answer = session.server(tag("BEGIN") + error("42P01", "x") + IN_FAILED_BLOCK)
    assert answer == tag("BEGIN") + REFUSED + IN_FAILED_BLOCK


def extended(text: str, name: str = "") -> tuple[bytes, ...]:
    return (m.parse(name, text), m.bind("", name, ()), m.frame(b"D", b"P\0"), m.execute(""), m.SYNC)


def test_a_statement_is_prepared_once_for_every_client_name(session: Session) -> None:
    first = session.client(*extended("select 1"))
    assert first.startswith(m.parse("pgf_select 1", "select 1"))
    answer = m.PARSE_COMPLETE + m.BIND_COMPLETE + ROWS + ROW + tag("SELECT 1") + READY
    assert session.server(answer) == answer
    second = session.client(*extended("select 1", "other"))
    assert second.startswith(m.bind("", "pgf_select 1", ()))
    assert session.server(answer[len(m.PARSE_COMPLETE) :]) == answer


def test_a_refused_parse_with_nothing_leased_is_answered_here_and_skips_to_sync(session: Session) -> None:
    assert session.client(*extended("select secret")) == b""
    assert session.take() == REFUSED + READY


def test_a_refused_parse_in_a_batch_makes_the_server_skip(session: Session) -> None:
    session.client(*extended("select 1")[:-1])
    sent = session.client(*extended("select secret"))
    assert sent == m.parse("", POISON) + m.SYNC
    first = m.PARSE_COMPLETE + m.BIND_COMPLETE + ROWS + ROW + tag("SELECT 1")
    assert session.server(first + error("42P01", "x") + READY) == first + REFUSED + READY


def test_each_sync_has_its_own_ready_in_a_pipeline(session: Session) -> None:
    session.client(*extended("select 1"), *extended("select secret"), *extended("select 1"))
    one = m.BIND_COMPLETE + ROWS + ROW + tag("SELECT 1") + READY
    answer = session.server(m.PARSE_COMPLETE + one + error("42P01", "x") + READY + one)
    assert answer == m.PARSE_COMPLETE + one + REFUSED + READY + m.PARSE_COMPLETE + one


def test_a_statement_whose_parse_failed_does_not_exist(session: Session) -> None:
    session.client(m.parse("a", "select bad"), m.SYNC)
    session.server(error("42703", "column does not exist") + READY)
    assert session.client(m.bind("", "a", ()), m.SYNC) == b""
    assert b'prepared statement "a" does not exist' in session.take()


def test_a_named_statement_can_not_be_made_twice(session: Session) -> None:
    session.client(m.parse("a", "select 1"), m.SYNC)
    session.server(m.PARSE_COMPLETE + READY)
    session.client(m.parse("a", "select 2"), m.SYNC)
    assert session.take() == error("42P05", 'prepared statement "a" already exists') + READY


def test_rows_of_the_post_check_never_reach_the_client(session: Session) -> None:
    session.client(m.query("insert checked"))
    assert session.server(ROWS + ROW + tag("INSERT 0 1") + READY) == tag("INSERT 0 1") + READY


@pytest.mark.parametrize("cut", range(1, 30))
def test_rows_of_the_post_check_are_swallowed_in_pieces_too(session: Session, cut: int) -> None:
    session.client(m.query("insert checked"))
    answer = ROWS + m.frame(b"D", b"\0\1\0\0\0\1t") + tag("INSERT 0 1") + READY
    assert session.server(answer[:cut]) + session.server(answer[cut:]) == tag("INSERT 0 1") + READY


def test_describe_of_a_statement_with_a_post_check_has_no_rows(session: Session) -> None:
    session.client(m.parse("", "insert checked"), m.frame(b"D", b"S\0"), m.SYNC)
    types = m.frame(b"t", b"\0\0")
    assert session.server(m.PARSE_COMPLETE + types + ROWS + READY) == m.PARSE_COMPLETE + types + m.NO_DATA + READY


def test_a_failed_check_is_told_as_row_level_security_tells_it(session: Session) -> None:
    session.client(m.query("insert checked"))
    answer = session.server(
        error("22P02", f'invalid input syntax for type boolean: "{CHECK_NONCE}"', D="row 1") + READY
    )
    assert answer == error("42501", 'new row violates row-level security policy for table "t"') + READY


def test_detail_and_position_of_server_errors_stay_here(session: Session) -> None:
    session.client(m.query("select 1"))
    answer = session.server(
        error("23505", "duplicate key", D="Key (id)=(7) already exists.", P="12", W="SQL statement") + READY
    )
    assert answer == error("23505", "duplicate key") + READY


def test_a_row_limit_cuts_the_result_and_fails_the_statement(session: Session) -> None:
    session.row_limit = 1
    session.client(m.query("select 1"))
    answer = session.server(ROWS + ROW + ROW + ROW + tag("SELECT 3") + READY)
    assert answer.startswith(ROWS + ROW + m.frame(b"E", b"SERROR")[:1])
    assert answer.count(ROW) == 1
    assert b"C53400" in answer
    assert answer.endswith(READY)
    assert session.log.records == [("SELECT", "53400", 3)]
    assert session.cancelled == 1


def test_a_row_limit_in_a_block_fails_the_block(session: Session) -> None:
    session.client(m.query("begin"))
    session.server(tag("BEGIN") + IN_BLOCK)
    session.row_limit = 1
    session.client(m.query("select 1"))
    first = session.server(ROWS + ROW + ROW + tag("SELECT 2") + IN_BLOCK)
    assert b"C53400" in first
    assert READY[:1] not in first[-6:]
    assert session.upstream.take() == m.query(POISON)
    assert session.server(error("42P01", "x") + IN_FAILED_BLOCK) == IN_FAILED_BLOCK


def test_nothing_is_sent_before_its_record_is_on_disk(session: Session) -> None:
    session.log.durable = 0
    session.client(m.query("select 1"))
    assert session.server(ROWS + ROW + tag("SELECT 1") + READY) == b""
    session.log.sync()
    assert session.take() == ROWS + ROW + tag("SELECT 1") + READY


def test_a_rewritten_show_keeps_its_tag(session: Session) -> None:
    assert session.client(m.query("show search_path")) == m.query("select path")
    assert session.server(ROWS + ROW + tag("SELECT 1") + READY) == ROWS + ROW + tag("SHOW") + READY


def test_settings_are_read_back_before_the_client_goes_on(session: Session) -> None:
    session.client(m.query("set timezone to utc"))
    assert session.server(tag("SET") + READY) == tag("SET")
    asked = session.upstream.take()
    assert asked.startswith(m.parse("", "SELECT pg_catalog.current_setting($1, true)"))
    row = m.frame(b"D", b"\0\1\0\0\0\3UTC")
    done = session.server(m.PARSE_COMPLETE + m.BIND_COMPLETE + row + tag("SELECT 1") + READY)
    assert done == READY
    assert session.settings == {"timezone": "UTC"}
    assert not session.pool.is_lent


def test_a_waiting_client_goes_on_when_a_connection_is_free(session: Session) -> None:
    session.pool.is_full = True
    assert session.client(m.query("select 1")) == b""
    session.pool.is_full = False
    session.is_waiting_for_lease = False
    session.pump()
    assert session.upstream.take() == m.query("select 1")


def test_an_empty_string_is_answered_as_the_server_would(session: Session) -> None:
    session.client(m.query(" "))
    assert session.take() == m.EMPTY_QUERY_RESPONSE + READY


def test_a_reply_that_nothing_asked_for_ends_the_connection(session: Session) -> None:
    session.client(m.query("select 1"))
    session.server(m.frame(b"W", b""))
    assert session.lost == ["unexpected message type 87 from the server"]


def test_an_unknown_message_type_is_refused(session: Session) -> None:
    with pytest.raises(Exception, match="invalid frontend message type 122"):
        session.client(m.frame(b"z", b""))


def test_the_fast_path_function_call_is_refused(session: Session) -> None:
    session.client(m.frame(b"F", b"\0" * 10))
    assert b"C0A000" in session.take()


def test_close_of_anything_unknown_is_no_error(session: Session) -> None:
    session.client(m.frame(b"C", b"Snothing\0"), m.SYNC)
    assert session.take() == m.CLOSE_COMPLETE + READY


def test_the_end_of_a_request_waits_for_the_record_of_a_statement_whose_answer_is_dropped(session: Session) -> None:
    session.row_limit = 1
    session.client(m.query("select 1; delete"))
    assert b"C53400" in session.server(ROWS + ROW + ROW + tag("SELECT 2"))
    session.log.durable = 1
    assert session.server(tag("DELETE 5")) == b""
    assert session.log.records[-1][0] == "DELETE"
    assert session.server(READY) == b""
    session.log.sync()
    assert session.take() == READY


def test_the_log_knows_for_how_many_sessions_the_server_works(session: Session) -> None:
    session.client(m.query("select 1"))
    assert session.log.running == 1
    session.client(m.query("select 1"))
    answer = ROWS + ROW + tag("SELECT 1") + READY
    session.server(answer)
    assert session.log.running == 1
    session.server(answer)
    assert session.log.running == 0


@pytest.mark.parametrize(
    ("sql", "position"), [("show search_path -- wide", None), ("select 1 -- wide", "8"), ("select 1", None)]
)
def test_a_notice_says_where_only_if_that_is_in_the_client_s_text(
    session: Session, sql: str, position: str | None
) -> None:
    session.client(m.query(sql))
    given = {"S": "WARNING", "V": "WARNING", "C": "01000", "M": "x", "P": "8"}
    sent = session.server(m.response_from_fields(b"N", given))
    assert m.error_fields(sent[5:]).get("P") == position
