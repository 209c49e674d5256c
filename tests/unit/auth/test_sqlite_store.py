from __future__ import annotations

import random
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgfaucet.auth import sqlite_store, tokens
from pgfaucet.auth.principal import Terms
from pgfaucet.auth.sqlite_store import SqliteStore
from pgfaucet.auth.store import PURGE_AFTER_SECONDS, Denial, Selection, StoreUnavailable
from pgfaucet.auth.stores import open_store
from pgfaucet.config import TokensConfig

if TYPE_CHECKING:
    from pathlib import Path

    from pgfaucet.auth.tokens import TokenRecord

NOW = 1_800_000_000.0
RNG = random.Random(1).randbytes


def record(label: str = "agent:1", role: str = "agent", *, now: float = NOW, ttl: float = 60.0) -> TokenRecord:
    return tokens.mint(role, label, {"tenant": "42", "ü": "1"}, ttl=ttl, now=now, rng=RNG)[1]


def opened(tmp_path: Path, now: float = NOW) -> SqliteStore:
    return SqliteStore(tmp_path / "tokens.db", lambda: now)


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path):
    store, kept = opened(tmp_path), record()
    store.create(kept)
    assert store.get(kept.id) == kept
    assert store.get("-") is None
    assert opened(tmp_path).get(kept.id) == kept


def test_the_file_is_its_owners_alone(tmp_path: Path):
    opened(tmp_path).create(record())
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("mode", [0o660, 0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int):
    opened(tmp_path).close()
    (tmp_path / "tokens.db").chmod(mode)
    with pytest.raises(StoreUnavailable, match="chmod 600"):
        opened(tmp_path)


def test_the_token_text_is_nowhere_in_the_file(tmp_path: Path):
    text, kept = tokens.mint("agent", "agent:1", {}, ttl=60, now=NOW, rng=RNG)
    store = opened(tmp_path)
    store.create(kept)
    store.close()
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert kept.id.encode() in held
    assert text[17:].encode() not in held


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "tokens.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreUnavailable, match=r"tokens\.db: .*cannot be used"):
        opened(tmp_path)


def test_a_store_of_a_newer_pgfaucet_is_refused(tmp_path: Path):
    store = opened(tmp_path)
    with store._opened() as connection:
        connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreUnavailable, match="newer pgfaucet"):
        opened(tmp_path)


