"""The proxy is killed at random instants under load: what a client saw finished is in the audit log, and the log needs no hand.

PGFAUCET_CRASHES sets how often for each durability (3 by default; `make chaos` takes 150). Rotation is on, so that it is cut off too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time

import pytest

from pgfaucet.audit.keys import load_public_key
from pgfaucet.audit.verify import in_order, verify_log, why_not_next
from tests.kit.policies import SERVER
from tests.kit.proxy import wait_until
from tests.kit.wire import Wire, query

CRASHES = int(os.environ.get("PGFAUCET_CRASHES", "3"))
CLIENTS = 4
LONGEST_SECONDS = 0.6
ROTATED = "rotate: {size: 60KB}, "

pytestmark = pytest.mark.timeout(CRASHES * 20 + 120)


class Client(threading.Thread):
    """Sends numbered statements until the connection breaks, and notes which it saw finished."""

    def __init__(self, proxy, token, numbers, finished):
        super().__init__(daemon=True)
        self.proxy = proxy
        self.token = token
        self.numbers = numbers
        self.finished = finished

    def run(self):
        try:
            with Wire.logged_in(self.proxy.port, self.token) as session:
                while True:
                    number = next(self.numbers)
                    session.send(
                        query(
                            f"insert into notes (id, body) values ({number + 10_000}, 'n{number}') /* n='{number}' */"
                        )
                    )
                    answers = []
                    while not answers or answers[-1].tag != "Z":
                        answers.append(session.receive())
                        if answers[-1].tag == "C":  # seen from here on, whatever becomes of the rest
                            self.finished.append(number)
        except (OSError, EOFError, AssertionError):  # it was killed
            return


class Numbers:
    """A generator that several threads may use."""

    def __init__(self):
        self._lock = threading.Lock()
        self._count = 0

    def __next__(self):
        with self._lock:
            self._count += 1
            return self._count


def recorded(proxy, event):
    """Return the numbers of the statements that have a record of this kind; every file must hold and follow the one before it."""
    key, before, numbers = load_public_key(proxy.state / "audit.key.pub"), None, set()
    for file in in_order(proxy.state.glob("audit.jsonl*")):
        verdict = verify_log(file, key)
        assert verdict.broken is None, (file, verdict)
        assert why_not_next(before, verdict) is None
        before = verdict
        for line in file.read_bytes().splitlines():
            record = json.loads(line)
            if record["event"] == event and record["context"]:
                numbers.add(int(record["context"]["n"]))
    return numbers


@pytest.mark.parametrize("durability", ["batch", "strict"])
def test_nothing_that_a_client_saw_is_missing_after_a_kill(start_proxy, durability):
    server = SERVER.replace("durability: batch", f"{ROTATED}durability: {durability}")
    assert ROTATED in server
    proxy = start_proxy(server=server)
    numbers, finished, rng = Numbers(), [], random.Random()
    for _ in range(CRASHES):
        token = proxy.mint(tenant=42).text
        clients = [Client(proxy, token, numbers, finished) for _ in range(CLIENTS)]
        before = len(finished)
        for client in clients:
            client.start()
        wait_until(lambda before=before: len(finished) > before, 10, "a statement is finished")
        time.sleep(rng.uniform(0, LONGEST_SECONDS))
        proxy.stop(signal.SIGKILL)
        for client in clients:
            client.join(10)
        proxy.start()
    proxy.stop()
    logged = recorded(proxy, "statement")
    assert set(finished) <= logged, sorted(set(finished) - logged)
    assert len(finished) > CRASHES
    assert len(list(proxy.state.glob("audit.jsonl.0*"))) > 0
    if durability == "strict":
        sql = "select substr(body, 2) from notes where body ~ '^n[0-9]+$'"
        stored = {int(row[0]) for row in proxy.postgres.rows(proxy.database, sql)}
        assert stored <= recorded(proxy, "intent")
