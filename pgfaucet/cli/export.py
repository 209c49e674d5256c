"""`pgfaucet export`: the same policy as native GRANT and CREATE POLICY statements."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgfaucet.cli.claims import parse_claims

if TYPE_CHECKING:
    from pgfaucet.config import DatabaseConfig
    from pgfaucet.policy.export import Server
    from pgfaucet.policy.loader import Loaded
    from pgfaucet.policy.model import Role
    from pgfaucet.sql.catalog import CatalogSnapshot


@click.command(
    epilog="""\b
Example:
  pgfaucet export -c policies/ --rls | psql shop
  pgfaucet export -c policies/ --rls --role support-agent --claim tenant=42
"""
)
@click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)
@click.option("--rls", is_flag=True, help="As roles, grants and row security; there is no other form yet.")
@click.option("--role", "role_name", metavar="R", help="This role only.")
@click.option("--database", metavar="NAME", help="The roles of this database; may be left out if there is only one.")
@click.option(
    "--claim", "claims", multiple=True, metavar="K=V", help="A constant for a claim; may be given more than once."
)
@click.pass_context
def command(
    context: click.Context,
    directory: Path,
    role_name: str | None,
    database: str | None,
    claims: tuple[str, ...],
    *,
    rls: bool,
) -> None:
    """Print the policy as native DDL: one transaction, which can be run again after a change.

    Reads the catalog of the database and changes nothing. What PostgreSQL cannot express is a comment in the output.
    """
    from pgfaucet.policy.export import Export
    from pgfaucet.policy.loader import load

    if not rls:
        raise click.UsageError("it is not clear what to export; write --rls", context)
    values = parse_claims(claims)
    loaded = load(directory)
    roles, name = _chosen(context, loaded, role_name, database)
    everyone = [role for role in loaded.policy.roles.values() if role.database == name]
    catalog, server = asyncio.run(_read(loaded.config.databases[name], [role.name for role in everyone]))
    _refuse_problems(everyone, catalog)
    title = f"pgfaucet export --rls: database {name}, policy version {loaded.policy.version[:12]}"
    click.echo(Export(catalog, server, everyone, values).script(roles, title), nl=False)


def _chosen(
    context: click.Context, loaded: Loaded, role_name: str | None, database: str | None
) -> tuple[list[Role], str]:
    """Return the roles to export and the name of their database."""
    from pgfaucet.policy.loader import PolicyErrors, unknown_role

    roles = loaded.policy.roles
    if role_name is not None:
        if role_name not in roles:
            raise PolicyErrors([unknown_role(role_name, loaded.policy)])
        return [roles[role_name]], roles[role_name].database
    names = list(loaded.config.databases)
    if database is None and len(names) == 1:
        database = names[0]
    if database not in names:
        fix = f"write --database with one of {', '.join(names)}" if names else "write one under databases first"
        raise click.UsageError(f"it is not clear which database to export; {fix}", context)
    return [role for role in roles.values() if role.database == database], database


async def _read(settings: DatabaseConfig, roles: list[str]) -> tuple[CatalogSnapshot, Server]:
    from pgfaucet.upstream.connection import connect_catalog
    from pgfaucet.upstream.introspect import read_catalog
    from pgfaucet.upstream.native_roles import read_server
    from pgfaucet.upstream.password import target_of

    connection = await connect_catalog(target_of(settings))
    try:
        return await read_catalog(connection, None), await read_server(connection, roles)
    finally:
        connection.terminate()


def _refuse_problems(roles: list[Role], catalog: CatalogSnapshot) -> None:
    """Raise PolicyErrors with what of the policy does not fit the catalog: half a policy is not exported."""
    from pgfaucet.policy.compile import compile_role
    from pgfaucet.policy.problem import PolicyErrors, in_order

    found = in_order(problem for role in roles for problem in compile_role(role, catalog).problems)
    if found:
        raise PolicyErrors(found)
