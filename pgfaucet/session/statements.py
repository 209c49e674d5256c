"""The prepared statements and portals of one client.

A client's statement names are its own; on upstream connections the same text under the same decision is prepared once, under a
name made from the plan, whoever asked for it (PROTOCOL section E, 59-63).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgfaucet.guard import Guard
    from pgfaucet.plan import QueryPlan

MAX_NAME_BYTES = 63  # NAMEDATALEN - 1: longer names are cut, as the server does


class ClientStatement:
    """The result of a Parse: the text as the client sent it, and what was decided about it."""

    __slots__ = ("guard", "name", "plan", "search_path", "text", "types")

    def __init__(
        self, name: str, text: str, types: tuple[int, ...], search_path: tuple[str, ...], guard: Guard, plan: QueryPlan
    ) -> None:
        self.name = name
        self.text = text
        self.types = types
        self.search_path = search_path
        self.guard = guard
        self.plan = plan


class Portal:
    """A bound statement: what Execute will run, with the parameter values for the audit record."""

    __slots__ = ("parameters", "statement")

    def __init__(self, statement: ClientStatement, parameters: bytes) -> None:
        self.statement = statement
        self.parameters = parameters


def cut_name(name: str) -> str:
    """Cut a statement or portal name to what the server keeps of it (src/backend/parser/scansup.c, truncate_identifier)."""
    raw = name.encode()
    return name if len(raw) <= MAX_NAME_BYTES else raw[:MAX_NAME_BYTES].decode(errors="ignore")
