"""What the `pgfaucet token` commands share: the policy directory, the token store, the administrators' audit log, and how a token is shown."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgfaucet.auth.principal import Principal
    from pgfaucet.auth.store import TokenStore
    from pgfaucet.auth.tokens import TokenRecord
    from pgfaucet.policy.loader import Loaded

directory_option = click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)


def load(directory: Path) -> Loaded:
    """Load the policy directory. Raises PolicyErrors."""
    from pgfaucet.policy import loader

    return loader.load(directory)


@contextlib.contextmanager
def open_store(loaded: Loaded) -> Iterator[TokenStore]:
    """Lend the token store."""
    from pgfaucet.auth import stores

    with reported():
        store = stores.open_store(loaded.config.server.tokens, time.time)
        try:
            yield store
        finally:
            store.close()


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Report that the store cannot be used."""
    from pgfaucet.auth.store import StoreUnavailable

    try:
        yield
    except StoreUnavailable as problem:
        raise click.ClickException(str(problem)) from None


def named_only(public_id: str) -> Principal:
    """Stand in for a token that no store knows."""
    from pgfaucet.auth.principal import Principal

    return Principal(public_id, "", "", (), 0.0, is_stored=False)


def note(loaded: Loaded, event: str, records: Sequence[TokenRecord | Principal], reason: str) -> None:
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


def parse_id(text: str) -> str:
    """Read an id that a person wrote."""
    from pgfaucet.auth.tokens import parse_id

    public_id = parse_id(text)
    if public_id is None:
        kind = "a whole token, secret included; write" if text.count("_") == 2 else "no token id; write"
        raise click.UsageError(f"this is {kind} just fct_ and the 12 characters behind it")
    return public_id


def as_dict(record: TokenRecord) -> dict[str, Any]:
    """Return what people see of a token."""
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
