"""What `server` and `databases` of a policy directory say, as frozen values with safe defaults.

Read by `policy.loader`; used by `cli` and `server` only, everything below them receives plain values. No repr shows a secret.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from typing_extensions import override

DEFAULT_PORT: Final = 6432
SSO_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""Asymmetric ones, each with its own kind of key."""
SQLITE: Final = "sqlite:"
MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path of Linux, less its NUL


class TcpAddress(NamedTuple):
    """A host name or IP address, and a port. An IPv6 address has no brackets here."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost is taken for one that others can reach."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @override
    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixAddress(NamedTuple):
    """A directory that holds a Unix-domain socket, named as PostgreSQL names it."""

    directory: Path
    port: int

    @property
    def path(self) -> Path:
        """The socket file, where libpq looks for it."""
        return self.directory / f".s.PGSQL.{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return True

    @override
    def __str__(self) -> str:
        return f"unix:{self.directory}" if self.port == DEFAULT_PORT else f"unix:{self.directory}:{self.port}"


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """How clients are offered TLS."""

    cert: Path
    key: Path
    required: bool = True


@dataclass(frozen=True, slots=True)
class TokensConfig:
    """Where tokens are kept, and for how long one may be valid."""

    store: str = field(repr=False)  # sqlite:/absolute/path, or postgresql://..., which may hold a password
    max_ttl: float = 86_400.0  # seconds
    signed_by: tuple[Path, ...] = ()  # public keys of those who may sign tokens

    @property
    def path(self) -> Path | None:
        """The file of a SQLite store; None for another one."""
        return Path(self.store.removeprefix(SQLITE)) if self.store.startswith(SQLITE) else None


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """Another place for audit records and checkpoints."""

    to: str = field(repr=False)  # stdout, file:, syslog:, postgresql:, http(s):; may hold a password
    what: str = "all"  # records | checkpoints | all
    format: str = "json"  # ocsf | otlp | spans

    @property
    def name(self) -> str:
        """The place as people see it: nothing of a password."""
        kind, _, where = self.to.partition(":")
        if kind in ("postgresql", "postgres", "http", "https"):
            return f"{kind}://{where.rpartition('@')[2].lstrip('/').partition('?')[0]}"
        return self.to


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """Where records go, and what is known to be on disk when."""

    file: Path
    key: Path  # of the hash over parameters; made when missing
    durability: str = "batch"  # async | batch | strict
    params: str = "hash"  # hash | full | none
    rotate_bytes: int | None = None  # a new file is begun before one would grow beyond this
    rotate_seconds: float | None = None
    sinks: tuple[SinkConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class SsoConfig:
    """An identity provider whose signed tokens are passwords here."""

    issuer: str
    audience: tuple[str, ...]
    jwks: str | Path  # the address of its keys, or their file
    role_claim: str
    roles: dict[str, str]  # by a value of that claim; the first that fits
    claims: dict[str, str]  # ours: theirs
    algorithms: tuple[str, ...] = SSO_ALGORITHMS
    leeway: float = 30.0  # seconds by which clocks may differ
    max_ttl: float = 28_800.0  # seconds that a session may last, whatever the token says
    oauth_users: tuple[str, ...] = ()  # globs: user names that are asked for OAUTHBEARER
    oauth_scope: str = "openid"

    @property
    def discovery(self) -> str:
        """Where the provider describes itself (OpenID Connect Discovery 1.0, section 4)."""
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class ThrottleConfig:
    """How often an address may fail to log in."""

    failures: int = 20  # at once, and in each
    period: float = 60.0  # seconds
    spared: tuple[str, ...] = ("127.0.0.0/8", "::1/128", "local")  # networks that many clients share


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The `server` section. Paths are absolute."""

    tokens: TokensConfig
    audit: AuditConfig
    listen: tuple[Address, ...] = (TcpAddress("127.0.0.1", DEFAULT_PORT),)
    tls: TlsConfig | None = None
    workers: int = 1  # 0: one for each core
    admin: TcpAddress | None = None
    sso: tuple[SsoConfig, ...] = ()
    throttle: ThrottleConfig = ThrottleConfig()


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Upstream connections of one database. Times are seconds."""

    mode: str = "transaction"  # or session
    size: int = 20
    min: int = 0
    idle_timeout: float = 300.0
    max_lifetime: float = 3_600.0
    wait_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """One entry under `databases`."""

    name: str
    dsn: str = field(repr=False)  # may hold a password
    password: str | None = field(default=None, repr=False)
    pool: PoolConfig = PoolConfig()
    password_file: Path | None = None  # read for each connection
    password_command: tuple[str, ...] = ()  # its output is the password


@dataclass(frozen=True, slots=True)
class Config:
    """The `server` and `databases` sections of a policy directory."""

    server: ServerConfig
    databases: dict[str, DatabaseConfig]


def parse_tcp_address(text: str) -> TcpAddress:
    """Read HOST:PORT or [IPV6]:PORT.

    Raises ValueError whose text says what is wrong; what to do.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f'"{text}" is not an address; write HOST:PORT, as in 127.0.0.1:6432')
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if host in ("", "*"):
        raise ValueError(
            f'"{text}" names no host; write 0.0.0.0:{port} for every IPv4 address, [::]:{port} for every address'
        )
    if bracketed != (":" in host) or any(character.isspace() or character in "/@[]" for character in host):
        raise ValueError(f'"{text}" is not an address; write HOST:PORT, an IPv6 address in brackets: [::1]:6432')
    return TcpAddress(host, int(port))


def parse_address(text: str) -> Address:
    """Read HOST:PORT, [IPV6]:PORT, unix:/DIRECTORY or unix:/DIRECTORY:PORT.

    Raises ValueError whose text says what is wrong; what to do.
    """
    if not text.startswith("unix:"):
        return parse_tcp_address(text)
    directory, separator, port = text.removeprefix("unix:").rpartition(":")
    if not separator:
        directory, port = port, str(DEFAULT_PORT)
    if not directory.startswith("/") or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f'"{text}" is not a socket directory; write its absolute path, as in unix:/run/pgfaucet')
    address = UnixAddress(Path(directory), int(port))
    if len(str(address.path).encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f'"{text}" is too long for a socket; write a path of at most {MAX_SOCKET_PATH_BYTES - 16} bytes'
        )
    return address
