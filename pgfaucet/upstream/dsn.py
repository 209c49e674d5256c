"""Where the server is and how to get in: connection strings as libpq reads them.

Source: manual, libpq-connect ("Connection Strings", "Parameter Key Words") and libpq-pgpass ("The Password File").
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgfaucet.upstream.password import PasswordSource

DEFAULT_PORT: Final = 5432
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
CHANNEL_BINDINGS: Final = ("disable", "prefer", "require")
SESSION_ATTRIBUTES: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
KNOWN: Final = frozenset(
    {
        "host", "port", "user", "password", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding",
        "connect_timeout", "application_name", "target_session_attrs", "passfile",
    }
)  # fmt: skip
_PAIR: Final = re.compile(r"\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))", re.DOTALL)
_PASSFILE_LINE: Final = re.compile(":".join([r"((?:[^:\\]|\\.)*)"] * 5))
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


class DsnError(ValueError):
    """A connection string that can't be used; the message says why and never holds a password."""


@dataclass(frozen=True, slots=True)
class Host:
    """One server of a target: a name or address with a port, or the directory of a Unix-domain socket."""

    name: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether it is a directory with a Unix-domain socket."""
        return self.name.startswith(("/", "@"))

    @property
    def socket_path(self) -> str:
        """The socket's address for connect(): a file, or an abstract name where the directory starts with @."""
        path = f"{self.name}/.s.PGSQL.{self.port}"
        return f"\0{path[1:]}" if path.startswith("@") else path


@dataclass(frozen=True, slots=True)
class Target:
    """A database on one of some servers, and the account to use there."""

    hosts: tuple[Host, ...]
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    channel_binding: str = "prefer"
    connect_timeout: float = 10.0
    application_name: str = "pgfaucet"
    target_session_attrs: str = "any"
    passfile: str | None = None
    source: PasswordSource | None = field(default=None, repr=False)

    def password_for(self, host: Host) -> str | None:
        """Return the password, unless `source` gives it: the configured one, else the password file's for that host."""
        if self.password is not None:
            return self.password
        path = Path(self.passfile or os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
        return password_from_file(
            path, "localhost" if host.is_socket else host.name, host.port, self.database, self.user
        )


def parse_dsn(text: str, *, password: str | None = None) -> Target:
    """Read a URI or keyword=value string; `password` overrides the one in it. Raises DsnError."""
    is_uri = text.startswith(("postgresql://", "postgres://"))
    values = _from_uri(text) if is_uri else _from_keywords(text)
    unknown = sorted(values.keys() - KNOWN)
    if unknown:
        raise DsnError(f'connection option "{unknown[0]}" is not supported; known are {", ".join(sorted(KNOWN))}')
    for name, allowed in (
        ("sslmode", SSL_MODES),
        ("channel_binding", CHANNEL_BINDINGS),
        ("target_session_attrs", SESSION_ATTRIBUTES),
    ):
        if name in values and values[name] not in allowed:
            raise DsnError(f"{name} must be one of {', '.join(allowed)}")
    if values.get("sslrootcert") == "system" and values.setdefault("sslmode", "verify-full") != "verify-full":
        raise DsnError("sslrootcert=system needs sslmode=verify-full: anybody can have a certificate that it trusts")
    user = values.get("user") or os.environ.get("PGUSER")
    if not user:
        raise DsnError("the connection string names no user")
    target = Target(
        hosts=_hosts(values.get("host", ""), values.get("port", "")),
        user=user,
        database=values.get("dbname") or user,
        password=password if password is not None else values.get("password") or os.environ.get("PGPASSWORD"),
        connect_timeout=_seconds(values.get("connect_timeout", "10")),
    )
    plain = (
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "channel_binding",
        "application_name",
        "target_session_attrs",
        "passfile",
    )
    return replace(target, **{name: values[name] for name in plain if name in values})  # type: ignore[arg-type] # all are text


def _from_uri(text: str) -> dict[str, str]:
    # By hand: urllib.parse knows one host only, reads + as a blank, and drops what follows a #. libpq does none of that.
    _, _, rest = text.partition("://")
    account_end = rest.partition("/")[0].find("@")
    location, _, options = rest[account_end + 1 :].partition("?")
    hosts, _, database = location.partition("/")
    if "@" in hosts:
        raise DsnError("in the user and password of a URI, write @ as %40 and / as %2F")
    user, colon, secret = rest[: max(account_end, 0)].partition(":")
    names, ports = _split_hosts(hosts)
    values: dict[str, str] = {}
    for name, value, is_given in (
        ("user", user, bool(user)),
        ("password", secret, bool(colon)),
        ("host", ",".join(names), any(names)),
        ("port", ",".join(ports), any(ports)),
        ("dbname", database, bool(database)),
    ):
        if is_given:
            values[name] = _decoded(value)
    return values | _uri_options(options)


def _uri_options(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for option in filter(None, text.split("&")):
        name, separator, value = option.partition("=")
        if not separator:
            raise DsnError("an option of a URI is written name=value")
        if (name, value) == ("ssl", "true"):  # JDBC's spelling, which libpq takes too
            name, value = "sslmode", "require"
        values[_decoded(name)] = _decoded(value)
    return values


def _decoded(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise DsnError("in a URI, % is followed by two hexadecimal digits other than 00; write % itself as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise DsnError("an escape in the URI is not UTF-8") from None


def _split_hosts(hosts: str) -> tuple[list[str], list[str]]:
    names: list[str] = []
    ports: list[str] = []
    for entry in hosts.split(","):
        if entry.startswith("["):
            name, _, port = entry[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = entry.partition(":")
        names.append(name)
        ports.append(port)
    return names, ports


def _from_keywords(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    position = 0
    while text[position:].strip():
        found = _PAIR.match(text, position)
        if found is None:
            raise DsnError("a connection string is a postgresql:// URI or a list of keyword=value")
        raw = found.group(2) if found.group(2) is not None else found.group(3)
        values[found.group(1)] = re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL)
        position = found.end()
    return values


def _hosts(names: str, ports: str) -> tuple[Host, ...]:
    host_list = names.split(",") if names else [os.environ.get("PGHOST", "localhost")]
    port_list = ports.split(",") if ports else [os.environ.get("PGPORT", "")]
    if len(port_list) not in (1, len(host_list)):
        raise DsnError(f"{len(port_list)} ports for {len(host_list)} hosts")
    if len(port_list) == 1:
        port_list *= len(host_list)
    found: list[Host] = []
    for name, port in zip(host_list, port_list, strict=True):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise DsnError("a port is a number from 1 to 65535; in a URI, write / in a password as %2F and @ as %40")
        found.append(Host(name or "localhost", int(port) if port else DEFAULT_PORT))
    return tuple(found)


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit()):
        raise DsnError(f'connect_timeout must be whole seconds, not "{text}"')
    return float(text) or 10.0


def password_from_file(path: Path, host: str, port: int, database: str, user: str) -> str | None:
    """Look a password up in a password file. A file that others can read is ignored, as libpq does."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return None
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    wanted: Mapping[int, str] = dict(enumerate((host, str(port), database, user)))
    for line in lines:
        entry = _PASSFILE_LINE.match(line)
        if entry is None or line.startswith("#"):
            continue
        fields = [re.sub(r"\\(.)", r"\1", part) for part in entry.groups()]
        if all(fields[i] in ("*", wanted[i]) for i in wanted):
            return fields[4]
    return None
