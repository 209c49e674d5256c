"""`pgfaucet token`: makes the store that the policy directory names, and mints, lists, revokes and inspects tokens in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import orjson

from pgfaucet.cli.main import REFUSED, complain
from pgfaucet.cli.minting import create, keygen, rotate
from pgfaucet.cli.token_parts import as_dict, directory_option, load, named_only, note, open_store, parse_id, reported

if TYPE_CHECKING:
    from pathlib import Path

    from pgfaucet.auth.tokens import TokenRecord


@click.group(
    epilog="""\b
Example:
  pgfaucet token create -c policies/ --role support-agent --claim tenant=42 --ttl 60m --label agent:run-1
  pgfaucet token revoke -c policies/ --label 'agent:*'
"""
)
def command() -> None:
    """Create, list, revoke and inspect tokens."""


for _minting in (create, rotate, keygen):
    command.add_command(_minting)


@command.command(
    epilog="""\b
Example:
  pgfaucet token init -c policies/
  pgfaucet token init -c policies/ --sql | psql -h db.internal tokens
"""
)
@directory_option
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL for a PostgreSQL store, and change nothing.")
def init(directory: Path, *, as_sql: bool) -> None:
    """Make what the token store needs: a schema in PostgreSQL, or the SQLite file. What is there is left as it is."""
    from pgfaucet.auth import postgres_store, stores

    if as_sql:
        click.echo(postgres_store.schema(), nl=False)
        return
    loaded = load(directory)
    with reported():
        was_missing = stores.init_store(loaded.config.server.tokens)
    click.echo("the token store is ready" if was_missing else "the token store was there already; nothing was changed")


@command.command(
    "list",
    epilog="""\b
Example:
  pgfaucet token list -c policies/
""",
)
@directory_option
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_tokens(directory: Path, *, as_json: bool) -> None:
    """List the tokens, the newest first; those that ended more than a month ago are forgotten."""
    with open_store(load(directory)) as store:
        records = store.list()
    if as_json:
        for record in records:
            click.echo(orjson.dumps(as_dict(record)))
        return
    rows = [("ID", "STATUS", "EXPIRES", "ROLE", "LABEL", "CLAIMS"), *map(_row, records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command(
    epilog="""\b
Example:
  pgfaucet token revoke -c policies/ fct_8c1x0k2m4p7q
  pgfaucet token revoke -c policies/ --role support-agent --label 'agent:reporting-*'
  pgfaucet token revoke -c policies/ --all
"""
)
@directory_option
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--label", metavar="GLOB", help="Every token whose label fits: * and ? stand for any characters.")
@click.option("--role", help="Every token of a role.")
@click.option("--all", "everything", is_flag=True, help="Every token.")
@click.pass_context
def revoke(
    context: click.Context,
    directory: Path,
    *,
    ids: tuple[str, ...],
    label: str | None,
    role: str | None,
    everything: bool,
) -> None:
    """End tokens at once, and the sessions that use them within a second.

    Prints the ids that were valid until now. Tokens that are proved by a signature (SSO, --sign) end too if they fit and were
    issued before; they are printed only when they are named by ID. Exit code 1 if an ID is unknown; the others are revoked all the same.
    """
    from pgfaucet.auth.store import Selection
    from pgfaucet.auth.tokens import is_signed_id

    if not (ids or label is not None or role is not None or everything):
        raise click.UsageError("nothing says which tokens; write ids, --label, --role or --all", context)
    if everything and (ids or label is not None or role is not None):
        raise click.UsageError("--all goes with nothing else; remove it, or the rest", context)
    chosen = [parse_id(text) for text in ids]
    loaded = load(directory)
    with open_store(loaded) as store:
        unknown = [public_id for public_id in chosen if not is_signed_id(public_id) and store.get(public_id) is None]
        ended = store.revoke(Selection(ids=tuple(chosen), label=label, role=role, everything=everything), time.time())
        known = [record for record in map(store.get, ended) if record is not None]
    signed_ids = [public_id for public_id in chosen if is_signed_id(public_id)]
    for name in [*(record.public_name for record in known), *signed_ids]:
        click.echo(name)
    meant = _selected(label, role, everything=everything)
    note(loaded, "token_revoked", [*known, *map(named_only, signed_ids)], meant)
    if not ids:
        note(loaded, "signed_tokens_revoked", [named_only("")], meant)
    for public_id in unknown:
        complain(f"there is no token fct_{public_id}; `pgfaucet token list` shows them")
    if unknown:
        context.exit(REFUSED)
    if not ended and not signed_ids:
        click.echo("no valid token of the store was chosen", err=True)


@command.command(
    epilog="""\b
Example:
  pgfaucet token inspect -c policies/ fct_8c1x0k2m4p7q
"""
)
@directory_option
@click.argument("token_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One object.")
@click.pass_context
def inspect(context: click.Context, directory: Path, *, token_id: str, as_json: bool) -> None:
    """Show what is stored of a token."""
    public_id = parse_id(token_id)
    with open_store(load(directory)) as store:
        record = store.get(public_id)
    if record is None:
        complain(f"there is no token fct_{public_id}; `pgfaucet token list` shows them")
        context.exit(REFUSED)
    shown = as_dict(record)
    if as_json:
        click.echo(orjson.dumps(shown))
        return
    for name, value in shown.items():
        text = " ".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name + ':':<12} {'-' if text in (None, '') else text}")


def _selected(label: str | None, role: str | None, *, everything: bool) -> str:
    """Say which tokens were meant."""
    parts = [f"label {label}" if label is not None else "", f"role {role}" if role is not None else ""]
    return "all" if everything else ", ".join(filter(None, parts)) or "by id"


# -- parts -------------------------------------------------------------------------------------------------------------------------


def _row(record: TokenRecord) -> tuple[str, ...]:
    shown = as_dict(record)
    claims = " ".join(f"{name}={value}" for name, value in record.claims)
    return (shown["id"], shown["status"], shown["expires_at"], record.role, record.label, claims)
