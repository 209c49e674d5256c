"""One database that clients connect to: its pool, its catalog as last read, and the guards made against it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.guard import Epoch, Guard
from pgfaucet.policy.compile import claims_used, compile_world
from pgfaucet.policy.loader import PolicyErrors, load, unknown_role
from pgfaucet.upstream.connection import connect_catalog
from pgfaucet.upstream.introspect import catalog_mark, read_catalog
from pgfaucet.upstream.password import target_of
from pgfaucet.upstream.server_plan import read_plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import asyncpg

    from pgfaucet.plan import StatementPlan
    from pgfaucet.policy.model import Role
    from pgfaucet.sql.catalog import CatalogSnapshot
    from pgfaucet.sql.world import World
    from pgfaucet.upstream.pool import Pool
    from pgfaucet.upstream.server_plan import ServerPlan

logger = logging.getLogger(__name__)

CATALOG_POLL_SECONDS: Final = 1.0
CATALOG_RETRY_SECONDS: Final = 2.0
MAX_GUARDS: Final = 1000

GuardKey = tuple[str, tuple[tuple[str, str], ...]]
"""Role name and the claims that its policy uses."""


class Database:
    """Holds what sessions of one database share.

    The catalog is read over a connection of its own and looked at every second; when it changed, every guard made against it
    stops being current, so that what was decided before is decided again.
    """

    def __init__(self, name: str, pool: Pool, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self.name = name
        self.pool = pool
        self.catalog: CatalogSnapshot | None = None
        self.unreachable_because = "the catalog has not been read yet"
        self._connect = connect
        self.epoch = Epoch()
        self._own_versions = itertools.count(1 << 40)  # of those catalogs
        self._own_epochs: WeakSet[Epoch] = WeakSet()  # of guards over catalogs of sessions' own
        self._guards: OrderedDict[GuardKey, Guard] = OrderedDict()  # the least used first
        self._changes = 0  # how often sessions have changed the catalog, and how many of those the snapshot has
        self._changes_read = 0
        self._refresh = asyncio.Event()
        self._read = asyncio.Event()

    def guard_for(self, role: Role, claims: dict[str, str]) -> Guard:
        """Return the guard for a role and the claims of a token.

        Raises FaucetError 57P03 while the catalog can't be read.
        """
        if self.catalog is None:
            raise FaucetError(
                Sqlstate.CANNOT_CONNECT_NOW,
                f'database "{self.name}" cannot be reached at the moment',
                reason=self.unreachable_because,
            )
        used = claims_used(role)
        relevant = {name: claims[name] for name in used if name in claims}
        key = (role.name, tuple(sorted(relevant.items())))
        guard = self._guards.get(key)
        if guard is None:
            world, problems = compile_world(role, self.catalog, relevant, role.name)
            for problem in problems:
                logger.warning("role %s: %s", role.name, problem)
            guard = self._guards[key] = _guard(world, role, self.epoch)
            if len(self._guards) > MAX_GUARDS:
                self._guards.popitem(last=False)
        else:
            self._guards.move_to_end(key)
        return guard

    def guard_over(self, catalog: CatalogSnapshot, role: Role, claims: dict[str, str]) -> Guard:
        """Return a guard over a catalog of one session's own; it lasts as long as those over the shared one."""
        own = replace(catalog, version=next(self._own_versions))
        world, _ = compile_world(role, own, claims, role.name)
        epoch = Epoch()
        self._own_epochs.add(epoch)
        return _guard(world, role, epoch)

    def invalidate(self) -> None:
        """Make every guard outdated: the policy or the catalog has changed."""
        for own in self._own_epochs:
            own.is_current = False
        self._own_epochs.clear()
        self.epoch.is_current = False
        self.epoch = Epoch(self.epoch.hits, self.epoch.misses)
        self._guards.clear()

    def catalog_changed(self) -> None:
        """A session has changed the catalog: look at it now instead of at the next tick."""
        self._changes += 1
        self._refresh.set()

    @property
    def is_behind(self) -> bool:
        """Whether a session of ours has changed the catalog since it was read."""
        return self._changes_read < self._changes

    async def wait_for_catalog(self, seconds: float) -> None:
        """Wait until the catalog has been read, at most so long."""
        if self.catalog is None:
            self._refresh.set()
            try:
                await asyncio.wait_for(self._read.wait(), seconds)
            except TimeoutError:
                return

    async def follow_catalog(self) -> None:
        """Keep the catalog up to date for as long as the process runs."""
        while True:
            try:
                await self._follow_one_connection()
            except Exception as problem:  # noqa: BLE001 - whatever it was: without a catalog nothing runs, so try again
                self.unreachable_because = f"{type(problem).__name__}: {problem}"
                logger.warning("database %s: cannot read the catalog: %s", self.name, self.unreachable_because)
                await self._tick(CATALOG_RETRY_SECONDS)

    async def _follow_one_connection(self) -> None:
        connection = await self._connect()
        mark: str | None = None
        try:
            while True:
                changes = self._changes
                seen = await catalog_mark(connection)
                if seen != mark:
                    self._take(await read_catalog(connection, self.catalog))
                    mark = seen
                self._changes_read = changes
                await self._tick(CATALOG_POLL_SECONDS)
        finally:
            connection.terminate()

    def _take(self, catalog: CatalogSnapshot) -> None:
        if catalog is not self.catalog:
            self.catalog = catalog
            self.invalidate()
            logger.info("database %s: catalog read, %d relations", self.name, len(catalog.relations))
        self._read.set()

    async def _tick(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._refresh.wait(), seconds)
        except TimeoutError:
            return
        self._refresh.clear()


def _guard(world: World, role: Role, epoch: Epoch) -> Guard:
    return Guard(
        world,
        epoch,
        statement_bytes=role.limits.statement_bytes,
        forwards_everything=role.access == "full",
        observes=role.mode == "observe",
    )


async def decide_once(
    directory: Path, role_name: str, claims: dict[str, str], sql: str, *, with_server_plans: bool = False
) -> tuple[tuple[StatementPlan, ServerPlan | None], ...]:
    """Decide one query string as a role would have it, against the live catalog; where that is asked for, with the server's plan of
    each statement that has one. Raises PolicyErrors, OSError.
    """
    loaded = load(directory)
    role = loaded.policy.roles.get(role_name)
    if role is None:
        raise PolicyErrors([unknown_role(role_name, loaded.policy)])
    settings = loaded.config.databases[role.database]
    connection = await connect_catalog(target_of(settings))
    try:
        plans = _decide(role, await read_catalog(connection, None), claims, sql)
        return tuple([(plan, await read_plan(connection, plan) if with_server_plans else None) for plan in plans])
    finally:
        connection.terminate()


def _decide(role: Role, catalog: CatalogSnapshot, claims: dict[str, str], sql: str) -> tuple[StatementPlan, ...]:
    world, _ = compile_world(role, catalog, claims, role.name)
    guard = Guard(
        world, Epoch(), statement_bytes=role.limits.statement_bytes, forwards_everything=role.access == "full"
    )
    return guard.decide(sql, world.search_path, ()).statements
