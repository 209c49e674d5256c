"""Tokens at login and on live sessions."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.kit.proxy import wait_until
from tests.kit.wire import PROTOCOL_3_2, Wire, errors, query

ENDLESS = "select count(*) from generate_series(1, 20000000000)"


@pytest.fixture(scope="module")
def bad_tokens(proxy):
    expired, revoked = proxy.mint(ttl="1s", tenant=42), proxy.mint(tenant=42)
    proxy.revoke(revoked.id)
    good = proxy.token()
    time.sleep(1.2)
    return {
        "unknown": good[:4] + ("b" if good[4] != "b" else "c") + good[5:],
        "wrong secret": good[:-1] + ("A" if good[-1] != "A" else "B"),
        "expired": expired.text,
        "revoked": revoked.text,
        "malformed": "fct_x",
        "no token at all": "postgres",
        "not text": "fct_\udcff".encode(errors="surrogateescape").decode("latin-1"),
        "long": "fct_" + "x" * 5000,
    }


def test_an_empty_password_is_refused_as_the_server_refuses_it(proxy):
    with Wire(proxy.port) as connection:
        fields = connection.log_in("").fields
        assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "28P01", "empty password returned by client")
        assert connection.is_closed()


def test_every_bad_token_gets_the_same_fatal_error(proxy, bad_tokens):
    seen = {}
    for kind, token in bad_tokens.items():
        with Wire(proxy.port) as connection:
            seen[kind] = connection.log_in(token).fields
            assert connection.is_closed()
    assert set(map(json.dumps, seen.values())) == {json.dumps(seen["unknown"])}, seen
    fields = seen["unknown"]
    assert (fields["S"], fields["C"], fields["M"]) == (
        "FATAL",
        "28P01",
        'password authentication failed for user "agent"',
    )
    assert not {"D", "H"} & set(fields)


def test_the_audit_says_which_it_was(proxy, bad_tokens):
    with Wire(proxy.port) as connection:
        connection.log_in(bad_tokens["expired"])

    def is_told() -> bool:  # a refused login doesn't wait for its record
        records = proxy.audit(decision="deny", event="session_refused")
        return any("expired" in (record["reason"] or "") for record in records)

    wait_until(is_told, 5, "a record that says that the token has expired")
    assert bad_tokens["expired"] not in proxy.audit_file.read_text()
    assert bad_tokens["expired"] not in proxy.read_log()


def test_a_token_opens_its_own_database_only(proxy):
    for database in ("postgres", "template1", "nowhere"):
        with Wire(proxy.port) as connection:
            assert connection.log_in(proxy.token(), database=database).fields["C"] == "28P01"


@pytest.mark.parametrize("version", [196608, PROTOCOL_3_2])
def test_a_good_token_logs_in_under_any_user_name(proxy, version):
    with Wire.logged_in(proxy.port, proxy.token(), user="whoever", version=version) as session:
        assert session.rows("select distinct tenant_id from notes") == [["42"]]
        assert len(session.key[1]) == (4 if version == 196608 else 32)


def test_the_store_holds_no_secret(proxy):
    secret = proxy.token().rpartition("_")[2]
    for path in proxy.state.iterdir():
        assert secret.encode() not in path.read_bytes(), path


def end_of(session):
    """Return what a busy session receives at its end, and when."""
    answers = []
    try:
        while True:
            answers.append(session.receive())
    except EOFError:
        return answers, time.monotonic()


def test_revoking_a_token_ends_its_busy_session_within_a_second(proxy):
    token = proxy.mint(tenant=42)
    with Wire.logged_in(proxy.port, token.text) as session, Wire.logged_in(proxy.port, token.text) as idle:
        session.send(query(ENDLESS))
        wait_until(lambda: busy(proxy) == 1, 5, "the statement runs upstream")
        proxy.revoke(token.id)
        began = time.monotonic()
        answers, ended = end_of(session)
        assert ended - began <= 1.0
        last = answers[-1].fields
        assert (last["S"], last["C"]) == ("FATAL", "57P01")
        idle_answers, idle_ended = end_of(idle)
        assert idle_answers[-1].fields["C"] == "57P01"
        assert idle_ended - began <= 1.5
    wait_until(lambda: busy(proxy) == 0, 2, "the statement was cancelled upstream")
    with Wire(proxy.port) as connection:
        assert connection.log_in(token.text).fields["C"] == "28P01"


def test_expiry_ends_a_busy_session_within_a_second(proxy):
    token = proxy.mint(ttl="3s", tenant=42)
    minted = time.monotonic()
    with Wire.logged_in(proxy.port, token.text) as session:
        session.send(query(ENDLESS))
        answers, ended = end_of(session)
        assert answers[-1].fields["C"] == "57P01"
        assert ended - minted <= 3.0 + 1.0
    wait_until(lambda: busy(proxy) == 0, 2, "the statement was cancelled upstream")


def test_revoking_by_label_leaves_other_tokens_alone(proxy):
    kept, gone = proxy.mint(label="keep:1", tenant=42), proxy.mint(label="drop:1", tenant=42)
    with Wire.logged_in(proxy.port, kept.text) as session, Wire.logged_in(proxy.port, gone.text) as other:
        proxy.revoke("--label", "drop:*")
        answers, _ = end_of(other)
        assert answers[-1].fields["C"] == "57P01"
        assert errors(session.run("select 1")) == []


def test_many_logins_at_once_are_all_answered(proxy):
    failures = []

    def log_in(token, expected):
        with Wire(proxy.port, timeout=20) as connection:
            if connection.log_in(token).tag != expected:
                failures.append(expected)

    good = proxy.token()
    threads = [
        threading.Thread(target=log_in, args=(good, "Z") if number % 2 else ("fct_a_b", "E")) for number in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


def busy(proxy):
    sql = f"select count(*) from pg_stat_activity where datname = '{proxy.database}' and state = 'active' and query like '%20000000000%' and pid <> pg_backend_pid()"
    return int(proxy.postgres.value("postgres", sql))
