"""Query strings of several statements that can't be decided as one: what follows a CREATE TABLE may name the table.

Such a string is run in parts, each of which is decided when the part before it is through, in one transaction as the server would have it
(protocol-flow, "Multiple Statements in a Simple Query"): BEGIN and COMMIT around the parts are ours, and the client sees one ReadyForQuery.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pgfaucet.plan import StatementPlan
from pgfaucet.session import expectation as expect
from pgfaucet.session.deciding import DONE, NOT_YET, DecidingSide
from pgfaucet.session.expectation import Expectation
from pgfaucet.session.state import FAILED, IDLE, IN_TRANSACTION
from pgfaucet.sql.parts import parts_of
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.errors import FaucetError
    from pgfaucet.plan import QueryPlan


class Script:
    """A query string in parts: what is still to run."""

    __slots__ = ("is_running", "is_wrapped", "parts")

    def __init__(self, parts: tuple[str, ...], *, is_wrapped: bool) -> None:
        self.parts = deque(parts)
        self.is_wrapped = is_wrapped  # in a transaction block of our own
        self.is_running = False  # a part is under way: the client's next message waits


class ScriptSide(DecidingSide):
    """Runs query strings in parts."""

    def __init__(self) -> None:
        super().__init__()
        self._script: Script | None = None

    def begin_script(self, text: str, plan: QueryPlan) -> bool | None:
        """Begin to run a string in parts; the connection is there. None: it needs none; NOT_YET: answers to others are to come first."""
        if self._script is not None or self.status == FAILED:
            return None
        parts, is_wrapped = parts_of(text, plan, in_block=self.status != IDLE)
        if not parts:
            return None
        if self._has_upstream_request():
            return NOT_YET
        self._script = Script(parts, is_wrapped=is_wrapped)
        if is_wrapped:
            self.queue_internal(
                [messages.parse("", "BEGIN"), messages.bind("", "", ()), messages.execute("")], self._block_begun
            )
        self._frame = messages.query(self._script.parts.popleft(), self.codec)
        return DONE

    def _block_begun(self, rows: list[bytes], error: FaucetError | None) -> None:  # noqa: ARG002 - an InternalDone
        if error is not None:
            self.lose_connection(f"no transaction could be begun: {error.sqlstate}")
        self.status = IN_TRANSACTION

    def note_part(self) -> None:
        """A Query goes upstream: while it is a part of a string, what comes behind it waits."""
        if self._script is not None:
            self._script.is_running = True

    def runs_part(self) -> bool:
        """Whether the client's next message has to wait for the end of the string before it; the data of a COPY in it has not."""
        return self._script is not None and self._script.is_running and not self.is_copying_in

    def _part_ended(self, status: int) -> bool:
        """A part is through: go on with the next, or end our transaction. False: nothing is left to do but to tell the client."""
        script = self._script
        if script is None:
            return False
        script.is_running = False
        if status != FAILED and script.parts:
            self._frame = messages.query(script.parts.popleft(), self.codec)
            return True
        self._script = None
        if not script.is_wrapped or status == IDLE:
            return False
        end = "ROLLBACK" if status == FAILED else "COMMIT"
        entry = Expectation(expect.QUERY)
        entry.plans = (_ending(end, clean_errors=not self.guard.world.sees_everything),)
        entry.started = self.environment.clock()
        self.expect(entry)
        self.to_upstream.append(messages.query(end))
        self.flush_upstream()
        return True


def _ending(verb: str, *, clean_errors: bool) -> StatementPlan:
    """Make the plan of a statement that ends our transaction: the client hears of its error only, e.g. of a deferred constraint."""
    return StatementPlan(verb, (), verb, "", (), (), ("",), verb, is_step=True, clean_errors=clean_errors)
