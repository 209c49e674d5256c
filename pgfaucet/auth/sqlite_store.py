"""Tokens in a SQLite file: the store behind `sqlite:PATH`, for the proxies and commands of one machine (WAL).

The file is made readable and writable for its owner only, and is refused if others may write it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.auth.principal import Terms
from pgfaucet.auth.scram import Verifier
from pgfaucet.auth.store import PURGE_AFTER_SECONDS, Denial, Mark, Selection, StoreUnavailable
from pgfaucet.auth.tokens import TokenRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

BUSY_SECONDS: Final = 5.0
WAL_ATTEMPTS: Final = 100
WAL_PAUSE_SECONDS: Final = 0.05
IDS_AT_ONCE: Final = 500

_MIGRATIONS: Final = (
    """
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, role TEXT NOT NULL, label TEXT NOT NULL, claims TEXT NOT NULL, created_at REAL NOT NULL,
        expires_at REAL NOT NULL, revoked_at REAL, secret_hash BLOB NOT NULL, salt BLOB NOT NULL, iterations INTEGER NOT NULL,
        stored_key BLOB NOT NULL, server_key BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tokens_expires_at ON tokens (expires_at);
    CREATE TABLE revocations (number INTEGER PRIMARY KEY AUTOINCREMENT, token_id TEXT NOT NULL) STRICT;
    CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE tokens ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE tokens ADD COLUMN used_at REAL;
    CREATE TABLE denials (at REAL NOT NULL, selection TEXT NOT NULL) STRICT;
    """,
)
_COLUMNS: Final = (
    "id, role, label, claims, created_at, expires_at, revoked_at, secret_hash, salt, iterations, stored_key, server_key,"
    " terms, used_at"
)


class SqliteStore:
    """Tokens in one SQLite file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the file; make it if it is missing. Raises StoreUnavailable."""
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._generation = 0  # counts connections: what happened between two of them is not known
        with self._opened() as connection:
            self._mock_secret: bytes = connection.execute("SELECT value FROM secrets WHERE name = 'mock'").fetchone()[0]

    @property
    def mock_secret(self) -> bytes:
        """The secret behind the answers for unknown ids."""
        return self._mock_secret

    # -- tokens ------------------------------------------------------------------------------------------------------------------

    def create(self, record: TokenRecord) -> None:
        """Keep a new token, and forget those that ended long ago."""
        row = (
            record.id,
            record.role,
            record.label,
            json.dumps(dict(record.claims), ensure_ascii=False),
            record.created_at,
            record.expires_at,
            record.revoked_at,
            record.secret_hash,
            *record.verifier,
            json.dumps(record.terms.as_dict()),
            record.used_at,
        )
        forgotten = (self._clock() - PURGE_AFTER_SECONDS,)
        with self._changing() as connection:
            connection.execute("DELETE FROM tokens WHERE expires_at < ?", forgotten)
            connection.execute("DELETE FROM denials WHERE at < ?", forgotten)
            connection.execute(f"INSERT INTO tokens ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - fixed names

    def get(self, token_id: str) -> TokenRecord | None:
        """Return one token, valid or not."""
        with self._opened() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (token_id,)).fetchone()  # noqa: S608 - fixed names
        return _record(row) if row is not None else None

    def list(self, *, role: str | None = None) -> Sequence[TokenRecord]:
        """Return all tokens, the newest first."""
        with self._opened() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM tokens WHERE role = coalesce(?, role) ORDER BY created_at DESC, id",  # noqa: S608 - fixed names
                (role,),
            ).fetchall()
        return [_record(row) for row in rows]

    def spend(self, token_id: str, now: float) -> bool:
        """Mark a token for one session as used; return False if it was before."""
        with self._changing() as connection:
            changed = connection.execute(
                "UPDATE tokens SET used_at = ? WHERE id = ? AND used_at IS NULL", (now, token_id)
            )
            return changed.rowcount == 1

    def revoke(self, selection: Selection, now: float) -> Sequence[str]:
        """End tokens at once; return the ids of those that were valid until now."""
        with self._changing() as connection:
            rows = connection.execute(
                "SELECT id, role, label FROM tokens WHERE revoked_at IS NULL AND expires_at > ? ORDER BY created_at, id",
                (now,),
            )
            chosen = [token_id for token_id, role, label in rows.fetchall() if selection.fits(token_id, role, label)]
            connection.executemany(
                "UPDATE tokens SET revoked_at = ? WHERE id = ?", [(now, token_id) for token_id in chosen]
            )
            connection.executemany(
                "INSERT INTO revocations (token_id) VALUES (?)", [(token_id,) for token_id in chosen]
            )
            if selection.may_fit_signed:
                connection.execute("INSERT INTO denials VALUES (?, ?)", (now, json.dumps(selection.as_dict())))
        return chosen

    def denials(self) -> Sequence[Denial]:
        """Return the revocations that concern signed tokens."""
        with self._opened() as connection:
            rows = connection.execute("SELECT at, selection FROM denials").fetchall()
        return [Denial(at, Selection.of(json.loads(written))) for at, written in rows]

    # -- watching ----------------------------------------------------------------------------------------------------------------

    def revoked_since(self, mark: Mark | None) -> tuple[Mark, Sequence[str] | None]:
        """Return a new mark and the ids revoked since the last one; None if every id is to be checked.

        Costs one PRAGMA as long as nobody has changed the file.
        """
        with self._opened() as connection:
            (of_others,) = connection.execute("PRAGMA data_version").fetchone()
            version = (of_others, connection.total_changes)
            store = (self._generation, 0)
            if mark is not None and mark[:2] == (store, version):
                return mark, []
            after = mark.revocation if mark is not None and mark.store == store else 0
            rows = connection.execute(
                "SELECT number, token_id FROM revocations WHERE number > ? ORDER BY number", (after,)
            ).fetchall()
        moved = Mark(store, version, rows[-1][0] if rows else after)
        return moved, [row[1] for row in rows] if mark is not None and mark.store == moved.store else None

    def ended_among(self, ids: Collection[str]) -> set[str]:
        """Return those that are revoked or not in the store."""
        asked = tuple(ids)
        live: set[str] = set()
        with self._opened() as connection:
            for start in range(0, len(asked), IDS_AT_ONCE):
                part = asked[start : start + IDS_AT_ONCE]
                marks = ", ".join("?" * len(part))
                rows = connection.execute(f"SELECT id FROM tokens WHERE revoked_at IS NULL AND id IN ({marks})", part)  # noqa: S608 - marks
                live.update(row[0] for row in rows.fetchall())
        return set(asked) - live

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._forget()

    # -- the file ----------------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one transaction."""
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one thread. A file that was replaced is opened anew; one that is gone is no store."""
        with self._lock:
            try:
                if self._connection is None or _identity(self._path) != self._file:
                    self._forget()
                    self._connect()
                assert self._connection is not None  # noqa: S101 - for mypy
                yield self._connection
            except (sqlite3.Error, OSError) as problem:
                self._forget()
                raise StoreUnavailable(f"{self._path}: {problem}; the token store cannot be used") from problem

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _connect(self) -> None:
        if self._file == (0, 0):  # the first time; a store that vanishes later was not meant to be made anew
            _make_private(self._path)
        _check_private(self._path)
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection = connection
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")  # a revocation must survive a power cut
        _migrate(connection)
        self._file = _identity(self._path)
        self._generation += 1


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. SQLite does not wait for others who do the same at the same moment, so we do."""
    for _ in range(WAL_ATTEMPTS):
        with contextlib.suppress(sqlite3.OperationalError):
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        time.sleep(WAL_PAUSE_SECONDS)
    raise sqlite3.OperationalError("it cannot be switched to WAL: it is locked")


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _check_private(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreUnavailable(f"{path}: others than its owner may write it; run chmod 600 on it")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date. Several processes may try at once."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(_MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise sqlite3.DatabaseError("it was made by a newer pgfaucet")  # noqa: TRY301 - rolled back below
        for script in _MIGRATIONS[version:]:
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
        connection.execute("INSERT OR IGNORE INTO secrets VALUES ('mock', ?)", (secrets.token_bytes(32),))
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _record(row: tuple[Any, ...]) -> TokenRecord:
    token_id, role, label, claims, created_at, expires_at, revoked_at, secret_hash, *verifier, terms, used_at = row
    pairs = tuple(sorted(json.loads(claims).items()))
    return TokenRecord(
        token_id,
        role,
        label,
        pairs,
        created_at,
        expires_at,
        revoked_at,
        secret_hash,
        Verifier(*verifier),
        Terms.of(json.loads(terms)),
        used_at,
    )
