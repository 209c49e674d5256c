"""`pgfaucet init`: drafts a policy directory from a live database. Never changes a file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgfaucet.cli.main import REFUSED, complain

if TYPE_CHECKING:
    from pgfaucet.sql.catalog import CatalogSnapshot
    from pgfaucet.upstream.dsn import Target


@click.command(
    epilog="""\b
Example:
  pgfaucet init -c policies/ --dsn postgresql://faucet_svc@db.internal/shop
"""
)
@click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory to make."
)
@click.option(
    "--dsn", required=True, metavar="DSN", help="The database, and the account that the proxy will use there."
)
@click.pass_context
def command(context: click.Context, directory: Path, dsn: str) -> None:
    """Draft policies from a live database: the server's file, and one role that reads.

    The role gets the columns that don't look private, of the tables that can be told apart by tenant. The rest stands in comments.
    A password is not written down: it will be read from the environment.
    """
    from pgfaucet.policy.loader import load_texts, policy_files
    from pgfaucet.upstream.dsn import parse_dsn

    if directory.is_dir() and (there := policy_files(directory)):
        complain(f"{there[0]}: there are policies already; choose another directory")
        context.exit(REFUSED)
    target = parse_dsn(dsn)
    variable, texts = _draft(target, asyncio.run(_read(target)))
    environ = {**os.environ, **({variable: "x"} if variable is not None else {})}
    load_texts(directory, {name: text.encode() for name, text in texts.items()}, environ=environ)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with (directory / name).open("x", encoding="utf-8") as file:
            file.write(text)
        click.echo(str(directory / name))
    if variable is not None and variable not in os.environ:
        click.echo(
            f"next: put the password into {variable}, read the files, and run `pgfaucet check -c {directory} --connect`",
            err=True,
        )


async def _read(target: Target) -> CatalogSnapshot:
    from pgfaucet.upstream.connection import connect_catalog
    from pgfaucet.upstream.introspect import read_catalog

    connection = await connect_catalog(target)
    try:
        return await read_catalog(connection, None)
    finally:
        connection.terminate()


def _draft(target: Target, catalog: CatalogSnapshot) -> tuple[str | None, dict[str, str]]:
    """Return the variable that must hold the password, if one is needed, and the files."""
    from pgfaucet.policy.scaffold import dsn_without_password, role_text, server_text, variable_for

    usual = {"sslmode": "prefer", "channel_binding": "prefer", "target_session_attrs": "any"}
    names = (*usual, "sslrootcert", "sslcert", "sslkey", "passfile")
    options = {name: value for name in names if (value := getattr(target, name)) not in (None, usual.get(name))}
    dsn = dsn_without_password(target.user, [(host.name, host.port) for host in target.hosts], target.database, options)
    variable = variable_for(target.database) if target.password is not None else None
    roles = (
        "roles.yaml"
        if target.database in ("server", ".", "..") or "/" in target.database
        else f"{target.database}.yaml"
    )
    return variable, {
        "server.yaml": server_text(target.database, dsn, variable),
        roles: role_text(target.database, catalog),
    }
