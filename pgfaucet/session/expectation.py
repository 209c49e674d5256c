"""What the server still owes: one entry for each frontend message sent upstream, in order.

Replies are matched to requests by this queue and never by a flag (PROTOCOL: each Sync gives exactly one ReadyForQuery,
an error skips everything up to the next Sync). Entries of kind LOCAL are answers of our own, kept in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgfaucet.errors import FaucetError
    from pgfaucet.plan import GivenText, StatementPlan
    from pgfaucet.session.statements import ClientStatement

LOCAL: Final = 0  # `answer` goes to the client when its turn comes
QUERY: Final = 1  # Query: a result for each statement, then ReadyForQuery
PARSE: Final = 2  # the client's Parse: ParseComplete
INJECTED_PARSE: Final = 3  # our Parse ahead of a Bind: its ParseComplete is swallowed
BIND: Final = 4
DESCRIBE: Final = 5  # RowDescription or NoData, after ParameterDescription for a statement
EXECUTE: Final = 6  # rows, then CommandComplete, PortalSuspended or EmptyQueryResponse
CLOSE: Final = 7  # CloseComplete
INJECTED_CLOSE: Final = 10  # our Close of a statement that had to make room
INJECTED_DESCRIBE: Final = (
    11  # our Describe of a statement that is prepared anew: is its result still what the client was told of?
)
SYNC: Final = 8  # ReadyForQuery
INTERNAL: Final = 9  # a batch of our own: everything up to its ReadyForQuery is ours, or, within a batch of the client's, to its last CloseComplete


InternalDone = Callable[[list[bytes], "FaucetError | None"], None]
"""Called at the end of a batch of our own with the bodies of its DataRows and the server's error, if there was one."""


class Expectation:
    """One request whose answer is outstanding."""

    __slots__ = (
        "answer",
        "asks",
        "bars",
        "bytes_before",
        "closes",
        "connection_statement",
        "copy_ends",
        "describes",
        "error",
        "given",
        "index",
        "kind",
        "name",
        "parameters",
        "plans",
        "portal",
        "restore",
        "rows_before",
        "runs",
        "sent",
        "source",
        "started",
        "then",
        "values",
    )

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.answer: bytes = b""  # LOCAL
        self.asks = False  # PARSE, QUERY: refused, and the server parses the text to word the error
        self.closes = 0  # INTERNAL: the number of CloseComplete that ends it; 0: ReadyForQuery does
        self.bars = False  # the client's next message waits for the outcome of this one
        self.plans: tuple[StatementPlan, ...] = ()  # QUERY, EXECUTE: what runs
        self.given: GivenText | None = None  # QUERY: literals and context, where they are not the plan's
        self.index = 0  # QUERY: which of `plans` is next
        self.error: FaucetError | None = None  # given instead of the server's error (a refusal, a limit passed)
        self.parameters: bytes = b""  # EXECUTE: bound parameter values as on the wire
        self.name = ""  # the client's name of the statement
        self.portal = ""  # BIND: the client's name of the portal
        self.restore: ClientStatement | None = None  # PARSE: made by it; CLOSE: removed by it; for when it is skipped
        self.describes: ClientStatement | None = None  # DESCRIBE, INJECTED_DESCRIBE
        self.runs = (
            b""  # BIND, DESCRIBE, QUERY: the prepared statement that it names, as called on the upstream connection
        )
        self.connection_statement = b""  # PARSE, INJECTED_PARSE: the name on the upstream connection
        self.copy_ends = 0  # QUERY, EXECUTE, SYNC: how often the client had ended a copy before it asked
        self.source = ""  # QUERY: the client's text, and
        self.sent = ""  # what was sent for it
        self.started = 0.0
        self.rows_before = 0
        self.bytes_before = 0
        self.then: InternalDone | None = None  # INTERNAL
        self.values: list[bytes] = []  # INTERNAL: DataRow bodies


def local(answer: bytes) -> Expectation:
    """Make the entry for an answer of our own."""
    made = Expectation(LOCAL)
    made.answer = answer
    return made