def test_a_store_that_vanishes_is_not_made_anew(tmp_path: Path):
    store = opened(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(StoreUnavailable):
        store.get("-")
    assert not (tmp_path / "tokens.db").exists()


def test_a_store_that_was_replaced_is_read_anew(tmp_path: Path):
    (tmp_path / "other").mkdir()
    store, kept = opened(tmp_path), record()
    other = opened(tmp_path / "other")
    other.create(kept)
    other.close()
    mark, _ = store.revoked_since(None)
    for part in ("tokens.db-wal", "tokens.db-shm"):  # SQLite would read the old pages over the new file
        (tmp_path / part).unlink()
    (tmp_path / "other" / "tokens.db").rename(tmp_path / "tokens.db")
    assert store.get(kept.id) == kept
    assert store.revoked_since(mark)[1] is None  # every token is to be checked


def test_the_configuration_names_the_file(tmp_path: Path):
    open_store(TokensConfig(f"sqlite:{tmp_path}/deep/tokens.db")).close()
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700


def test_all_who_share_a_store_share_its_secret(tmp_path: Path):
    assert opened(tmp_path).mock_secret == opened(tmp_path).mock_secret
    assert len(opened(tmp_path).mock_secret) == 32


def test_tokens_are_listed_the_newest_first(tmp_path: Path):
    store = opened(tmp_path)
    old, new, other = record(now=NOW - 5), record(), record(role="desk", now=NOW - 1)
    for kept in (old, new, other):
        store.create(kept)
    assert store.list() == [new, other, old]
    assert store.list(role="agent") == [new, old]


def test_what_ended_long_ago_is_forgotten_when_a_token_is_made(tmp_path: Path):
    store = opened(tmp_path)
    gone, kept = (
        record(now=NOW - PURGE_AFTER_SECONDS - 61),
        record(now=NOW - PURGE_AFTER_SECONDS - 59),
    )
    for one in (gone, kept, record()):
        store.create(one)
    assert store.get(gone.id) is None
    assert store.get(kept.id) == kept


def test_an_id_is_not_given_twice(tmp_path: Path):
    store, kept = opened(tmp_path), record()
    store.create(kept)
    with pytest.raises(StoreUnavailable):
        store.create(kept)
    assert store.get(kept.id) == kept


# -- revoking ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "labels"),
    [
        (Selection(), []),
        (Selection(everything=True), ["bot:1", "bot:2", "man:1"]),
        (Selection(label="bot:*"), ["bot:1", "bot:2"]),
        (Selection(label="BOT:*"), []),
        (Selection(label=""), []),
        (Selection(role="desk"), ["bot:2"]),
        (Selection(label="bot:*", role="agent"), ["bot:1"]),
        (Selection(ids=("no-such-id",)), []),
        (Selection(ids=("no-such-id",), everything=True), []),
    ],
)
def test_a_selection_ends_what_fits_all_of_it(tmp_path: Path, selection: Selection, labels: list[str]):
    store = opened(tmp_path)
    for label, role in (("bot:1", "agent"), ("bot:2", "desk"), ("man:1", "agent")):
        store.create(record(label, role))
    ended = store.revoke(selection, NOW + 1)
    assert sorted(one.label for one in store.list() if one.revoked_at == NOW + 1) == labels
    assert len(ended) == len(labels)


def test_only_valid_tokens_are_revoked_and_only_once(tmp_path: Path):
    store = opened(tmp_path)
    valid, expired = record(), record(now=NOW - 100)
    store.create(valid)
    store.create(expired)
    assert store.revoke(Selection(everything=True), NOW) == [valid.id]
    assert store.revoke(Selection(everything=True), NOW + 1) == []
    kept = store.get(valid.id)
    assert kept is not None
    assert kept.revoked_at == NOW


def test_a_revocation_is_seen_by_another_store_object(tmp_path: Path):
    here, there = opened(tmp_path), opened(tmp_path)
    one, other = record(), record()
    there.create(one)
    there.create(other)
    mark, ended = here.revoked_since(None)
    assert ended is None
    assert here.revoked_since(mark) == (mark, [])
    there.revoke(Selection(ids=(one.id,)), NOW)
    moved, ended = here.revoked_since(mark)
    assert ended == [one.id]
    assert here.revoked_since(moved) == (moved, [])
    assert here.ended_among([one.id, other.id, "unknown"]) == {one.id, "unknown"}


def test_many_tokens_are_asked_about_at_once(tmp_path: Path):
    store, kept = opened(tmp_path), record()
    store.create(kept)
    ids = [f"unknown{number}" for number in range(1200)]
    assert store.ended_among([*ids, kept.id]) == set(ids)


MINTER = """
import secrets, sys, time
from pathlib import Path
from pgfaucet.auth import sqlite_store, tokens
from pgfaucet.auth.principal import Terms
from pgfaucet.auth.sqlite_store import SqliteStore
from pgfaucet.auth.store import Selection
store = SqliteStore(Path(sys.argv[1]))
for number in range(15):
    record = tokens.mint("agent", sys.argv[2], {}, ttl=60, now=time.time(), rng=secrets.token_bytes)[1]
    store.create(record)
    if number % 3 == 0:
        assert store.revoke(Selection(ids=(record.id,)), time.time()) == [record.id]
"""


