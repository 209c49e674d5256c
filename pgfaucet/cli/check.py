"""`pgfaucet check`: everything that can be said about a policy directory before it is used."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgfaucet.cli.main import ENVIRONMENT, REFUSED, complain, environment_problem

if TYPE_CHECKING:
    from pgfaucet.policy.loader import Loaded
    from pgfaucet.policy.problem import Problem


@click.command(
    epilog="""\b
Example:
  pgfaucet check -c policies/
  pgfaucet check -c policies/ --connect
"""
)
@click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)
@click.option("--connect", is_flag=True, help="Also check against the catalogs of the databases.")
@click.pass_context
def command(context: click.Context, directory: Path, *, connect: bool) -> None:
    """Check a policy directory: every error and every warning, each with its place.

    Warnings (wide roles, filters without tests, what a row filter cannot hide) leave the exit code at 0. With --connect a table, column or
    function that does not exist is an error, and a database that cannot be reached exits with 3.
    """
    from pgfaucet.policy.lint import lint
    from pgfaucet.policy.loader import load

    loaded = load(directory)
    found = lint(loaded.policy)
    if connect:
        found += _with_catalogs(context, loaded)
    errors = sum(not problem.is_warning for problem in found)
    for problem in found:
        complain(str(problem))
    click.echo(_summary(directory, loaded, errors, len(found) - errors))
    if errors:
        context.exit(REFUSED)


def _with_catalogs(context: click.Context, loaded: Loaded) -> list[Problem]:
    from pgfaucet.cli.catalogs import read_catalogs
    from pgfaucet.policy.compile import compile_world
    from pgfaucet.policy.lint_catalog import lint_with_catalog

    catalogs, unreachable = asyncio.run(read_catalogs(loaded.config))
    for name, error in unreachable.items():
        complain(
            f"database {name} cannot be read: {environment_problem(error)}; start it, or mend its dsn and password"
        )
    if unreachable:
        context.exit(ENVIRONMENT)
    found: list[Problem] = []
    for role in loaded.policy.roles.values():
        found += compile_world(role, catalogs[role.database], {}, role.name)[1]
    for name, catalog in catalogs.items():
        found += lint_with_catalog(loaded.policy, name, catalog)
    return list(dict.fromkeys(found))


def _summary(directory: Path, loaded: Loaded, errors: int, warnings: int) -> str:
    policy = loaded.policy
    parts = [
        _counted(len(policy.roles), "role"),
        _counted(len(loaded.config.databases), "database"),
        _counted(len(policy.tests), "test"),
        _counted(errors, "error"),
        _counted(warnings, "warning"),
    ]
    return f"{directory}: {', '.join(parts)}; policy version {policy.version[:12]}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
