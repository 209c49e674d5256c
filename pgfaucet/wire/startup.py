"""The start-up packet: protocol version, parameters, protocol options.

Source: manual, "Message Formats" (StartupMessage); src/backend/tcop/backend_startup.c (ProcessStartupPacket).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.wire.messages import PROTOCOL_3_0, PROTOCOL_3_2, violation

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 10_004
PROTOCOL_3_1: Final = 196_609


@dataclass(frozen=True, slots=True)
class StartupPacket:
    """What a client asks for. `version` is what will be spoken; `negotiates` says that the client must be told `negotiated`."""

    version: int
    parameters: dict[str, str]
    unknown_options: tuple[str, ...]
    negotiates: bool

    @property
    def negotiated(self) -> int:
        """The version that NegotiateProtocolVersion names: the newest we speak of those the client may ask for."""
        return self.version

    @property
    def user(self) -> str:
        """The user name; empty when there is none."""
        return self.parameters.get("user", "")

    @property
    def database(self) -> str:
        """The database name; the user name when there is none."""
        return self.parameters.get("database") or self.user


def major_version(body: bytes) -> int:
    """Return the major version of the protocol that a start-up packet asks for."""
    return int.from_bytes(body[:2], "big")


def unsupported(body: bytes) -> str:
    """Word the refusal of the protocol that a start-up packet asks for."""
    minor = int.from_bytes(body[2:4], "big")
    return f"unsupported frontend protocol {major_version(body)}.{minor}: server supports 3.0 to 3.2"


def parse_startup(body: bytes) -> StartupPacket:
    """Read a start-up packet without its length word.

    Raises FaucetError: 0A000 for a major version other than 3, 08P01 for a broken layout.
    """
    version = int.from_bytes(body[:4], "big")
    if major_version(body) != 3:
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, unsupported(body))
    everything = _pairs(body)
    parameters = {name: value for name, value in everything.items() if not name.startswith("_pq_.")}
    unknown = tuple(name for name in everything if name.startswith("_pq_."))
    spoken = PROTOCOL_3_2 if version >= PROTOCOL_3_2 else PROTOCOL_3_0
    return StartupPacket(spoken, parameters, unknown, version > PROTOCOL_3_2 or bool(unknown))


def _pairs(body: bytes) -> dict[str, str]:
    """Split name and value strings; the last of two equal names wins."""
    try:
        parts = body[4:-1].decode().split("\0")
    except UnicodeDecodeError:
        raise violation("invalid startup packet: parameters are not UTF-8") from None
    if len(body) < 5 or body[-1:] != b"\0" or parts.pop() or len(parts) % 2 or not all(parts[::2]):
        raise violation("invalid startup packet layout: expected terminator as last byte")
    return dict(zip(parts[::2], parts[1::2], strict=True))
