"""Asks the server how it would run a statement that was decided, without running it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from pgfaucet.plan import StatementKind
from pgfaucet.sql.parse import parse
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from pgfaucet.plan import StatementPlan

PLANNED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
NAME: Final = "pgfaucet_plan"
TIMEOUT: Final = "10s"
MAX_BYTES: Final = 1 << 24
MAX_DEPTH: Final = 1000  # of a text that was rewritten: deeper than the client's own


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """The lines of EXPLAIN (COSTS OFF), or why there are none."""

    lines: tuple[str, ...]
    error: str | None = None


async def read_plan(connection: asyncpg.Connection, plan: StatementPlan) -> ServerPlan | None:
    """Return the server's plan; None for a statement that is refused or has none."""
    if plan.error is not None or plan.verb not in PLANNED or plan.kind is not StatementKind.ORDINARY:
        return None
    tree = parse(plan.sql, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)[0].stmt
    parameters = max((node["ParamRef"].get("number", 0) for node in walk(tree) if "ParamRef" in node), default=0)
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = '{TIMEOUT}'")
            return ServerPlan(tuple(await _explained(connection, plan.sql, parameters)))
    except asyncpg.PostgresError as error:
        return ServerPlan((), " ".join(str(error).split()))
    finally:
        with contextlib.suppress(
            asyncpg.InvalidSQLStatementNameError
        ):  # there is none for a statement without parameters
            await connection.execute(f"DEALLOCATE {NAME}")


async def _explained(connection: asyncpg.Connection, sql: str, parameters: int) -> list[str]:
    """Return the lines; of a statement with parameters those of its generic plan, as EXPLAIN (GENERIC_PLAN) has them from version 16 on."""
    if not parameters:
        return [row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) {sql}")]
    await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE {NAME} AS {sql}")
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE {NAME}({', '.join(['NULL'] * parameters)})")
    return [row[0] for row in rows]
