"""Tokens in a PostgreSQL database: the store behind `postgresql://...`, shared by proxies on many machines.

One connection, used by one thread of its own. Who revokes notifies the others; as a notification can get lost, everybody also asks every
ASK_SECONDS. `init` makes the schema; nothing else needs more than reading and writing its tables. Sources: manual, sql-notify; asyncpg.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg
import orjson

from pgfaucet.auth.principal import Terms
from pgfaucet.auth.scram import Verifier
from pgfaucet.auth.store import PURGE_AFTER_SECONDS, Denial, Mark, Selection, StoreUnavailable
from pgfaucet.auth.tokens import TokenRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

CONNECT_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 5.0
CALL_SECONDS: Final = 12.0
AGAIN_SECONDS: Final = 1.0  # after a failure, nobody waits for another attempt before that
ASK_SECONDS: Final = 0.5
CHANNEL: Final = "pgfaucet_revocations"
VERSION: Final = 1
INIT: Final = "run `pgfaucet token init`"

UNREADABLE: Final = (
    "this connection string cannot be read: write postgresql://USER:PASSWORD@HOST/DATABASE, special characters as %XX"
)
_COLUMNS: Final = (
    "id, role, label, claims::text, extract(epoch from created_at)::float8, extract(epoch from expires_at)::float8,"
    " extract(epoch from revoked_at)::float8, secret_hash, salt, iterations, stored_key, server_key,"
    " terms::text, extract(epoch from used_at)::float8"
)
T = TypeVar("T")


class _Unfit(Exception):
    """The database can't be used as a store; the text says why."""


_FAILURES: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, _Unfit)


