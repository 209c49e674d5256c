"""`pgfaucet test`: runs the tests of the policy files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgfaucet.cli.main import ENVIRONMENT, REFUSED, complain, environment_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgfaucet.policy.loader import Loaded
    from pgfaucet.policytest import Decide
    from pgfaucet.sql.catalog import CatalogSnapshot


@click.command(
    epilog="""\b
Example:
  pgfaucet test -c policies/
"""
)
@click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)
@click.pass_context
def command(context: click.Context, directory: Path) -> None:
    """Run the tests of the policy files: what must be allowed, and what must be refused with which SQLSTATE.

    Statements are decided against the catalogs of the live databases and not executed. Exit code 1 if a test fails, 3 if a database cannot
    be reached.
    """
    from pgfaucet import policytest
    from pgfaucet.cli.catalogs import read_catalogs
    from pgfaucet.policy.loader import load

    loaded = load(directory)
    catalogs, unreachable = asyncio.run(read_catalogs(loaded.config))
    for name, error in unreachable.items():
        complain(
            f"database {name} cannot be read: {environment_problem(error)}; start it, or mend its dsn and password"
        )
    if unreachable:
        context.exit(ENVIRONMENT)
    outcomes = list(policytest.run(loaded.policy.tests, decider(loaded, catalogs)))
    wrong = [outcome for outcome in outcomes if not outcome.is_right]
    for outcome in wrong:
        complain(str(outcome))
    click.echo(f"{len(outcomes) - len(wrong)} of {len(outcomes)} statements decided as the tests say")
    if wrong:
        context.exit(REFUSED)


def decider(loaded: Loaded, catalogs: Mapping[str, CatalogSnapshot]) -> Decide:
    """Return what decides a statement as the proxy would, without executing it."""
    from pgfaucet.guard import Epoch, Guard
    from pgfaucet.policy.compile import compile_world

    def decide(role_name: str, claims: Mapping[str, str], sql: str) -> str | None:
        role = loaded.policy.roles[role_name]
        world, _ = compile_world(role, catalogs[role.database], claims, role.name)
        guard = Guard(
            world, Epoch(), statement_bytes=role.limits.statement_bytes, forwards_everything=role.access == "full"
        )
        refused = guard.decide(sql, world.search_path, ()).refused
        return refused.error.sqlstate if refused is not None and refused.error is not None else None

    return decide
