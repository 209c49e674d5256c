"""Opens the token store that the configuration names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pgfaucet.auth import postgres_store
from pgfaucet.auth.postgres_store import PostgresStore
from pgfaucet.auth.sqlite_store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.auth.store import TokenStore
    from pgfaucet.config import TokensConfig


def open_store(config: TokensConfig, clock: Callable[[], float] = time.time) -> TokenStore:
    """Open the store; a SQLite file that is missing is made. `clock` gives Unix seconds. Raises StoreUnavailable."""
    return SqliteStore(config.path, clock) if config.path is not None else PostgresStore(config.store, clock)


def init_store(config: TokensConfig) -> bool:
    """Make what the store needs; return whether anything was missing. Raises StoreUnavailable."""
    if config.path is None:
        return postgres_store.init(config.store)
    is_missing = not config.path.exists()
    SqliteStore(config.path).close()
    return is_missing
