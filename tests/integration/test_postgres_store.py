"""The token store in PostgreSQL: what it keeps, and two proxies that share it."""

from __future__ import annotations

import itertools
import random
import threading
import time
from dataclasses import replace

import pytest

from pgfaucet.auth import postgres_store, tokens
from pgfaucet.auth.postgres_store import PostgresStore
from pgfaucet.auth.principal import Terms
from pgfaucet.auth.store import PURGE_AFTER_SECONDS, Denial, Selection, StoreUnavailable
from tests.integration.test_tokens import end_of
from tests.kit.policies import SERVER
from tests.kit.proxy import wait_until
from tests.kit.wire import Wire, errors
from tests.unit.auth.test_sqlite_store import DENIALS

NOW = 1_800_000_000.0
RNG = random.Random(1).randbytes
NUMBERS = itertools.count(1)


@pytest.fixture
def dsn(postgres):
    """A database with the store's schema."""
    name = f"tokens_{next(NUMBERS)}"
    postgres.run_sql("postgres", f"create database {name}")
    address = f"postgresql://postgres@127.0.0.1:{postgres.port}/{name}"
    assert postgres_store.init(address)
    yield address
    postgres.drop_database(name)


@pytest.fixture
def open_store(dsn):
    opened = []

    def open_one(now: float = NOW) -> PostgresStore:
        opened.append(PostgresStore(dsn, lambda: now))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def record(label="agent:1", role="agent", *, now=NOW, ttl=60.0):
    return tokens.mint(role, label, {"tenant": "42", "ü": "1"}, ttl=ttl, now=now, rng=RNG)[1]


def test_what_is_kept_comes_back_as_it_was(open_store):
    store, kept = open_store(), record()
    store.create(kept)
    assert store.get(kept.id) == kept
    assert store.get("-") is None
    assert open_store().get(kept.id) == kept
    with pytest.raises(StoreUnavailable):
        store.create(kept)
    assert store.get(kept.id) == kept


def test_the_secret_is_not_in_the_database(open_store, dsn, postgres):
    text, kept = tokens.mint("agent", "agent:1", {}, ttl=60, now=NOW, rng=RNG)
    open_store().create(kept)
    held = postgres.run_sql(dsn.rpartition("/")[2], "select tokens::text from pgfaucet.tokens")
    assert kept.id in held
    assert text[17:] not in held
    assert text[17:].encode().hex() not in held


def test_all_who_share_a_store_share_its_secret(open_store):
    assert open_store().mock_secret == open_store().mock_secret
    assert len(open_store().mock_secret) == 32


def test_init_changes_nothing_that_is_there(open_store, dsn):
    store, kept = open_store(), record()
    store.create(kept)
    assert not postgres_store.init(dsn)
    assert store.get(kept.id) == kept


def test_tokens_are_listed_the_newest_first_and_forgotten_in_the_end(open_store):
    store = open_store()
    gone = record(now=NOW - PURGE_AFTER_SECONDS - 61)
    old, new, other = record(now=NOW - 5), record(), record(role="desk", now=NOW - 1)
    for kept in (gone, old, new, other):
        store.create(kept)
    assert store.list() == [new, other, old]
    assert store.list(role="agent") == [new, old]


@pytest.mark.parametrize(
    ("selection", "labels"),
    [
        (Selection(), []),
        (Selection(everything=True), ["bot:1", "bot:2", "man:1"]),
        (Selection(label="bot:*"), ["bot:1", "bot:2"]),
        (Selection(label="%"), []),
        (Selection(role="desk"), ["bot:2"]),
        (Selection(label="bot:*", role="agent"), ["bot:1"]),
        (Selection(ids=("no-such-id",), everything=True), []),
    ],
)
def test_a_selection_ends_what_fits_all_of_it_once(open_store, selection, labels):
    store = open_store()
    for label, role in (("bot:1", "agent"), ("bot:2", "desk"), ("man:1", "agent")):
        store.create(record(label, role))
    store.create(record("bot:expired", now=NOW - 100))
    ended = store.revoke(selection, NOW + 1)
    assert sorted(one.label for one in store.list() if one.revoked_at == NOW + 1) == labels
    assert len(ended) == len(labels)
    assert store.revoke(selection, NOW + 2) == []


