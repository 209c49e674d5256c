"""`pgfaucet token`: makes the store that the policy directory names, and mints, lists, revokes and inspects tokens in it."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click
import orjson

from pgfaucet.cli.main import REFUSED, complain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from pgfaucet.auth.principal import Principal, Terms
    from pgfaucet.auth.store import TokenStore
    from pgfaucet.auth.tokens import TokenRecord
    from pgfaucet.config import TokensConfig
    from pgfaucet.policy.loader import Loaded


class _Wanted(TypedDict):
    """What both kinds of token are made from."""

    ttl: float
    now: float
    rng: Callable[[int], bytes]
    terms: Terms


directory_option = click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)


@click.group(
    epilog="""\b
Example:
  pgfaucet token create -c policies/ --role support-agent --claim tenant=42 --ttl 60m --label agent:run-1
  pgfaucet token revoke -c policies/ --label 'agent:*'
"""
)
def command() -> None:
    """Create, list, revoke and inspect tokens."""


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
    loaded = _load(directory)
    with _reported():
        was_missing = stores.init_store(loaded.config.server.tokens)
    click.echo("the token store is ready" if was_missing else "the token store was there already; nothing was changed")


@command.command(
    epilog="""\b
Example:
  token=$(pgfaucet token create -c policies/ --role support-agent --claim tenant=42 --ttl 60m --label agent:run-1)
  psql "postgresql://agent:$token@127.0.0.1:6432/shop"
"""
)
@directory_option
@click.option("--role", required=True, help="The token's one role.")
@click.option(
    "--ttl",
    required=True,
    metavar="DURATION",
    help="How long it is valid: 90s, 60m, 8h, 1d; at most server.tokens.max_ttl.",
)
@click.option("--label", required=True, help="Who uses it, for the audit and for revoking.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="K=V",
    help="What claim('K') is in the policy; may be given more than once.",
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="CIDR",
    help="Where its clients come from: 10.0.4.0/24, or local for Unix-domain sockets; may be given more than once.",
)
@click.option("--max-connections", type=click.IntRange(min=1), help="How many sessions it may have at once.")
@click.option("--one-time", is_flag=True, help="It opens one session.")
@click.option(
    "--sign",
    "key_file",
    type=click.Path(path_type=Path),
    help="Prove the token by this private key, whose public half server.tokens.signed_by names, instead of the store.",
)
@click.option("--json", "as_json", is_flag=True, help="An object with token, id, role, label, claims, expires_at.")
def create(  # noqa: PLR0913 - one for each option
    directory: Path,
    *,
    role: str,
    ttl: str,
    label: str,
    claims: tuple[str, ...],
    networks: tuple[str, ...],
    max_connections: int | None,
    one_time: bool,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Mint a token and print it: it is shown this once, only its hash is stored."""
    loaded = _load(directory)
    _check_role(loaded, role, directory)
    held = _claims(claims)
    _warn_of_missing_claims(loaded, role, held)
    wanted: _Wanted = {
        "ttl": _seconds(ttl, loaded.config.server.tokens),
        "now": time.time(),
        "rng": secrets.token_bytes,
        "terms": _terms(networks, max_connections, one_time=one_time),
    }
    key = _private_key(key_file) if key_file is not None else None
    text, made = _mint(loaded, key, role, label, held, wanted, ttl)
    click.echo(orjson.dumps(_minted(text, made)) if as_json else text)


def _mint(  # noqa: PLR0913, PLR0917 - as above
    loaded: Loaded,
    key: Ed25519PrivateKey | None,
    role: str,
    label: str,
    claims: dict[str, str],
    wanted: _Wanted,
    ttl: str,
) -> tuple[str, TokenRecord | Principal]:
    """Make a token: signed, if there is a key, else one of the store."""
    from pgfaucet.auth import signed, tokens

    try:
        if key is not None:
            text, principal = signed.mint(role, label, claims, key=key, **wanted)
            _note(loaded, "token_created", [principal], f"valid for {ttl}, signed")
            return text, principal
        text, record = tokens.mint(role, label, claims, **wanted)
    except ValueError as problem:
        raise click.UsageError(f"{problem}; choose another one") from None
    with _store(loaded) as store:
        # First: a token that nobody knows of is worse than a record too many.
        _note(loaded, "token_created", [record], f"valid for {ttl}")
        store.create(record)
    return text, record


