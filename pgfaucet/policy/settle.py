"""`server` and `databases` as validated models, settled to a Config: absolute paths, and the rules between keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.config import (
    SQLITE,
    AuditConfig,
    DatabaseConfig,
    PoolConfig,
    ServerConfig,
    SinkConfig,
    SsoConfig,
    TlsConfig,
    TokensConfig,
)
from pgfaucet.policy.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pgfaucet.policy.document import DatabaseModel, ServerModel, SinkModel, SsoModel
    from pgfaucet.policy.model import Source

    Place = Callable[..., Source | str]

_FILE: Final = "file:"


def settle_server(model: ServerModel, directory: Path, place: Place, problems: list[Problem]) -> ServerConfig:
    """Make the server's configuration; relative paths start at the policy directory. `place` finds a key in the file."""
    tls = model.tls
    made = ServerConfig(
        listen=model.listen,
        tls=TlsConfig(directory / tls.cert, directory / tls.key, tls.required) if tls is not None else None,
        workers=model.workers,
        tokens=TokensConfig(_store(model.tokens.store, directory), model.tokens.max_ttl),
        audit=AuditConfig(
            file=directory / model.audit.file,
            key=directory / model.audit.key,
            durability=model.audit.durability,
            params=model.audit.params,
            rotate_bytes=model.audit.rotate.size,
            rotate_seconds=model.audit.rotate.every,
            sinks=tuple(_sink(each, directory) for each in model.audit.sinks),
        ),
        admin=model.admin,
        sso=tuple(_sso(each, directory) for each in model.sso),
    )
    problems.extend(_exposure(made, place))
    problems.extend(
        Problem(
            place("audit", "sinks", number, "format"),
            "otlp goes over HTTP only",
            "write to: https://..., or another format",
        )
        for number, each in enumerate(made.audit.sinks)
        if each.format == "otlp" and not each.to.startswith("http")
    )
    issuers = [each.issuer for each in made.sso]
    problems.extend(
        Problem(place("sso", number, "issuer"), f'issuer "{issuer}" is written twice', "keep one")
        for number, issuer in enumerate(issuers)
        if issuer in issuers[:number]
    )
    return made


def _sso(model: SsoModel, directory: Path) -> SsoConfig:
    values = model.model_dump()
    if model.jwks.startswith(_FILE):
        values["jwks"] = directory / model.jwks.removeprefix(_FILE)
    return SsoConfig(**values)


def _sink(model: SinkModel, directory: Path) -> SinkConfig:
    is_file = model.to.startswith(_FILE)
    to = f"{_FILE}{directory / model.to.removeprefix(_FILE)}" if is_file else model.to
    return SinkConfig(to, model.what, model.format)


def _store(text: str, directory: Path) -> str:
    return f"{SQLITE}{directory / text.removeprefix(SQLITE)}" if text.startswith(SQLITE) else text


def _exposure(server: ServerConfig, place: Place) -> Iterator[Problem]:
    """Report that tokens could cross a network in clear text."""
    exposed = [address for address in server.listen if not address.is_loopback]
    if not exposed:
        return
    if server.tls is None:
        what = f"{exposed[0]} can be reached from other machines without TLS"
        yield Problem(place("listen"), what, "write tls: {cert: FILE, key: FILE}, or listen on 127.0.0.1")
    elif not server.tls.required:
        what = f"TLS must be required: {exposed[0]} can be reached from other machines"
        yield Problem(place("tls", "required"), what, "write required: true, or remove it")


def settle_database(name: str, model: DatabaseModel) -> DatabaseConfig:
    """Make the configuration of one database."""
    return DatabaseConfig(name, model.dsn, model.password, PoolConfig(**model.pool.model_dump()))
