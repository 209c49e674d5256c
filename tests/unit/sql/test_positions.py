from __future__ import annotations

import pytest

from pgfaucet.sql.positions import client_position
from pgfaucet.sql.printer import print_verified
from tests.unit.sql.test_utility import tree


def mark(marked):
    """Return a text without its mark, and the position of the mark."""
    return marked.replace("»", ""), marked.index("»") + 1


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        ("select  »a from t", "SELECT »a FROM t"),
        ("select 'é',  »a from t", "SELECT 'é', »a FROM t"),
        ("select bool  »'x'", "SELECT »'x'::bool"),
        ("select »bool 'x'", "SELECT 'x'»::bool"),
        ("select »cast(a as int) from t", "SELECT a»::int FROM t"),
        ("select 1 from t where a  »+ 1 = 2", "SELECT 1 FROM public.t WHERE a »+ 1 = 2"),
        ("select  »f(1) from  t", "SELECT »public.f(1) FROM public.t"),
        ("create table t (a int default  »b)", "CREATE TABLE t (a int DEFAULT »b)"),
        ("prepare  p (int) as select  »a from t", "SELECT »a FROM t"),
        ("select 1; select  »a", "SELECT 1; SELECT »a"),
        ("insert into  t (»a) values (1)", "INSERT INTO t (»a) VALUES (1)"),
        (
            "create  function f() returns int as $x$ begin »bad end $x$ language plpgsql",
            "CREATE FUNCTION f() RETURNS int AS $$ begin »bad end $$ LANGUAGE plpgsql",
        ),
        ("do  ' begin »bad end '", "DO ' begin »bad end '"),
    ],
)
def test_a_place_in_what_was_sent_is_one_in_the_client_s_text(source, sent):
    (client, expected), (server, position) = mark(source), mark(sent)
    assert client_position(client, server, position) == expected


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        ("select a from t", "SELECT a FROM (SELECT »x FROM public.t) t"),
        ("select a from t where a = 1", "SELECT a FROM t WHERE »tenant = 1 AND a = 1"),
        ("select a", "SELECT a; SELECT »a"),
        ("select 'it''s »a'", "SELECT E'it''s »a'"),
        ("do ' begin a end ' -- begin a end ", "DO ' begin »a end '"),
        ("select a", "SELECT a»"),
        ("select from from", "SELECT »a"),
        ("select a from t", "»"),
        ("select a from t where b in (" + "1, " * 5000 + "1)", "SELECT »a FROM t"),
    ],
)
def test_what_was_rewritten_has_no_place(source, sent):
    server, position = mark(sent)
    assert client_position(source, server, position) is None


@pytest.mark.parametrize("position", [0, -1, 10**6])
def test_a_position_outside_of_the_text_is_none(position):
    assert client_position("select  a", "SELECT a", position) is None


def test_every_place_in_a_printed_statement_is_one_of_the_same_word():
    source = "select t.a + u.b,  upper(c) from t  join u on  t.x = u.x where  d > 3 order by e"
    sent = print_verified(tree(source))
    for word in ("upper", "d >", "e", "t.a", "u.b"):
        place = client_position(source, sent, sent.rindex(word) + 1)
        assert place is not None
        assert source[place - 1 :].startswith(word)