def _minted(text: str, made: TokenRecord | Principal) -> dict[str, Any]:
    from pgfaucet.audit.record import timestamp

    return {
        "token": text,
        "id": made.public_name,
        "role": made.role,
        "label": made.label,
        "claims": dict(made.claims),
        "expires_at": timestamp(made.expires_at),
    }


@command.command(
    epilog="""\b
Example:
  pgfaucet token keygen signing.key
  pgfaucet token create -c policies/ --role support-agent --ttl 60m --label agent:run-1 --sign signing.key
"""
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def keygen(file: Path) -> None:
    """Make a key pair to sign tokens with: FILE for who signs, FILE.pub for the proxies (server.tokens.signed_by).

    Whoever has FILE can make tokens for every role. Keep it away from the proxies.
    """
    from pgfaucet.auth import signed

    public = file.with_name(f"{file.name}.pub")
    private_text, public_text = signed.new_key()
    try:
        _write_new(file, private_text, 0o600)
        _write_new(public, public_text, 0o644)
    except OSError as problem:
        raise click.ClickException(f"{problem.filename}: {problem.strerror}; name a new file") from None
    click.echo(f"{file} is for who signs; write server.tokens.signed_by: [{public}] for the proxies")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)


def _private_key(path: Path) -> Ed25519PrivateKey:
    from pgfaucet.auth import signed

    try:
        return signed.read_private(path.read_bytes())
    except OSError as problem:
        raise click.ClickException(f"{path}: {problem.strerror}; `pgfaucet token keygen` makes a key") from None
    except (ValueError, TypeError):
        raise click.ClickException(
            f"{path}: this is no Ed25519 private key; `pgfaucet token keygen` makes one"
        ) from None


def _terms(networks: tuple[str, ...], max_connections: int | None, *, one_time: bool) -> Terms:
    from pgfaucet.auth.principal import Terms, read_network

    try:
        return Terms(tuple(map(read_network, networks)), max_connections, one_time)
    except ValueError:
        raise click.UsageError("this is no network; write --network 10.0.4.0/24, or --network local") from None


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
    with _store(_load(directory)) as store:
        records = store.list()
    if as_json:
        for record in records:
            click.echo(orjson.dumps(_as_dict(record)))
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
    chosen = [_parse_id(text) for text in ids]
    loaded = _load(directory)
    with _store(loaded) as store:
        unknown = [public_id for public_id in chosen if not is_signed_id(public_id) and store.get(public_id) is None]
        ended = store.revoke(Selection(ids=tuple(chosen), label=label, role=role, everything=everything), time.time())
        known = [record for record in map(store.get, ended) if record is not None]
    signed_ids = [public_id for public_id in chosen if is_signed_id(public_id)]
    for name in [*(record.public_name for record in known), *signed_ids]:
        click.echo(name)
    meant = _selected(label, role, everything=everything)
    _note(loaded, "token_revoked", [*known, *map(_named_only, signed_ids)], meant)
    if not ids:
        _note(loaded, "signed_tokens_revoked", [_named_only("")], meant)
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
    public_id = _parse_id(token_id)
    with _store(_load(directory)) as store:
        record = store.get(public_id)
    if record is None:
        complain(f"there is no token fct_{public_id}; `pgfaucet token list` shows them")
        context.exit(REFUSED)
    shown = _as_dict(record)
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


def _load(directory: Path) -> Loaded:
    from pgfaucet.policy.loader import load

    return load(directory)


