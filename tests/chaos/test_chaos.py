"""Everything that goes wrong at once: no client ever sees a row or an answer that is not its own, and nothing is left stuck.

PGFAUCET_CHAOS_SECONDS sets how long (15 s by default; `make chaos` takes ten minutes).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter

import pytest

from tests.kit import wire
from tests.kit.policies import ROLES, SERVER
from tests.kit.proxy import Proxy, wait_until
from tests.kit.wire import Wire, errors, query

SECONDS = float(os.environ.get("PGFAUCET_CHAOS_SECONDS", "15"))
CLIENTS = 12
GROWTH_KILOBYTES = 40_000
EXPECTED_ERRORS = {"57P01", "57014", "08006", "57P03", "57P02", "57P05", "25P02", "53300", "58030"}
"""What an honest client may hear when backends are killed, statements cancelled, or the server restarts."""

pytestmark = pytest.mark.timeout(int(SECONDS) + 120)


class Client(threading.Thread):
    """Works as one tenant, in one of many ways, and checks every answer."""

    def __init__(self, proxy, number, over):
        super().__init__(daemon=True)
        self.proxy = proxy
        self.number = number
        self.tenant = 41 + number % 3
        self.token = proxy.token(tenant=self.tenant)
        self.rng = random.Random(random.getrandbits(64))
        self.over = over
        self.done = Counter()
        self.wrong = []

    def run(self):
        while not self.over.is_set() and not self.wrong:
            try:
                with Wire.logged_in(self.proxy.port, self.token, user=f"client{self.number}") as session:
                    session.socket.settimeout(15)
                    self.work(session)
            except (EOFError, ConnectionError):
                self.done["lost"] += 1
            except TimeoutError:
                self.wrong.append(f"client {self.number}: no answer for 15 s")
            except AssertionError as problem:
                if not self.is_expected(str(problem)):
                    self.wrong.append(f"client {self.number}: {problem!r}")

    def is_expected(self, text):
        return any(code in text for code in EXPECTED_ERRORS)

    def work(self, session):
        ways = (
            self.own_rows,
            self.own_answer,
            self.block,
            self.prepared,
            self.pipeline,
            self.refused,
            self.large,
            self.leave,
            self.settings,
        )
        for _ in range(self.rng.randrange(1, 30)):
            if self.over.is_set():
                return
            way = self.rng.choice(ways)
            if way(session) is False:
                return
            self.done[way.__name__] += 1

    def check(self, holds, what):
        if not holds:
            self.wrong.append(f"client {self.number} (tenant {self.tenant}): {what}")

    def own_rows(self, session):
        rows = session.rows("select distinct tenant_id from orders")
        self.check(rows == [[str(self.tenant)]], f"rows of {rows}")

    def own_answer(self, session):
        number = self.rng.randrange(10**9)
        rows = session.rows(f"select {number}, current_user")
        self.check(rows[0][0] == str(number), f"asked for {number}, got {rows}")

    def block(self, session):
        mark = f"m{self.number}-{self.rng.randrange(10**9)}"
        session.run("begin")
        answers = session.run(f"insert into notes (body) values ('{mark}')")
        if not errors(answers):
            rows = session.rows(f"select body, tenant_id from notes where body = '{mark}'")
            self.check(rows == [[mark, str(self.tenant)]], f"wrote {mark}, read {rows}")
        session.run(self.rng.choice(["rollback", "rollback", "commit"]))

    def prepared(self, session):
        number = self.rng.randrange(10**6)
        name = f"s{self.rng.randrange(4)}"
        session.send(
            wire.close("S", name),
            wire.parse("select $1::int + 1, min(tenant_id) from customers", name),
            wire.bind((str(number),), name=name),
            wire.execute(),
            wire.SYNC,
        )
        answers = session.until("Z")
        rows = [answer.values for answer in answers if answer.tag == "D"]
        if not errors(answers):
            self.check(rows == [[str(number + 1), str(self.tenant)]], f"prepared {number}, got {rows}")

    def pipeline(self, session):
        numbers = [self.rng.randrange(10**6) for _ in range(5)]
        session.send(*(query(f"select {number}") for number in numbers))
        for number in numbers:
            answers = session.until("Z")
            rows = [answer.values for answer in answers if answer.tag == "D"]
            if not errors(answers):
                self.check(rows == [[str(number)]], f"pipelined {number}, got {rows}")

    def refused(self, session):
        found = errors(session.run("select * from api_keys"))
        self.check(bool(found), "a hidden table was read")

    def large(self, session):
        rows = session.rows("select repeat('x', 1000) from generate_series(1, 500)")
        self.check(len(rows) == 500, f"{len(rows)} of 500 rows")

    def settings(self, session):
        zone = self.rng.choice(["UTC", "Asia/Tokyo", "America/Lima"])
        if not errors(session.run(f"set timezone to '{zone}'")):
            rows = session.rows("show timezone")
            self.check(rows == [[zone]], f"set {zone}, got {rows}")

    def leave(self, session):
        session.send(
            self.rng.choice(
                [
                    query("select pg_catalog.count(*) from generate_series(1, 500000)"),
                    wire.parse("select 1", "x"),
                    query("begin") + query("select 1"),
                    b"Q\0\0\0\x20sel",
                ]
            )
        )
        if self.rng.random() < 0.5:
            session.cancel(self.proxy.port)
        return False


def kill_backends(proxy):
    sql = f"select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity where datname = '{proxy.database}' and backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 2) s"
    proxy.postgres.value("postgres", sql)


def reload_policy(proxy):
    proxy.roles_file.write_text(proxy.roles_file.read_text() + "\n")
    proxy.signal(signal.SIGHUP)


def restart_server(proxy):
    proxy.postgres.restart()


def break_policy(proxy):
    text = proxy.roles_file.read_text()
    proxy.roles_file.write_text(text + "nonsense: true\n")
    proxy.signal(signal.SIGHUP)
    time.sleep(0.3)
    proxy.roles_file.write_text(text)


@pytest.fixture
def proxy(postgres, tmp_path):
    name = postgres.new_database()
    server = SERVER.replace("size: 8", "size: 4").replace("workers: 1", "workers: 1")
    with Proxy(postgres, name, tmp_path, server=server, roles=ROLES) as running:
        yield running
    postgres.drop_database(name)


def test_nobody_gets_what_is_not_theirs_whatever_happens(proxy):
    over = threading.Event()
    clients = [Client(proxy, number, over) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    events = [kill_backends] * 8 + [reload_policy, break_policy, restart_server]
    warm, deadline = time.monotonic() + SECONDS / 3, time.monotonic() + SECONDS
    memory = 0
    while time.monotonic() < deadline and not any(client.wrong for client in clients):
        time.sleep(random.uniform(0.1, 0.8))
        random.choice(events)(proxy)
        if not memory and time.monotonic() > warm:
            memory = proxy.resident_kilobytes()
    over.set()
    for client in clients:
        client.join(20)
    assert [wrong for client in clients for wrong in client.wrong] == []
    assert not any(client.is_alive() for client in clients)
    done = sum((client.done for client in clients), Counter())
    assert done["own_rows"] > 20, done
    wait_until(lambda: proxy.http("/readyz")[0] == 200, 15, "ready again")
    wait_until(lambda: proxy.metric('pgfaucet_client_connections{database="shop"}') == 0, 10, "no session is left")
    wait_until(
        lambda: proxy.metric('pgfaucet_upstream_connections{database="shop",state="active"}') == 0,
        10,
        "no lease is left",
    )
    assert proxy.resident_kilobytes() - memory < GROWTH_KILOBYTES
    assert proxy.stop() == 0, proxy.read_log()
    proxy.verify_audit()
    log = proxy.read_log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