def test_a_revocation_is_seen_by_another_store_object_at_once(open_store):
    here, there = open_store(), open_store()
    one, other = record(), record()
    there.create(one)
    there.create(other)
    mark, ended = here.revoked_since(None)
    assert ended is None
    assert here.revoked_since(mark)[1] == []
    there.revoke(Selection(ids=(one.id,)), NOW)
    began, seen = time.monotonic(), []
    while not seen:
        assert time.monotonic() < began + postgres_store.ASK_SECONDS / 2, "the notification was not heard"
        mark, seen = here.revoked_since(mark)
    assert seen == [one.id]
    assert here.ended_among([one.id, other.id, "unknown"]) == {one.id, "unknown"}


def test_a_revocation_is_seen_though_its_notification_got_lost(open_store, postgres, dsn):
    store, kept = open_store(), record()
    store.create(kept)
    mark, _ = store.revoked_since(None)
    postgres.run_sql(dsn.rpartition("/")[2], f"insert into pgfaucet.revocations (token_id) values ('{kept.id}')")
    began, seen = time.monotonic(), []
    while not seen:
        assert time.monotonic() < began + 2 * postgres_store.ASK_SECONDS
        mark, seen = store.revoked_since(mark)
        time.sleep(0.01)
    assert seen == [kept.id]


