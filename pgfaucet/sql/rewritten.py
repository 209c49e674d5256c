"""What rewriting takes and gives, for every kind of statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgfaucet.plan import StatementKind

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node, World


@dataclass(frozen=True, slots=True)
class RewriteContext:
    """What the decision of one statement depends on."""

    world: World
    search_path: tuple[str, ...]
    text: str = ""  # the query string, for error positions
    parameter_types: tuple[int, ...] = ()  # OIDs given in Parse
    executed: tuple[str, ...] = ()  # tables of the prepared statement that an EXPLAIN EXECUTE names
    forwards: bool = False  # nothing is judged: only names of the session's own are to be found
    resets_session: bool = False  # the query string also says RESET ALL, as drivers do before they reuse a connection


@dataclass(frozen=True, slots=True)
class Inner:
    """The statement in a PREPARE, still to be decided, and the oids of the types that it declares."""

    text: str
    types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One of several statements that stand for one of the client's. The client hears only of the one that has a tag."""

    tree: Node
    tag: str | None = None  # `*` stands for the number of rows
    swallow_rows: bool = False


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One statement, decided: the tree to print, and what plan.StatementPlan says of it."""

    tree: Node
    verb: str
    tables: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    kind: StatementKind = StatementKind.ORDINARY
    name: str | None = None
    settings: tuple[str, ...] = ()
    tag: str | None = None
    swallow_rows: bool = False
    check_table: str | None = None
    pin: str | None = None
    inner: Inner | None = None
    changes_catalog: bool = False
    steps: tuple[Step, ...] = ()  # what is sent instead of `tree`


RewriteQuery = Callable[["Node", RewriteContext], Rewritten]
"""Rewrites SELECT, INSERT, UPDATE, DELETE or MERGE; given by the caller, since queries stand inside COPY, DECLARE and EXPLAIN."""
