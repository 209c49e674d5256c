"""The prepared statements and portals of one client.

A client's statement names are its own; on upstream connections the same text under the same decision is prepared once, under a
name made from the plan, whoever asked for it (PROTOCOL section E, 59-63).

The server reads the constants of a statement when it prepares it: `'01/02/2024'::date` is what DateStyle says then. So the name tells
the settings too, and nobody executes what was prepared under the settings of somebody else.

Under `access: full` what a text means depends on more than can be named (the schema as it is at that moment, search_path, temporary
tables): each Parse reaches the server, as it would without a proxy, and makes a statement of the client's own.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import TYPE_CHECKING, Final

from pgfaucet.plan import StatementKind
from pgfaucet.wire import messages
from pgfaucet.wire.encodings import UTF8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgfaucet.guard import Guard
    from pgfaucet.plan import QueryPlan

numbers: Final = itertools.count(1)
"""Tell statements apart that must not be shared."""

_NO_MATTER: Final = re.compile(r"pgfaucet\..*|application_name|[a-z_]*_timeout")
"""Settings under which every constant means the same."""
MAX_NAME_BYTES: Final = 63  # NAMEDATALEN - 1: longer names are cut, as the server does


class ClientStatement:
    """The result of a Parse: the text as the client sent it, and what was decided about it."""

    __slots__ = (
        "executes",
        "guard",
        "is_changed",
        "name",
        "own",
        "parameters",
        "plan",
        "result",
        "search_path",
        "text",
        "types",
        "written",
    )

    def __init__(
        self, name: str, text: str, types: tuple[int, ...], search_path: tuple[str, ...], guard: Guard, plan: QueryPlan
    ) -> None:
        self.name = name
        self.text = text
        self.result: bytes | None = None  # what stands for the columns that the client was told of
        self.parameters: tuple[int, ...] = ()  # oids of the types that the client was told of
        self.is_changed = False  # the server gives other columns now
        self.written = ""  # the PREPARE that made it, if one did
        self.types = types
        self.search_path = search_path
        self.guard = guard
        self.plan = plan
        self.executes: ClientStatement | None = None  # the one that this one names
        is_transaction = [each.kind for each in plan.statements] == [
            StatementKind.TRANSACTION
        ]  # means the same to everybody
        self.own = b"_x%x" % next(numbers) if guard.forwards_everything and not is_transaction else b""


class Portal:
    """A bound statement: what Execute will run, with the parameter values for the audit record."""

    __slots__ = ("parameters", "statement")

    def __init__(self, statement: ClientStatement, parameters: bytes) -> None:
        self.statement = statement
        self.parameters = parameters


def portal_name(name: str) -> str:
    """Cut a portal's name in the protocol to what the server keeps of it: bytes, whatever character they belong to (utils/hash/dynahash.c)."""
    raw = name.encode()
    return name if len(raw) <= MAX_NAME_BYTES else raw[:MAX_NAME_BYTES].decode(errors="surrogateescape")


def cut_name(name: str) -> str:
    """Cut a statement or portal name to what the server keeps of it (src/backend/parser/scansup.c, truncate_identifier)."""
    raw = name.encode()
    return name if len(raw) <= MAX_NAME_BYTES else raw[:MAX_NAME_BYTES].decode(errors="ignore")


def settings_suffix(settings: Mapping[str, str]) -> bytes:
    """Name the settings that a statement may be prepared under; empty for those that a connection starts with."""
    matter = sorted(item for item in settings.items() if _NO_MATTER.fullmatch(item[0]) is None)
    return b"_" + hashlib.sha256(repr(matter).encode()).hexdigest()[:16].encode() if matter else b""


def parse_frame(plan: QueryPlan, upstream_name: bytes, types: tuple[int, ...], codec: str) -> bytes:
    """Make the Parse of a plan under the name that it has on the connection."""
    if upstream_name == plan.statement_name and codec == UTF8:
        return plan.parse_frame
    return messages.parse(upstream_name.decode(codec), plan.text, types, codec)
