"""Several processes on one listener behave as one proxy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.kit.policies import SERVER
from tests.kit.proxy import Proxy, wait_until
from tests.kit.wire import Wire, errors, query

ENDLESS = "select count(*) from generate_series(1, 20000000000)"
WORKERS = SERVER.replace("workers: 1", "workers: 2")


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    with Proxy(postgres, name, tmp_path_factory.mktemp("workers"), server=WORKERS) as running:
        yield running
        assert running.stop() == 0, running.read_log()
    assert "Traceback" not in running.read_log(), running.read_log()
    postgres.drop_database(name)


def sessions_on_both(proxy, token):
    """Log in until both workers have a session; the process id that a client is told says whose it is."""
    opened = [Wire.logged_in(proxy.port, token)]
    while len({session.key[0] % 2 for session in opened}) < 2:
        assert len(opened) < 100, "every client reached the same worker"
        opened.append(Wire.logged_in(proxy.port, token))
    return opened


def close(sessions):
    for session in sessions:
        session.socket.close()


def worker_pids(proxy):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(proxy.pid)], capture_output=True, text=True, check=True)
    return sorted(int(pid) for pid in listed.stdout.split())


def test_clients_of_every_worker_are_served(proxy):
    sessions = sessions_on_both(proxy, proxy.token())
    assert [session.rows("select count(*) from notes") for session in sessions] == [[["2"]]] * len(sessions)
    close(sessions)


def test_a_cancel_finds_its_session_whichever_worker_it_reaches(proxy):
    sessions = sessions_on_both(proxy, proxy.token())
    for session in (sessions[0], sessions[-1]):
        for _ in range(6):
            session.send(query(ENDLESS))
            time.sleep(0.1)
            session.cancel(proxy.port)
            assert errors(session.until("Z"))[0][0] == "57014"
    close(sessions)


def test_a_revoked_token_ends_sessions_on_every_worker(proxy):
    token = proxy.mint(tenant=42)
    sessions = sessions_on_both(proxy, token.text)
    proxy.revoke(token.id)
    began = time.monotonic()
    for session in sessions:
        assert session.receive().fields["C"] == "57P01"
    assert time.monotonic() - began <= 1.0
    close(sessions)


def test_the_parent_speaks_for_all(proxy):
    sessions = sessions_on_both(proxy, proxy.token("reader"))
    for session in sessions:
        session.run("select count(*) from notes")
    statements = 'pgfaucet_statements_total{decision="allow",role="reader",verb="SELECT"}'
    assert proxy.metric(statements) == len(sessions)
    status, text = proxy.http("/metrics")
    assert status == 200
    assert text.count("pgfaucet_policy_info{") == 1
    assert 'pgfaucet_policy_info{version="' in text
    assert text.count("# TYPE pgfaucet_statements_total counter") == 1
    close(sessions)


def test_each_worker_has_an_audit_log_that_holds(proxy):
    sessions = sessions_on_both(proxy, proxy.token())
    for session in sessions:
        session.run("select 1")
    close(sessions)
    files = [proxy.audit_file, proxy.audit_file.with_name("audit.1.jsonl")]
    for file in files:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert any(record["event"] == "statement" for record in records)
    assert proxy.run_command("audit", "verify", *map(str, files)).returncode == 0


def test_the_pool_is_shared_out(proxy):
    sessions = sessions_on_both(proxy, proxy.token())
    while len(sessions) < 12:
        sessions.append(Wire.logged_in(proxy.port, proxy.token()))
    for session in sessions:
        session.send(query("select count(*) from generate_series(1, 3000000)"))
    sql = f"select count(*) from pg_stat_activity where datname = '{proxy.database}' and application_name <> '' and backend_type = 'client backend'"
    assert int(proxy.postgres.value("postgres", sql)) <= 8 + 2  # the pools, the catalog readers
    for session in sessions:
        assert errors(session.until("Z")) == []
    close(sessions)


def test_a_worker_that_falls_is_started_again_and_others_go_on(proxy):
    sessions = sessions_on_both(proxy, proxy.token())
    before = worker_pids(proxy)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    alive = 0
    for session in sessions:
        try:
            session.rows("select 1")
            alive += 1
        except (EOFError, ConnectionError):
            continue
    assert 0 < alive < len(sessions)
    wait_until(lambda: len(worker_pids(proxy)) == 2 and proxy.http("/readyz")[0] == 200, 10, "two workers again")
    close(sessions)
    again = sessions_on_both(proxy, proxy.token())
    assert again[-1].rows("select count(*) from notes") == [["2"]]
    close(again)


def test_an_address_that_is_taken_is_refused(proxy):
    environment = {**proxy.environment, "PGFAUCET_STATE": str(proxy.state / "other"), "PGFAUCET_ADMIN": "127.0.0.1:0"}
    command = [
        sys.executable,
        "-m",
        "pgfaucet",
        "run",
        "-c",
        str(proxy.policies),
        "--listen",
        f"127.0.0.1:{proxy.port}",
    ]
    environment["PGFAUCET_ADMIN"] = f"127.0.0.1:{proxy.port + 1 if proxy.port < 65000 else proxy.port - 1}"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "cannot listen" in done.stderr
