"""What an operator relies on: drain, reload, audit that fails closed, health, metrics, a server that goes away."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from tests.integration.test_tokens import end_of
from tests.kit.policies import ROLES, SERVER
from tests.kit.postgres import Postgres
from tests.kit.proxy import Proxy, wait_until
from tests.kit.wire import Wire, errors, query, status


def test_sigterm_lets_an_open_transaction_finish_and_then_ends_the_session(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token()) as working, Wire.logged_in(proxy.port, proxy.token()) as idle:
        working.run("begin")
        working.run("update notes set body = 'kept' where id = 2")
        stopped = threading.Thread(target=proxy.stop)
        stopped.start()
        assert idle.receive().fields["C"] == "57P01"
        assert idle.is_closed()
        with pytest.raises(OSError):
            Wire(proxy.port).log_in(proxy.token())
        assert status(working.run("update notes set pinned = true where id = 2")) == "T"
        working.send(query("commit"))
        committed = working.until("Z")
        assert errors(committed) == []
        assert working.receive().fields["C"] == "57P01"
        stopped.join(10)
        assert not stopped.is_alive()
    assert proxy.postgres.value(proxy.database, "select body, pinned from notes where id = 2") == "kept|t"


def test_sigterm_without_clients_stops_at_once_with_exit_code_0(start_proxy):
    proxy = start_proxy()
    began = time.monotonic()
    assert proxy.stop() == 0
    assert time.monotonic() - began < 3
    proxy.verify_audit()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigusr1_shuts_everybody_out_until_sigusr2(start_proxy, workers):
    proxy = start_proxy(server=SERVER.replace("workers: 1", f"workers: {workers}"))
    token = proxy.token()
    sessions = [Wire.logged_in(proxy.port, token) for _ in range(6)]
    sessions[0].send(query("select count(*) from generate_series(1, 20000000000)"))
    began = time.monotonic()
    proxy.signal(signal.SIGUSR1)
    for session in sessions:
        answers, ended = end_of(session)
        assert answers[-1].fields["C"] == "57P01"
        assert ended - began <= 1.0
    for _ in range(6):
        with Wire(proxy.port) as connection:
            refused = connection.log_in(token).fields
            assert (refused["C"], refused["M"]) == ("57P03", "connections are not accepted at the moment")
    assert proxy.http("/readyz")[0] == 503
    proxy.signal(signal.SIGUSR2)
    wait_until(lambda: proxy.http("/readyz")[0] == 200, 5, "it is open again")
    with Wire.logged_in(proxy.port, token) as session:
        assert errors(session.run("select 1")) == []
    assert [record["event"] for record in proxy.audit() if record["event"] in ("shut", "opened")] == ["shut", "opened"]
    for session in sessions:
        session.socket.close()


def test_sighup_puts_a_changed_policy_in_force_for_live_sessions(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token("reader")) as session:
        assert errors(session.run("select count(*) from orders"))[0][0] == "42P01"
        proxy.roles_file.write_text(
            ROLES.replace("    tables:\n      notes: {select: [id, tenant_id, body, pinned, tags]", OPENED)
        )
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: not errors(session.run("select count(*) from orders")), 3, "the grant is in force")
        assert session.rows("select count(*) from orders") == [["10"]]
        proxy.roles_file.write_text(ROLES)
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: bool(errors(session.run("select count(*) from orders"))), 3, "the grant is gone")


OPENED = """\
    tables:
      orders: {select: true, row_filter: "tenant_id = claim('tenant')::int"}
      notes: {select: [id, tenant_id, body, pinned, tags]"""


def test_a_changed_file_is_loaded_without_a_signal(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token("reader")) as session:
        assert session.rows("select count(*) from notes") == [["2"]]
        proxy.roles_file.write_text(
            ROLES.replace("notes: {select: [id, tenant_id, body, pinned, tags], ", "notes: {select: false, ")
        )
        wait_until(lambda: bool(errors(session.run("select count(*) from notes"))), 5, "the grant is gone")


def test_a_prepared_statement_is_decided_again_after_a_policy_change(start_proxy):
    from tests.kit import wire

    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token("reader")) as session:
        session.send(wire.parse("select body from notes", "kept"), wire.bind(name="kept"), wire.execute(), wire.SYNC)
        assert errors(session.until("Z")) == []
        proxy.roles_file.write_text(
            ROLES.replace("notes: {select: [id, tenant_id, body, pinned, tags]", "notes: {select: [id, tenant_id]")
        )
        proxy.signal(signal.SIGHUP)

        def refused():
            session.send(wire.bind(name="kept"), wire.execute(), wire.SYNC)
            return bool(errors(session.until("Z")))

        wait_until(refused, 3, "the statement is refused")


def test_a_bad_file_keeps_the_policy_and_says_where_it_is_wrong(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token("reader")) as session:
        proxy.roles_file.write_text(ROLES.replace("database: shop", "databse: shop", 1))
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: "databse" in proxy.read_log(), 3, "the log names the key")
        assert re.search(r"roles\.yaml:\d+:\d+", proxy.read_log())
        assert session.rows("select count(*) from notes") == [["2"]]
        assert proxy.http("/healthz")[0] == 200


@pytest.mark.parametrize("durability", ["batch", "strict"])
def test_an_audit_log_that_cannot_be_written_refuses_statements_with_58030(start_proxy, durability):
    proxy = start_proxy(server=SERVER.replace("durability: batch", f"durability: {durability}"))
    aside = proxy.audit_file.with_suffix(".aside")
    with Wire.logged_in(proxy.port, proxy.token()) as session, Wire.logged_in(proxy.port, proxy.token()) as other:
        assert session.rows("select count(*) from notes") == [["2"]]
        proxy.audit_file.rename(aside)
        session.send(query("select 1"))
        assert session.receive_until_closed()[-1].fields["C"] == "58030"
        assert errors(other.run("update notes set body = 'unrecorded' where id = 2"))[0][0] == "58030"
        assert proxy.http("/readyz") == (503, "the audit log cannot be written\n")
        with Wire(proxy.port) as refused:
            assert refused.log_in(proxy.token()).fields["C"] == "58030"
        assert proxy.postgres.value(proxy.database, "select body from notes where id = 2") == "first"
        aside.rename(proxy.audit_file)
        wait_until(lambda: proxy.http("/readyz")[0] == 200, 3, "the log can be written again")
        assert other.rows("select count(*) from notes") == [["2"]]
    proxy.verify_audit()


def test_strict_durability_records_the_intent_before_and_the_outcome_after(start_proxy):
    proxy = start_proxy(server=SERVER.replace("durability: batch", "durability: strict"))
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        assert session.rows("select count(*) from notes") == [["2"]]
        assert errors(session.run("select * from api_keys"))[0][0] == "42P01"
    intents = proxy.audit(event="intent")
    assert [(record["verb"], record["row_count"]) for record in intents] == [("SELECT", None)]
    done = proxy.audit(event="statement")
    assert [record["decision"] for record in done] == ["allow", "deny"]
    assert intents[0]["seq"] < done[0]["seq"]


def test_a_statement_whose_end_nobody_saw_is_on_record(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        session.send(query("select count(*) from generate_series(1, 20000000000)"))
        time.sleep(0.5)
    wait_until(lambda: bool(proxy.audit(event="session_closed")), 3, "the session is closed")
    assert [record["sqlstate"] for record in proxy.audit(event="statement")] == ["08006"]


def test_pgfaucet_context_and_comments_reach_the_record(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        assert errors(session.run("set pgfaucet.context to 'prompt_id=''p-7'',agent=''a%20b'''")) == []
        session.run("select 1 /*traceparent='00-1-2-01'*/")
        session.run("reset pgfaucet.context")
        session.run("select 2")
    contexts = [record["context"] for record in proxy.audit(event="statement", verb="SELECT")]
    assert contexts == [{"agent": "a b", "prompt_id": "p-7", "traceparent": "00-1-2-01"}, {}]


def test_health_and_metrics_are_served(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        session.run("select count(*) from notes")
        session.run("select * from api_keys")
        with Wire(proxy.port) as other:
            other.log_in("fct_bad_token")
        assert proxy.http("/healthz") == (200, "ok\n")
        assert proxy.http("/readyz") == (200, "ok\n")
        assert proxy.metric('pgfaucet_client_connections{database="shop"}') == 1
        assert proxy.metric('pgfaucet_statements_total{decision="allow",role="desk",verb="SELECT"}') == 1
        assert proxy.metric('pgfaucet_statements_total{decision="deny",role="desk",verb="SELECT"}') == 1
    text = proxy.http("/metrics")[1]
    named = (
        "pgfaucet_statement_seconds_bucket pgfaucet_overhead_seconds_bucket pgfaucet_upstream_connections pgfaucet_pool_wait_seconds"
        " pgfaucet_auth_total pgfaucet_audit_records_total pgfaucet_audit_lag_records pgfaucet_plan_cache_total pgfaucet_policy_info"
    )
    assert [name for name in named.split() if name not in text] == []


def test_secrets_and_literals_stay_out_of_log_audit_and_metrics(start_proxy):
    proxy = start_proxy()
    token = proxy.token()
    with Wire.logged_in(proxy.port, token) as session:
        session.run("select id from notes where body = 'literal-4711'")
        session.run("select no_such_column from notes where body = 'literal-4711'")
        session.run("select 'literal-4711' frm frm")
    written = proxy.read_log() + proxy.audit_file.read_text() + proxy.http("/metrics")[1]
    assert "literal-4711" not in written
    assert token not in written
    assert "service-password" not in written


def test_a_server_that_goes_away_ends_its_statement_and_comes_back(tmp_path):
    with Postgres() as server:
        server.load_shop()
        with Proxy(server, server.new_database(), tmp_path) as proxy:
            token = proxy.token()
            with Wire.logged_in(proxy.port, token) as session:
                session.run("begin")
                assert session.rows("select count(*) from notes") == [["2"]]
                server.restart(immediately=True)
                try:
                    codes = [code for code, _ in errors(session.run("select 1"))]
                except EOFError:
                    codes = []
                assert set(codes) <= {"08006", "57P01", "57P02", "57P03"}

            def serves():
                with Wire(proxy.port) as fresh:
                    return fresh.log_in(token).tag == "Z" and not errors(fresh.run("select count(*) from notes"))

            wait_until(serves, 10, "new sessions are served again")


def test_an_upstream_that_is_not_there_is_an_error_not_a_hang(start_proxy):
    proxy = start_proxy()
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        proxy.postgres.run_sql("postgres", f"alter database {proxy.database} with allow_connections false")
        try:
            proxy.postgres.run_sql(
                "postgres",
                f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{proxy.database}'",
            )
            time.sleep(0.5)
            began = time.monotonic()
            try:
                codes = [code for code, _ in errors(session.run("select count(*) from notes"))]
            except EOFError:
                codes = []
            assert set(codes) <= {"08006", "57P03", "57P01", "55000"}
            assert time.monotonic() - began < 8
        finally:
            proxy.postgres.run_sql("postgres", f"alter database {proxy.database} with allow_connections true")


def test_a_port_that_is_taken_is_exit_code_3(start_proxy):
    proxy = start_proxy()
    done = proxy.run_command("run", "-c", str(proxy.policies))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("pgfaucet: ")


def test_a_role_that_is_observed_is_not_held_back_and_everything_is_on_record(start_proxy):
    proxy = start_proxy(roles=ROLES.replace("  reader:\n", "  reader:\n    mode: observe\n"))
    with Wire.logged_in(proxy.port, proxy.token("reader")) as session:
        assert session.rows("select count(*) from notes") == [["4"]]
        assert errors(session.run("select body, secret from notes")) == []
    records = proxy.audit(event="statement", role="reader")
    assert [record["decision"] for record in records] == ["allow", "allow"]
    assert records[0]["reason"] == "observe: would allow, rewritten"
    assert records[1]["reason"].startswith("observe: would refuse with 42703")
