"""`pgfaucet token create`, `rotate` and `keygen`: everything that makes a token, or the key to sign one."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click
import orjson

from pgfaucet.cli.main import REFUSED, complain
from pgfaucet.cli.token_parts import directory_option, load, note, open_store, parse_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from pgfaucet.auth.principal import Principal, Terms
    from pgfaucet.auth.tokens import TokenRecord
    from pgfaucet.config import TokensConfig
    from pgfaucet.policy.loader import Loaded


class _Wanted(TypedDict):
    """What both kinds of token are made from."""

    ttl: float
    now: float
    rng: Callable[[int], bytes]
    terms: Terms


@click.command(
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
    loaded = load(directory)
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
            note(loaded, "token_created", [principal], f"valid for {ttl}, signed")
            return text, principal
        text, record = tokens.mint(role, label, claims, **wanted)
    except ValueError as problem:
        raise click.UsageError(f"{problem}; choose another one") from None
    with open_store(loaded) as store:
        # First: a token that nobody knows of is worse than a record too many.
        note(loaded, "token_created", [record], f"valid for {ttl}")
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


@click.command(
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


@click.command(
    epilog="""\b
Example:
  token=$(pgfaucet token rotate -c policies/ fct_8c1x0k2m4p7q --ttl 8h)
  pgfaucet token rotate -c policies/ fct_8c1x0k2m4p7q --revoke
"""
)
@directory_option
@click.argument("token_id", metavar="ID")
@click.option("--ttl", metavar="DURATION", help="How long the new one is valid; as long as the old one was by default.")
@click.option("--revoke", "ends_old", is_flag=True, help="End the old one, and its sessions, at once.")
@click.option("--json", "as_json", is_flag=True, help="An object with token, id, role, label, claims, expires_at.")
@click.pass_context
def rotate(
    context: click.Context, directory: Path, *, token_id: str, ttl: str | None, ends_old: bool, as_json: bool
) -> None:
    """Mint a token with the role, label, claims and terms of another, and print it.

    The old one stays valid until it expires, so that who uses it can change over; with --revoke it ends once the new one is there.
    """
    from pgfaucet.auth.store import Selection

    public_id = parse_id(token_id)
    loaded = load(directory)
    with open_store(loaded) as store:
        old = store.get(public_id)
    if old is None or old.status(time.time()) != "valid":
        complain(f"there is no valid token {token_id}; `pgfaucet token list` shows them")
        context.exit(REFUSED)
    _check_role(loaded, old.role, directory)
    lasts = f"{old.expires_at - old.created_at:.0f}s" if ttl is None else ttl
    seconds = _seconds(lasts, loaded.config.server.tokens)
    wanted: _Wanted = {"ttl": seconds, "now": time.time(), "rng": secrets.token_bytes, "terms": old.terms}
    text, made = _mint(loaded, None, old.role, old.label, dict(old.claims), wanted, lasts)
    click.echo(orjson.dumps(_minted(text, made)) if as_json else text)
    if ends_old:
        with open_store(loaded) as store:
            store.revoke(Selection(ids=(public_id,)), time.time())
        note(loaded, "token_revoked", [old], f"rotated to {made.public_name}")


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