class PostgresStore:
    """Tokens in the schema `pgfaucet` of a database."""

    def __init__(self, dsn: str, clock: Callable[[], float] = time.time) -> None:
        """Connect. `dsn` is read as asyncpg does; `clock` gives Unix seconds. Raises StoreUnavailable."""
        self._dsn = dsn
        self._clock = clock
        self._connection: Connection | None = None
        self._generation = 0  # counts connections: what happened between two of them is not known
        self._was_notified = False
        self._asked_at = self._not_before = 0.0
        self._failure = ""
        self._turn = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="pgfaucet-tokens", daemon=True)
        self._thread.start()
        try:
            self._mock_secret = self._do(_read_secret)
        except StoreUnavailable:
            self.close()
            raise

    @property
    def mock_secret(self) -> bytes:
        """The secret behind the answers for unknown ids."""
        return self._mock_secret

    # -- tokens ------------------------------------------------------------------------------------------------------------------

    def create(self, record: TokenRecord) -> None:
        """Keep a new token, and forget those that ended long ago."""
        forgotten = self._clock() - PURGE_AFTER_SECONDS

        async def create(connection: Connection) -> None:
            claims = orjson.dumps(dict(record.claims)).decode()
            row = (
                record.id,
                record.role,
                record.label,
                claims,
                record.created_at,
                record.expires_at,
                record.revoked_at,
            )
            async with connection.transaction():
                await connection.execute("DELETE FROM pgfaucet.tokens WHERE expires_at < to_timestamp($1)", forgotten)
                await connection.execute("DELETE FROM pgfaucet.revocations WHERE at < to_timestamp($1)", forgotten)
                await connection.execute(
                    "INSERT INTO pgfaucet.tokens VALUES ($1, $2, $3, $4::text::jsonb, to_timestamp($5), to_timestamp($6),"
                    " to_timestamp($7), $8, $9, $10, $11, $12, $13::text::jsonb, to_timestamp($14))",
                    *row,
                    record.secret_hash,
                    *record.verifier,
                    orjson.dumps(record.terms.as_dict()).decode(),
                    record.used_at,
                )

        self._do(create)

    def get(self, token_id: str) -> TokenRecord | None:
        """Return one token, valid or not."""
        query = f"SELECT {_COLUMNS} FROM pgfaucet.tokens WHERE id = $1"  # noqa: S608 - fixed names
        row = self._do(lambda connection: connection.fetchrow(query, token_id))
        return _record(row) if row is not None else None

    def list(self, *, role: str | None = None) -> Sequence[TokenRecord]:
        """Return all tokens, the newest first."""
        query = f"SELECT {_COLUMNS} FROM pgfaucet.tokens WHERE role = coalesce($1, role) ORDER BY created_at DESC, id"  # noqa: S608 - fixed names
        return [_record(row) for row in self._do(lambda connection: connection.fetch(query, role))]

    def spend(self, token_id: str, now: float) -> bool:
        """Mark a token for one session as used; return False if it was before."""
        query = "UPDATE pgfaucet.tokens SET used_at = to_timestamp($1) WHERE id = $2 AND used_at IS NULL RETURNING true"
        return self._do(lambda connection: connection.fetchval(query, now, token_id)) is True

    def revoke(self, selection: Selection, now: float) -> Sequence[str]:
        """End tokens at once, and tell everybody who listens; return the ids of those that were valid until now."""

        async def revoke(connection: Connection) -> Sequence[str]:
            async with connection.transaction():
                # One after the other, so that the numbers become visible in order.
                await connection.execute("LOCK TABLE pgfaucet.revocations IN SHARE ROW EXCLUSIVE MODE")
                rows = await connection.fetch(
                    "SELECT id, role, label FROM pgfaucet.tokens WHERE revoked_at IS NULL AND expires_at > to_timestamp($1)"
                    " ORDER BY created_at, id",
                    now,
                )
                chosen = [row["id"] for row in rows if selection.fits(row["id"], row["role"], row["label"])]
                await connection.execute(
                    "UPDATE pgfaucet.tokens SET revoked_at = to_timestamp($1) WHERE id = ANY ($2)", now, chosen
                )
                await connection.execute(
                    "INSERT INTO pgfaucet.revocations (token_id, at) SELECT unnest($1::text[]), to_timestamp($2)",
                    chosen,
                    now,
                )
                if selection.may_fit_signed:
                    written = orjson.dumps(selection.as_dict()).decode()
                    await connection.execute(
                        "INSERT INTO pgfaucet.revocations (selection, at) VALUES ($1::text::jsonb, to_timestamp($2))",
                        written,
                        now,
                    )
                await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
            return chosen

        return self._do(revoke)

    def denials(self) -> Sequence[Denial]:
        """Return the revocations that concern signed tokens."""
        query = "SELECT extract(epoch from at)::float8, selection::text FROM pgfaucet.revocations WHERE selection IS NOT NULL"
        rows = self._do(lambda connection: connection.fetch(query))
        return [Denial(at, Selection.of(orjson.loads(written))) for at, written in rows]

    # -- watching ----------------------------------------------------------------------------------------------------------------

    def revoked_since(self, mark: Mark | None) -> tuple[Mark, Sequence[str] | None]:
        """Return a new mark and the ids revoked since the last one; None if every id is to be checked."""

        async def ask(connection: Connection) -> tuple[Mark, Sequence[str] | None]:
            is_known = mark is not None and mark.store[0] == self._generation
            after = mark.revocation if mark is not None and is_known else 0
            here = Mark((self._generation, 0), (0, 0), after)
            if is_known and not self._was_notified and time.monotonic() - self._asked_at < ASK_SECONDS:
                return here, []
            self._was_notified = False
            self._asked_at = time.monotonic()
            if not is_known:
                last = await connection.fetchval("SELECT coalesce(max(number), 0) FROM pgfaucet.revocations")
                return here._replace(revocation=last), None
            rows = await connection.fetch(
                "SELECT number, token_id FROM pgfaucet.revocations WHERE number > $1 ORDER BY number", after
            )
            last = rows[-1]["number"] if rows else after
            return here._replace(revocation=last), [row["token_id"] for row in rows if row["token_id"] is not None]

        return self._do(ask)

    def ended_among(self, ids: Collection[str]) -> set[str]:
        """Return those that are revoked or not in the store."""
        query = "SELECT id FROM pgfaucet.tokens WHERE revoked_at IS NULL AND id = ANY ($1)"
        rows = self._do(lambda connection: connection.fetch(query, list(ids)))
        return set(ids) - {row["id"] for row in rows}

    def close(self) -> None:
        """Close the connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._drop)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(COMMAND_SECONDS)

    # -- the connection ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(asyncio.sleep(0))  # a connection that was dropped needs a round to end
        finally:
            self._loop.close()

    def _do(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something with the connection, in its thread. Raises StoreUnavailable."""
        waiting = asyncio.run_coroutine_threadsafe(self._work(work), self._loop)
        try:
            return waiting.result(CALL_SECONDS)
        except (TimeoutError, CancelledError):
            waiting.cancel()
            raise _unavailable(self._dsn, "it does not answer") from None

    async def _work(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._turn:
            try:
                return await work(await self._connected())
            except _FAILURES as problem:
                self._drop()
                raise _unavailable(self._dsn, problem) from None

    async def _connected(self) -> Connection:
        """Return the connection; make it again when it was lost."""
        if self._connection is None or self._connection.is_closed():
            if time.monotonic() < self._not_before:
                raise ConnectionError(self._failure)
            try:
                connection = await _connect(self._dsn)
            except _FAILURES as problem:
                self._failure, self._not_before = _words(problem), time.monotonic() + AGAIN_SECONDS
                raise
            self._generation += 1
            self._connection = connection
            await connection.add_listener(CHANNEL, self._notified)
        return self._connection

    def _notified(self, *_: object) -> None:
        self._was_notified = True

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def schema() -> str:
    """Return the SQL that makes the schema."""
    return (files("pgfaucet") / "data" / "tokens.sql").read_text(encoding="utf-8")


def init(dsn: str) -> bool:
    """Make the schema in the database; return whether it was missing. Raises StoreUnavailable."""

    async def run() -> bool:
        connection = await _connect(dsn)
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(hashtext('pgfaucet token init'))")
                if await connection.fetchval("SELECT to_regclass('pgfaucet.schema_version') IS NOT NULL"):
                    await _check_version(connection)
                    return False
                await connection.execute(schema())
                return True
        finally:
            await connection.close(timeout=COMMAND_SECONDS)

    try:
        return asyncio.run(run())
    except _FAILURES as problem:
        raise _unavailable(dsn, problem) from None


async def _connect(dsn: str) -> Connection:
    """Connect to the server that can be written, if several are named."""
    try:
        return await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            target_session_attrs=None if "target_session_attrs=" in dsn else "read-write",
            statement_cache_size=0,  # a pooler may stand between
            server_settings={"application_name": "pgfaucet tokens", "search_path": "pg_catalog, pg_temp"},
        )
    except ValueError:  # its text may quote the password
        raise _Unfit(UNREADABLE) from None


