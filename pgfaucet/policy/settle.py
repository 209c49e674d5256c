"""`server` and `databases` as validated models, settled to a Config: absolute paths, and the rules between keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.auth.signed import ISSUER as OWN_ISSUER
from pgfaucet.config import (
    SQLITE,
    AuditConfig,
    DatabaseConfig,
    PoolConfig,
    ServerConfig,
    SinkConfig,
    SsoConfig,
    ThrottleConfig,
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
        tokens=TokensConfig(
            _store(model.tokens.store, directory),
            model.tokens.max_ttl,
            tuple(directory / each for each in model.tokens.signed_by),
        ),
        throttle=ThrottleConfig(**model.throttle.model_dump()),
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
    problems.extend(_unfit_sinks(made, place))
    problems.extend(_same_issuers(made, place))
    return made


def _unfit_sinks(server: ServerConfig, place: Place) -> Iterator[Problem]:
    for number, each in enumerate(server.audit.sinks):
        if each.format in ("otlp", "spans") and not each.to.startswith("http"):
            where = place("audit", "sinks", number, "format")
            yield Problem(where, f"{each.format} goes over HTTP only", "write to: https://..., or another format")


def _same_issuers(server: ServerConfig, place: Place) -> Iterator[Problem]:
    seen = {OWN_ISSUER}
    for number, each in enumerate(server.sso):
        if each.issuer in seen:
            where = place("sso", number, "issuer")
            yield Problem(where, f'issuer "{each.issuer}" is there already', "keep one, or name another")
        seen.add(each.issuer)


def _sso(model: SsoModel, directory: Path) -> SsoConfig:
    values = model.model_dump(exclude={"oauth"})
    if model.oauth is not None:
        values |= {"oauth_users": model.oauth.users, "oauth_scope": model.oauth.scope}
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


def settle_database(name: str, model: DatabaseModel, directory: Path) -> DatabaseConfig:
    """Make the configuration of one database; a relative path starts at the policy directory."""
    program = model.password_command[:1]
    if program and "/" in program[0]:
        program = (str(directory / program[0]),)
    return DatabaseConfig(
        name,
        model.dsn,
        model.password,
        PoolConfig(**model.pool.model_dump()),
        directory / model.password_file if model.password_file is not None else None,
        program + model.password_command[1:],
    )