def test_every_token_is_looked_at_again_after_the_connection_was_lost(open_store, postgres, dsn):
    store = open_store()
    mark, _ = store.revoked_since(None)
    name = dsn.rpartition("/")[2]
    postgres.run_sql("postgres", f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")

    def ended():
        try:
            return store.revoked_since(mark)[1]
        except StoreUnavailable:
            return []

    wait_until(lambda: ended() is None, 5, "it connects again")


def test_writers_at_once_lose_nothing(open_store):
    watcher, ids = open_store(), []
    mark, _ = watcher.revoked_since(None)

    def work(store):
        for _ in range(8):
            kept = record()
            store.create(kept)
            assert store.revoke(Selection(ids=(kept.id,)), NOW) == [kept.id]
            ids.append(kept.id)

    threads = [threading.Thread(target=work, args=(open_store(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = []
    while any(thread.is_alive() for thread in threads) or len(seen) < 32:
        mark, more = watcher.revoked_since(mark)
        seen += more
        time.sleep(0.002)
    assert sorted(seen) == sorted(ids)
    assert len(ids) == 32


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://u:hidden-word@127.0.0.1:1/x", "127.0.0.1:1/x: "),
        ("postgresql://u:hidden/word@127.0.0.1/x", "postgresql://"),
        ("postgresql://u:hidden-word@[127.0.0.1/x", "postgresql://"),
        ("postgresql://u:hidden-word@127.0.0.1:1/x?sslmode=hidden-word", "postgresql://"),
    ],
)
def test_an_unreachable_store_says_where_and_no_password(dsn, said):
    for attempt in (PostgresStore, postgres_store.init):
        with pytest.raises(StoreUnavailable) as raised:
            attempt(dsn)
        assert said in str(raised.value)
        assert "hidden" not in str(raised.value)
        assert "word@" not in str(raised.value)


def test_a_database_without_the_schema_says_what_to_do(postgres):
    with pytest.raises(StoreUnavailable, match="tables of the token store are missing: run `pgfaucet token init`"):
        PostgresStore(f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres")


def test_a_schema_of_another_version_is_refused(dsn, postgres):
    postgres.run_sql(dsn.rpartition("/")[2], "update pgfaucet.schema_version set version = 99")
    for attempt in (PostgresStore, postgres_store.init):
        with pytest.raises(StoreUnavailable, match="version 99"):
            attempt(dsn)


# -- proxies that share a store ----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(start_proxy, dsn):
    """Two proxies with one store."""
    server = SERVER.replace('store: "sqlite:${PGFAUCET_STATE}/tokens.db"', 'store: "${TOKENS}"')
    assert server != SERVER
    return [start_proxy(server=server, environment={"TOKENS": dsn}) for _ in range(2)]


def test_a_token_minted_through_one_proxy_works_on_the_other_until_it_is_revoked(two):
    here, there = two
    token, kept = here.mint(tenant=42), there.mint(tenant=42)
    with (
        Wire.logged_in(here.port, token.text) as one,
        Wire.logged_in(there.port, token.text) as other,
        Wire.logged_in(here.port, kept.text) as third,
    ):
        assert errors(other.run("select 1")) == []
        there.revoke(token.id)
        began = time.monotonic()
        for session in (one, other):
            answers, ended = end_of(session)
            assert answers[-1].fields["C"] == "57P01"
            assert ended - began <= 1.0
        assert errors(third.run("select 1")) == []
    for proxy in two:
        with Wire(proxy.port) as connection:
            assert connection.log_in(token.text).fields["C"] == "28P01"


def test_an_outage_of_the_store_refuses_new_sessions_and_keeps_those_that_are_known(two, postgres, dsn):
    name = dsn.rpartition("/")[2]
    proxy = two[0]
    token = proxy.mint(tenant=42)
    with Wire.logged_in(proxy.port, token.text) as session:
        postgres.run_sql("postgres", f"alter database {name} allow_connections false")
        postgres.run_sql("postgres", f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
        wait_until(lambda: "revocation is not noticed; sessions end in 60 s" in proxy.read_log(), 5, "it says so")
        with Wire(proxy.port) as connection:
            refused = connection.log_in(token.text).fields
            assert (refused["C"], refused["M"]) == ("57P03", "tokens cannot be checked at the moment")
        assert errors(session.run("select count(*) from orders")) == []
        postgres.run_sql("postgres", f"alter database {name} allow_connections true")
        wait_until(lambda: "the token store is reachable again" in proxy.read_log(), 5, "it says so")
    with Wire.logged_in(proxy.port, token.text) as session:
        assert errors(session.run("select 1")) == []
    assert proxy.audit(event="session_refused")[-1]["reason"].startswith("postgresql://127.0.0.1:")


def test_token_init_makes_the_schema_once(start_proxy, postgres):
    name = f"tokens_{next(NUMBERS)}"
    postgres.run_sql("postgres", f"create database {name}")
    proxy = start_proxy()
    file = proxy.policies / "server.yaml"
    address = f"postgresql://postgres@127.0.0.1:{postgres.port}/{name}"
    file.write_text(file.read_text().replace("sqlite:${PGFAUCET_STATE}/tokens.db", address))
    missing = proxy.run_command("token", "list", "-c", str(proxy.policies))
    assert missing.returncode == 3
    assert "run `pgfaucet token init`" in missing.stderr
    first, second = (proxy.run_command("token", "init", "-c", str(proxy.policies)) for _ in range(2))
    assert (first.returncode, first.stdout) == (0, "the token store is ready\n")
    assert (second.returncode, second.stdout.partition(";")[0]) == (0, "the token store was there already")
    assert proxy.mint(tenant=42).id.startswith("fct_")
    script = proxy.run_command("token", "init", "-c", str(proxy.policies), "--sql").stdout
    assert "CREATE TABLE pgfaucet.tokens" in script
    postgres.drop_database(name)


def test_terms_are_kept_and_a_token_is_spent_once(open_store):
    store, kept = open_store(), replace(record(), terms=Terms(("10.0.0.0/8", "local"), 3, is_one_time=True))
    store.create(kept)
    assert open_store().get(kept.id) == kept
    assert store.spend(kept.id, NOW + 1)
    assert not open_store().spend(kept.id, NOW + 2)
    assert not store.spend("-", NOW)
    assert store.get(kept.id).used_at == NOW + 1
    assert store.ended_among([kept.id]) == set()


def test_a_revocation_that_may_fit_signed_tokens_is_kept_for_them(open_store):
    store, other = open_store(), open_store()
    mark, _ = other.revoked_since(None)
    for number, selection in enumerate([*DENIALS, Selection(ids=("0123456789ab",))]):
        store.revoke(selection, NOW + number)
    assert other.denials() == [Denial(NOW + number, selection) for number, selection in enumerate(DENIALS)]

    def is_seen():
        moved, revoked = other.revoked_since(mark)
        assert revoked == []
        return moved != mark

    wait_until(is_seen, 2, "the revocation is seen")
