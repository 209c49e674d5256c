"""What the guard decided for one query string: the value that the session, the audit, `explain` and the tests all read.

Frozen once built; kept in the plan cache and shared by every statement with the same key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgfaucet.errors import FaucetError


class StatementKind(Enum):
    """How the session has to treat a statement beyond forwarding it."""

    ORDINARY = "ordinary"
    TRANSACTION = "transaction"  # BEGIN, COMMIT, ROLLBACK, SAVEPOINT, ...
    SETTING = "setting"  # SET, RESET: `settings` names what may have changed
    DEALLOCATE = "deallocate"  # the session forgets `name`, or all when None
    DISCARD_ALL = "discard_all"
    PREPARE = "prepare"  # the session remembers `inner` as `name`
    EXECUTE = "execute"  # the session runs what it remembers as `name`
    EMPTY = "empty"  # no statement in the text


@dataclass(frozen=True)
class StatementPlan:
    """One statement of a query string, decided."""

    verb: str  # SELECT, INSERT, BEGIN, SET, ...: metric label and audit field
    tables: tuple[str, ...]  # "public.orders", sorted
    query: str  # normalised: no literal of the client's
    fingerprint: str  # 16 hex digits (libpg_query)
    literals: tuple[str, ...]  # the client's literals, in order: for the keyed hash only, never logged
    context: tuple[tuple[str, str], ...]  # sqlcommenter pairs
    reasons: tuple[str, ...]  # why it was allowed, for people
    sql: str  # what goes upstream, already verified; "" when refused
    error: FaucetError | None = None  # set when refused
    kind: StatementKind = StatementKind.ORDINARY
    name: str | None = None  # of DEALLOCATE, PREPARE, EXECUTE
    inner: InnerPlan | None = None  # of PREPARE
    is_step: bool = False  # one of several that stand for one of the client's: it is not told of its end
    settings: tuple[str, ...] = ()  # settings whose value this statement may change for the session
    resets: tuple[str, ...] = ()  # settings that go back to what the session began with; `*`: all
    tag: str | None = (
        None  # CommandComplete tag to give instead of the server's, e.g. SHOW for a rewritten SHOW; `*`: the number of rows
    )
    swallow_rows: bool = False  # rows come back only because of the post-check: T and D do not reach the client
    check_table: str | None = None  # relation of the WITH CHECK in it: maps the nonce error to 42501
    pin: str | None = None  # why the upstream connection must stay with this client, e.g. "WITH HOLD cursor"
    changes_catalog: bool = False  # what comes next is decided with the catalog read again
    observed: str | None = None  # under `mode: observe`: what would have been decided
    clean_errors: bool = True  # strip what upstream errors tell about rows and rewritten text


@dataclass(frozen=True)
class GivenText:
    """What the audit says of one text, where its plan is that of many."""

    literals: tuple[str, ...]
    context: tuple[tuple[str, str], ...]


LOOKS_AT_NAMES = "pg_prepared_statements"
LOOKS_AT_TEXT = "EXECUTE in text that the server runs"


@dataclass(frozen=True)
class QueryPlan:
    """A whole query string. If a statement is refused, it is the last one of `statements`."""

    statements: tuple[StatementPlan, ...]
    text: str  # upstream text of all allowed statements, joined as the server must see them
    query_frame: bytes = b""  # the text as a Query message
    parse_frame: bytes = b""  # the text as a Parse message under `statement_name`
    statement_name: bytes = (
        b""  # what the statement is called on upstream connections: made from text and parameter types
    )
    asked: str = ""  # the text of a refused query: the server says how it words the error, and parses it for that, but never runs it
    given: GivenText | None = None  # where the plan is shared by texts of one shape: what is this text's own
    looks_at: str = ""  # LOOKS_AT_NAMES or LOOKS_AT_TEXT: it may see what prepared statements are called upstream

    @property
    def refused(self) -> StatementPlan | None:
        """The refused statement, if there is one."""
        last = self.statements[-1] if self.statements else None
        return last if last is not None and last.error is not None else None


@dataclass(frozen=True)
class InnerPlan:
    """What a PREPARE prepares: its text, the types it declares, and what was decided about it."""

    source: str
    types: tuple[int, ...]
    plan: QueryPlan


EMPTY_STATEMENT: Final = StatementPlan("EMPTY", (), "", "", (), (), (), "", kind=StatementKind.EMPTY)
"""What an empty query string runs."""
