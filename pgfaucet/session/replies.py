"""From the server to the client: match replies to requests, count rows, record outcomes, forward everything else whole.

Runs inside `data_received` of the upstream connection. A row costs one turn of the loop in `upstream_data`: no object is made
for it, and a chunk that needs no change is forwarded as it came.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import StatementKind
from pgfaucet.session import expectation as expect
from pgfaucet.session.descriptions import DescriptionSide
from pgfaucet.session.failures import DROP, PASS, UnexpectedReply
from pgfaucet.session.output import HELD_BYTES_HIGH
from pgfaucet.session.prepared import notice_of_cut_name
from pgfaucet.session.reports import FOLLOWED
from pgfaucet.session.state import FAILED, IDLE, IN_TRANSACTION
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.plan import StatementPlan
    from pgfaucet.session.expectation import Expectation

DATA_ROW: Final = 68  # D
COPY_DATA: Final = 100  # d
ZERO: Final = 48  # 0
NINE: Final = 57  # 9
MAX_GATHERED: Final = 16 << 20  # the longest reply, other than a row, that is held to be looked at


class ReplySide(DescriptionSide):
    """The half of a session that reads from the server."""

    def __init__(self) -> None:
        super().__init__()
        self._tail = b""  # a reply that is not whole yet
        self._streaming = 0  # bytes of a row still to come
        self._swallows = False  # the rows of the request at the head are not for the client
        self._is_release_due = False
        self._held_status = 0  # a ReadyForQuery that waits for a batch of our own
        self._is_limit_passed = False  # the client was given an error where the server saw none
        self._drops_to_sync = (
            False  # after such an error in the extended protocol: replies up to ReadyForQuery are dropped
        )
        self._reader_resumed = True

    # -- the loop ----------------------------------------------------------------------------------------------------------------

    def upstream_data(self, chunk: bytes) -> None:
        """Take what the server sent."""
        began = self.environment.clock()
        if self._tail:
            chunk = self._tail + chunk
            self._tail = b""
        try:
            self._relay(chunk)
        except UnexpectedReply as problem:
            self.lose_connection(str(problem))
            return
        self.spent += self.environment.clock() - began
        self._after_chunk()

    def _relay(self, chunk: bytes) -> None:  # noqa: C901, PLR0915 - a call for each row would cost more than all of this
        size = len(chunk)
        out: list[bytes] = []
        position, start = self._begin_chunk(size, out)
        while position + 5 <= size:
            kind = chunk[position]
            end = position + 1 + messages.uint32(chunk, position + 1)
            if kind == DATA_ROW or kind == COPY_DATA:  # noqa: PLR1714, SIM109 - twice as fast
                if not self._swallows:
                    self._rows += 1
                    self._row_bytes += end - position - 5
                    if self._is_over_limit():
                        self._stop_at_limit()
                if self._swallows:
                    if start < position:
                        out.append(chunk[start:position])
                    start = position
                    if end > size and self._gathers_rows():
                        break
                    self._take_internal_row(chunk, position, end)
                    start = min(end, size)
                if end > size:
                    self._streaming = end - size
                    position = size
                    break
                position = end
                continue
            if end > size:
                break
            if self._event(kind, chunk, position, end) == PASS:
                if not self._insert:
                    position = end
                    continue
                position = end
            self._cut(out, chunk[start:position])
            start = position = end
        self._end_chunk(out, chunk, start, position)

    def _begin_chunk(self, size: int, out: list[bytes]) -> tuple[int, int]:
        """Settle what is left of the chunk before; return where messages begin, and what is forwarded from."""
        if self.expected and self.expected[0].kind == expect.LOCAL:
            self._take_local_answers()
            self._cut(out, b"")
        if not self._streaming:
            return 0, 0
        position = min(self._streaming, size)
        self._streaming -= position
        return position, position if self._swallows else 0

    def _cut(self, out: list[bytes], forwarded: bytes) -> None:
        """End a piece that is forwarded as it came; what we say ourselves follows it."""
        out += (forwarded, self._insert)
        self._insert = b""

    def _end_chunk(self, out: list[bytes], chunk: bytes, start: int, position: int) -> None:
        """Keep what is not a whole message yet, and send the rest."""
        if position < len(chunk):
            self._tail = chunk[position:]
            if len(self._tail) > MAX_GATHERED:
                raise UnexpectedReply("a reply is too long")
        if start < position:
            out.append(chunk if start == 0 and position == len(chunk) else chunk[start:position])
        data = out[0] if len(out) == 1 else b"".join(out)
        if data:
            self.output.write(data, self._sequence)
            self._sequence = 0  # else it is for what comes next

    def _gathers_rows(self) -> bool:
        """Whether the rows at hand are for ourselves, and wanted whole."""
        return bool(self.expected) and self.expected[0].kind == expect.INTERNAL

    def _take_internal_row(self, chunk: bytes, position: int, end: int) -> None:
        head = self.expected[0] if self.expected else None
        if head is not None and head.kind == expect.INTERNAL:
            head.values.append(chunk[position + 5 : end])

    def _after_chunk(self) -> None:
        if self._is_release_due:
            self._is_release_due = False
            if self._tail or self._streaming:
                self.lose_connection("bytes after ReadyForQuery")
                return
            self.release()
        if self.output.held_bytes > HELD_BYTES_HIGH and self._reader_resumed:
            self.pause_upstream()
        self.pump()

    # -- limits ------------------------------------------------------------------------------------------------------------------

    def _is_over_limit(self) -> bool:
        return (self.row_limit != 0 and self._rows > self.row_limit) or (
            self.byte_limit != 0 and self._row_bytes > self.byte_limit
        )

    def _stop_at_limit(self) -> None:
        head = self.expected[0]
        what, limit = (
            ("rows", self.row_limit) if self.row_limit and self._rows > self.row_limit else ("bytes", self.byte_limit)
        )
        head.error = FaucetError(
            Sqlstate.CONFIGURATION_LIMIT_EXCEEDED,
            f"result exceeds the limit of {limit} {what}",
            hint="Ask for less: add a WHERE clause or a LIMIT.",
            reason=f"limits.{what}: {limit}",
        )
        self._swallows = True
        self.cancel_running()

    # -- one reply ---------------------------------------------------------------------------------------------------------------

    def _event(self, kind: int, chunk: bytes, position: int, end: int) -> int:
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise UnexpectedReply(f"unexpected message type {kind} from the server")
        dropping = self._drops_to_sync
        action = handler(self, chunk, position, end)
        self._take_local_answers()
        if dropping and self._drops_to_sync:
            self._insert = b""
            action = DROP
        if self.expected:
            head = self.expected[0]
            self._swallows = (
                self._drops_to_sync
                or head.kind == expect.INTERNAL
                or self._is_limit_error(head)
                or (head.index < len(head.plans) and head.plans[head.index].swallow_rows)
            )
        else:
            self._swallows = False
        return action

    def _take_local_answers(self) -> None:
        expected = self.expected
        while expected and expected[0].kind == expect.LOCAL:
            self._insert += expected.popleft().answer

    def _on_ready(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.QUERY, expect.SYNC, expect.INTERNAL)
        status = chunk[position + 5]
        self.expected.popleft()
        if not self.expected:
            self.note_running(is_running=False)
        self.connection_status(status)
        if head.kind == expect.INTERNAL:
            return self._end_internal(head)
        self.status = status
        self.is_copying_in = False
        self._status_seen(status)
        if status == IDLE:
            self.portals.clear()
            if self.pin is None:  # else one of them may be WITH HOLD
                self.cursors.clear()
        self._drops_to_sync = False
        if self._part_ended(status):
            self._is_limit_passed = False
            return DROP
        if self._is_limit_passed:
            self._is_limit_passed = False
            if status == IN_TRANSACTION:
                self._held_status = self.status = FAILED
                self.fail_block()
                return DROP
        if self._has_to_read_back(status) and not self._has_upstream_request():
            self._held_status = status
            self.read_settings_back()
            return DROP
        if not self._has_upstream_request():
            self.doubt = b"" if not self.touched else self.doubt
            self._is_release_due = status == IDLE
        return PASS

    def _has_to_read_back(self, status: int) -> bool:
        """Say whether settings that may have changed have to be read before the client goes on."""
        if status == IN_TRANSACTION:
            return not self.touched.isdisjoint(FOLLOWED) or bool(self.resets)
        return bool(self.touched) and status == IDLE

    def _end_internal(self, head: Expectation) -> int:
        then = head.then
        if then is not None:
            then(head.values, head.error)
        if self._held_status and not self._has_upstream_request():
            self.report_changes()
            self._insert += messages.ready_for_query(self._held_status)
            self._is_release_due = self._held_status == IDLE
            self._held_status = 0
        return DROP

    def _has_upstream_request(self) -> bool:
        return any(entry.kind != expect.LOCAL for entry in self.expected)

    def _on_command_complete(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.QUERY, expect.EXECUTE, expect.INTERNAL)
        if head.kind == expect.INTERNAL:
            return DROP
        plan = head.plans[head.index]
        tag = chunk[position + 5 : end - 1]
        if plan.is_step:
            self._advance(head)
            return DROP
        if head.error is not None and self._is_limit_error(head):
            self._record(head, plan, _rows_of(tag), head.error.sqlstate, head.error)
            self._insert += messages.error_response("ERROR", head.error)
            self._pass_limit(head)
            return DROP
        self._record(head, plan, _rows_of(tag), None, None)
        self._completed(plan, tag)
        self._advance(head)
        if plan.tag is not None:
            self._insert += messages.command_complete(plan.tag.replace("*", str(_rows_of(tag))))
            return DROP
        return PASS

    def _completed(self, plan: StatementPlan, tag: bytes) -> None:
        """Follow what a successful statement did to the session."""
        if plan.settings:
            self.touched.update(self.settings if "*" in plan.settings else (), plan.settings)
            self.touched.discard("*")
        if plan.resets:
            self.note_resets(plan.resets)
        if plan.pin is not None and self.pin is None:
            self.pin_connection(plan.pin)
        if plan.kind is StatementKind.DEALLOCATE:
            self.deallocate(plan.name)
        elif plan.kind is StatementKind.DISCARD_ALL:
            self.forget_everything()

    def _advance(self, head: Expectation) -> None:
        self._rows = self._row_bytes = 0
        if head.kind == expect.QUERY:
            head.index += 1
        else:
            self.expected.popleft()

    def _pass_limit(self, head: Expectation) -> None:
        """The server finished a statement that the client was refused: whatever else the request does is not for the client."""
        self._is_limit_passed = self._drops_to_sync = True
        head.error = None
        self._advance(head)
        if head.kind == expect.EXECUTE and not any(entry.kind == expect.SYNC for entry in self.expected):
            self.skips_to_sync = True

    def _on_suspended(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.EXECUTE)
        self._record(head, head.plans[0], self._rows, None, None)
        self._advance(head)
        return PASS

    def _on_empty(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.QUERY, expect.EXECUTE, expect.INTERNAL)
        if head.kind == expect.EXECUTE:
            self.expected.popleft()
        return DROP if head.kind == expect.INTERNAL else PASS

    def _on_parse_complete(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.PARSE, expect.INJECTED_PARSE, expect.INTERNAL, expect.QUERY)
        if head.kind == expect.INTERNAL:
            return DROP
        if head.asks:  # the server finds nothing wrong: what is refused is told in our words
            head.asks = False
            return DROP
        if head.kind == expect.QUERY:
            return self._on_prepared(head)
        self.expected.popleft()
        if head.connection_statement:
            self.pool.note_parsed(head.connection_statement)
        return PASS if head.kind == expect.PARSE else DROP

    def _on_prepared(self, head: Expectation) -> int:
        """A PREPARE went upstream as a Parse: answer it as what it was."""
        plan = head.plans[head.index]
        if plan.kind is not StatementKind.PREPARE:
            raise UnexpectedReply("ParseComplete in a simple query")
        self._record(head, plan, None, None, None)
        self._insert += notice_of_cut_name(head.source, head.name) + messages.command_complete("PREPARE")
        self._advance(head)
        return DROP

    def _on_bind_complete(self, chunk: bytes, position: int, end: int) -> int:
        if self._head(expect.BIND, expect.INTERNAL).kind == expect.INTERNAL:
            return DROP
        self.expected.popleft()
        return PASS

    def _on_close_complete(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.CLOSE, expect.INJECTED_CLOSE, expect.INTERNAL)
        if head.kind == expect.INTERNAL:
            return self._on_own_close_complete(head)
        self.expected.popleft()
        return PASS if head.kind == expect.CLOSE else DROP

    def _on_own_close_complete(self, head: Expectation) -> int:
        """The last one ends a batch of our own within the client's."""
        if head.closes:
            head.closes -= 1
            if not head.closes:
                self.expected.popleft()
                return self._end_internal(head)
        return DROP

    def _on_copy_in(self, chunk: bytes, position: int, end: int) -> int:
        """The server takes data now, and no notice of a Sync before the end of the data (PROTOCOL 75)."""
        head = self._head(expect.QUERY, expect.EXECUTE)
        ends = head.copy_ends
        head.copy_ends += 1
        self.is_copying_in = self.copy_ends == ends
        if any(entry.kind == expect.SYNC and entry.copy_ends == ends for entry in self.expected):
            kept = [entry for entry in self.expected if entry.kind != expect.SYNC or entry.copy_ends != ends]
            self.expected = deque(kept)
        return PASS

    def _on_copy_out(self, chunk: bytes, position: int, end: int) -> int:
        self._head(expect.QUERY, expect.EXECUTE)
        return PASS

    def _on_copy_done(self, chunk: bytes, position: int, end: int) -> int:
        return PASS

    def _on_function_result(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.QUERY)
        self._record(head, head.plans[head.index], None, None, None)
        self._advance(head)
        return PASS

    # -- what the other halves provide -------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Go on with the client's messages."""
        raise NotImplementedError

    def release(self) -> None:
        """Give the upstream connection back."""
        raise NotImplementedError

    def lose_connection(self, reason: str) -> None:
        """Give up the upstream connection and end the session (08006)."""
        raise NotImplementedError

    def cancel_running(self) -> None:
        """Cancel what runs upstream."""
        raise NotImplementedError

    def fail_block(self) -> None:
        """Put the open transaction block into the failed state."""
        raise NotImplementedError

    def _part_ended(self, status: int) -> bool:
        """Go on with a query string that runs in parts, if there is more to do before the client hears of its end."""
        raise NotImplementedError

    def _status_seen(self, status: int) -> None:
        """Learn the transaction status after a request of the client's."""
        raise NotImplementedError

    def read_settings_back(self) -> None:
        """Ask the server for the settings in `touched`."""
        raise NotImplementedError

    def pin_connection(self, reason: str) -> None:
        """Keep the upstream connection for this client from now on."""
        raise NotImplementedError

    def deallocate(self, name: str | None) -> None:
        """Forget the prepared statement of a name, or all."""
        raise NotImplementedError

    def forget_everything(self) -> None:
        """Do what DISCARD ALL does to the proxy's own state."""
        raise NotImplementedError

    def pause_upstream(self) -> None:
        """Stop reading from the server until the client has taken what it was sent."""
        raise NotImplementedError

    def connection_status(self, status: int) -> None:
        """Tell the upstream connection its transaction status, unless it still owes answers."""
        if self.connection is not None and not self._has_upstream_request():
            self.connection.transaction_status = status


def _rows_of(tag: bytes) -> int | None:
    """Read the row count of a command tag: the last word, if it is a number."""
    start = len(tag)
    while start > 0 and ZERO <= tag[start - 1] <= NINE:
        start -= 1
    return int(tag[start:]) if start < len(tag) else None


_HANDLERS: Final = {
    ord("Z"): ReplySide._on_ready,
    ord("C"): ReplySide._on_command_complete,
    ord("E"): ReplySide._on_error,
    ord("T"): ReplySide._on_row_description,
    ord("t"): ReplySide._on_parameter_description,
    ord("n"): ReplySide._on_no_data,
    ord("1"): ReplySide._on_parse_complete,
    ord("2"): ReplySide._on_bind_complete,
    ord("3"): ReplySide._on_close_complete,
    ord("s"): ReplySide._on_suspended,
    ord("I"): ReplySide._on_empty,
    ord("G"): ReplySide._on_copy_in,
    ord("H"): ReplySide._on_copy_out,
    ord("c"): ReplySide._on_copy_done,
    ord("N"): ReplySide._on_notice,
    ord("A"): ReplySide._on_notification,
    ord("V"): ReplySide._on_function_result,
    ord("S"): ReplySide._on_parameter_status,
}
