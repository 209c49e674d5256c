"""Values that the resolution of policy expressions works on: what stands in FROM, query levels, and what went wrong."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Body = dict[str, Any]
"""What stands under a node's name in its tree."""


class PolicyError(Exception):
    """What is wrong with an expression of the policy; `position` counts its characters from 1."""

    def __init__(self, message: str, position: int | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.hint = hint
        self.location: int | None = None  # byte offset into the text that was parsed

    def located_in(self, text: str, prefix: int) -> PolicyError:
        """Fill in the position, once the text is known; `prefix` bytes were parsed in front of it."""
        if self.location is not None and self.position is None:
            self.position = len(text.encode()[: self.location - prefix].decode(errors="ignore")) + 1
        return self


@dataclass(slots=True)
class Entry:
    """Something in FROM. `columns` None: not known, so that it can only be reached as alias.column."""

    name: str | None  # as the policy writes it
    alias: str  # as it is printed
    columns: tuple[str, ...] | None
    schema: str | None = None  # of a relation without an alias
    merged: frozenset[str] = frozenset()  # columns that a JOIN USING above shows in their place

    def bare(self, name: str) -> int:
        """Count the columns that the bare name could mean."""
        return 0 if self.columns is None or name in self.merged else self.columns.count(name)


@dataclass(slots=True)
class Scope:
    """One query level."""

    parent: Scope | None
    entries: list[Entry] = field(default_factory=list)
    queries: dict[str, Entry] = field(default_factory=dict)  # WITH queries: `alias` is what they are printed as
    outputs: frozenset[str] = frozenset()  # names that ORDER BY may take from the target list

    def levels(self) -> Iterable[Scope]:
        """Yield this level and those around it, innermost first."""
        level: Scope | None = self
        while level is not None:
            yield level
            level = level.parent


def mistake(message: str, body: Body, hint: str | None = None) -> PolicyError:
    """Make the error for something at a place of the expression."""
    error = PolicyError(message, hint=hint)
    location = body.get("location")
    error.location = location if isinstance(location, int) and location >= 0 else None
    return error


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the hint that names what may have been meant."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f'Did you mean "{found[0]}"?' if found else None