def test_processes_that_make_and_use_the_store_at_once_lose_nothing(tmp_path: Path):
    path = tmp_path / "tokens.db"
    running = [subprocess.Popen([sys.executable, "-c", MINTER, path, f"process:{number}"]) for number in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    kept = SqliteStore(path).list()
    assert len(kept) == 60
    assert sum(one.revoked_at is not None for one in kept) == 20


def test_what_the_same_store_revokes_is_seen_too(tmp_path: Path):
    store, kept = opened(tmp_path), record()
    store.create(kept)
    mark, _ = store.revoked_since(None)
    assert store.revoked_since(mark)[1] == []
    store.revoke(Selection(ids=(kept.id,)), NOW)
    mark, ended = store.revoked_since(mark)
    assert ended == [kept.id]
    assert store.revoked_since(mark) == (mark, [])


def test_terms_are_kept(tmp_path: Path):
    store, kept = opened(tmp_path), replace(record(), terms=Terms(("10.0.0.0/8", "local"), 3, is_one_time=True))
    store.create(kept)
    assert opened(tmp_path).get(kept.id) == kept


def test_a_token_is_spent_once(tmp_path: Path):
    store, kept, other = opened(tmp_path), record(), record()
    store.create(kept)
    store.create(other)
    assert store.spend(kept.id, NOW + 1)
    assert not opened(tmp_path).spend(kept.id, NOW + 2)
    assert not store.spend("-", NOW)
    spent = store.get(kept.id)
    assert spent is not None
    assert (spent.used_at, spent.status(NOW + 2)) == (NOW + 1, "used")
    assert store.get(other.id) == other
    assert store.ended_among([kept.id]) == set()


DENIALS = [
    Selection(everything=True),
    Selection(label="sso:*"),
    Selection(role="desk"),
    Selection(ids=("jwt_0123456789abcdef01234567",)),
    Selection(ids=("fcs_0123456789ab", "0123456789ab"), role="desk"),
]


def test_a_revocation_that_may_fit_signed_tokens_is_kept_for_them(tmp_path: Path):
    store = opened(tmp_path)
    mark, _ = store.revoked_since(None)
    for number, selection in enumerate([*DENIALS, Selection(ids=("0123456789ab",))]):
        store.revoke(selection, NOW + number)
    assert opened(tmp_path).denials() == [Denial(NOW + number, selection) for number, selection in enumerate(DENIALS)]
    assert opened(tmp_path).revoked_since(mark)[0] != mark


def test_denials_are_forgotten_when_no_token_can_be_so_old(tmp_path: Path):
    store = opened(tmp_path)
    store.revoke(Selection(everything=True), NOW - PURGE_AFTER_SECONDS - 1)
    store.revoke(Selection(everything=True), NOW - PURGE_AFTER_SECONDS + 1)
    store.create(record())
    assert [each.at for each in store.denials()] == [NOW - PURGE_AFTER_SECONDS + 1]


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_store, "_MIGRATIONS", sqlite_store._MIGRATIONS[:1])
    opened(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "tokens.db")
    kept = record()
    connection.execute(
        "INSERT INTO tokens VALUES (?, ?, ?, '{}', ?, ?, NULL, ?, ?, ?, ?, ?)",
        (kept.id, kept.role, kept.label, kept.created_at, kept.expires_at, kept.secret_hash, *kept.verifier),
    )
    connection.commit()
    connection.close()
    monkeypatch.undo()
    store = opened(tmp_path)
    assert store.get(kept.id) == replace(kept, claims=())
    assert store.denials() == []


def test_what_was_revoked_while_the_file_was_away_is_noticed(tmp_path: Path):
    here = opened(tmp_path)
    kept = record()
    opened(tmp_path).create(kept)
    again = opened(tmp_path)
    mark, _ = again.revoked_since(None)
    moved = (tmp_path / "tokens.db").rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable):
        again.revoked_since(mark)
    moved.rename(tmp_path / "tokens.db")
    here.revoke(Selection(everything=True), NOW)
    seen, revoked = again.revoked_since(mark)
    assert seen != mark
    assert revoked is None  # everything is to be checked
