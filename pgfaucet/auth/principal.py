"""Who a token proves, and what it asks of who uses it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final, Self

LOCAL: Final = "local"
"""Stands for clients on a Unix-domain socket, among networks and as their address."""


def read_network(text: str) -> str:
    """Return a network as it is kept: `local`, or CIDR notation. Raises ValueError."""
    return text if text == LOCAL else str(ipaddress.ip_network(text, strict=False))


def is_in(address: str, networks: tuple[str, ...]) -> bool:
    """Whether a client's address is in one of some networks; `local` is in `local` alone."""
    if address == LOCAL:
        return LOCAL in networks
    ip = ipaddress.ip_address(address.partition("%")[0])
    plain = getattr(ip, "ipv4_mapped", None) or ip
    return any(plain in ipaddress.ip_network(network) for network in networks if network != LOCAL)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a token asks beyond its secret."""

    networks: tuple[str, ...] = ()  # clients come from one of these; from anywhere when empty
    max_connections: int | None = None  # sessions at once
    is_one_time: bool = False  # it opens one session

    @classmethod
    def of(cls, written: dict[str, Any]) -> Self:
        """Read what `as_dict` wrote. Raises TypeError and ValueError: terms that are not understood are no terms to let go."""
        unknown = written.keys() - {"networks", "max_connections", "one_time"}
        networks, most = written.get("networks", []), written.get("max_connections")
        if unknown or not isinstance(networks, list) or not (most is None or (type(most) is int and most > 0)):
            raise ValueError("terms of a token that are not understood")
        return cls(tuple(read_network(each) for each in networks), most, bool(written.get("one_time", False)))

    def as_dict(self) -> dict[str, Any]:
        """Return what differs from a token without terms, for JSON."""
        made: dict[str, Any] = {}
        if self.networks:
            made["networks"] = list(self.networks)
        if self.max_connections is not None:
            made["max_connections"] = self.max_connections
        if self.is_one_time:
            made["one_time"] = True
        return made


NO_TERMS: Final = Terms()


@dataclass(frozen=True, slots=True)
class Principal:
    """The bearer of a valid token. Times are Unix seconds."""

    token_id: str  # public id; without the fct_ prefix if it is stored
    role: str
    label: str
    claims: tuple[tuple[str, str], ...]  # sorted by key
    expires_at: float
    is_stored: bool = True  # False: proved by a signature; no store knows it
    terms: Terms = NO_TERMS
    issued_at: float = 0.0  # of a signed token, at the latest: revocations from then on end it

    @property
    def public_name(self) -> str:
        """The token's id as people see it."""
        return f"fct_{self.token_id}" if self.is_stored else self.token_id