@contextlib.contextmanager
def _store(loaded: Loaded) -> Iterator[TokenStore]:
    from pgfaucet.auth.stores import open_store

    with _reported():
        store = open_store(loaded.config.server.tokens, time.time)
        try:
            yield store
        finally:
            store.close()


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Report that the store cannot be used."""
    from pgfaucet.auth.store import StoreUnavailable

    try:
        yield
    except StoreUnavailable as problem:
        raise click.ClickException(str(problem)) from None


def _named_only(public_id: str) -> Principal:
    """Stand in for a token that no store knows."""
    from pgfaucet.auth.principal import Principal

    return Principal(public_id, "", "", (), 0.0, is_stored=False)


def _note(loaded: Loaded, event: str, records: Sequence[TokenRecord | Principal], reason: str) -> None:
    """Write what is done to tokens into the administrators' audit log."""
    from pgfaucet.audit import adminlog
    from pgfaucet.audit.journal import AuditUnusable
    from pgfaucet.audit.keys import KeyUnusable
    from pgfaucet.audit.record import SessionFields

    by = f"by {getpass.getuser()} (uid {os.getuid()}) on {socket.gethostname()}: {reason}"
    actions = [
        (
            event,
            SessionFields(
                "", "", getpass.getuser(), "pgfaucet token", "", each.public_name, each.label, each.role, each.claims
            ),
            by,
        )
        for each in records
    ]
    try:
        if actions:
            adminlog.record(loaded.config.server.audit, actions, time.time)
    except (AuditUnusable, KeyUnusable) as problem:
        raise click.ClickException(str(problem)) from None


def _check_role(loaded: Loaded, role: str, directory: Path) -> None:
    from pgfaucet.policy.loader import PolicyErrors, unknown_role

    if role not in loaded.policy.roles:
        raise PolicyErrors([unknown_role(role, loaded.policy, directory)])


def _claims(texts: tuple[str, ...]) -> dict[str, str]:
    held: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.UsageError(f'"{text}" is not K=V; write --claim tenant=42')
        if name in held:
            raise click.UsageError(f"--claim {name} is written twice; keep one")
        held[name] = value
    return held


def _warn_of_missing_claims(loaded: Loaded, role: str, held: dict[str, str]) -> None:
    from pgfaucet.policy.compile import claims_used

    missing = sorted(claims_used(loaded.policy.roles[role]) - held.keys())
    if missing:
        complain(
            f"warning: role {role} uses claim {', '.join(missing)}, which this token lacks: filters that use it match no row"
        )


def _seconds(ttl: str, config: TokensConfig) -> float:
    from pgfaucet.policy.units import parse_duration

    try:
        seconds = parse_duration(ttl)
    except ValueError:
        raise click.UsageError(f'"{ttl}" is no duration; write --ttl 60m') from None
    if seconds > config.max_ttl:
        raise click.UsageError(
            f"--ttl {ttl} is longer than server.tokens.max_ttl allows, {config.max_ttl:g} s; write a shorter one"
        )
    return seconds


def _parse_id(text: str) -> str:
    from pgfaucet.auth.tokens import parse_id

    public_id = parse_id(text)
    if public_id is None:
        kind = "a whole token, secret included; write" if text.count("_") == 2 else "no token id; write"
        raise click.UsageError(f"this is {kind} just fct_ and the 12 characters behind it")
    return public_id


def _as_dict(record: TokenRecord) -> dict[str, Any]:
    from pgfaucet.audit.record import timestamp

    return {
        "id": record.public_name,
        "role": record.role,
        "label": record.label,
        "claims": dict(record.claims),
        "status": record.status(time.time()),
        "created_at": timestamp(record.created_at),
        "expires_at": timestamp(record.expires_at),
        "revoked_at": timestamp(record.revoked_at) if record.revoked_at is not None else None,
        "used_at": timestamp(record.used_at) if record.used_at is not None else None,
        **record.terms.as_dict(),
    }


def _row(record: TokenRecord) -> tuple[str, ...]:
    shown = _as_dict(record)
    claims = " ".join(f"{name}={value}" for name, value in record.claims)
    return (shown["id"], shown["status"], shown["expires_at"], record.role, record.label, claims)