async def _read_secret(connection: Connection) -> bytes:
    await _check_version(connection)
    secret: bytes = await connection.fetchval("SELECT value FROM pgfaucet.secrets WHERE name = 'mock'")
    return secret


async def _check_version(connection: Connection) -> None:
    version = await connection.fetchval("SELECT version FROM pgfaucet.schema_version")
    if version != VERSION:
        raise _Unfit(f"its schema has version {version}, this pgfaucet needs {VERSION}")


def _unavailable(dsn: str, problem: Exception | str) -> StoreUnavailable:
    """Word what is wrong without anything of the connection string but where it leads."""
    return StoreUnavailable(f"{place(dsn)}: {_words(problem)}; the token store cannot be used")


def _words(problem: Exception | str) -> str:
    if isinstance(problem, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError):
        return f"the tables of the token store are missing: {INIT}"
    if isinstance(problem, TimeoutError):
        return "it does not answer in time"
    return str(problem) or type(problem).__name__


def place(dsn: str) -> str:
    """Return host and database of a connection string, without user and password."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "postgresql://..."
    is_whole = dsn.count("@") == parts.netloc.count("@") <= 1  # else a character of the password has cut it
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}" if is_whole else "postgresql://..."


def _record(row: Any) -> TokenRecord:
    token_id, role, label, claims, created_at, expires_at, revoked_at, secret_hash, *verifier, terms, used_at = row
    pairs = tuple(sorted(orjson.loads(claims).items()))
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
        Terms.of(orjson.loads(terms)),
        used_at,
    )
