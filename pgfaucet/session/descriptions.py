"""Descriptions of results: what the client is told of, and whether a statement that is prepared anew still gives it.

The server refuses to run a statement whose result has other columns than when it was prepared (utils/cache/plancache.c,
RevalidateCachedQuery). On a connection that has never seen the old ones it can't know: there they are compared here.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

from pgfaucet.session import expectation as expect
from pgfaucet.session.failures import DROP, PASS, UnexpectedReply
from pgfaucet.session.reports import ReportSide
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.session.expectation import Expectation

NO_RESULT: Final = b""


def result_of(description: bytes) -> bytes:
    """Return what stands for names, types and modifiers in the body of a RowDescription (access/common/tupdesc.c, equalRowTypes)."""
    position = 2
    parts: list[bytes] = []
    while position < len(description):
        end = description.index(b"\0", position) + 1
        parts += (description[position:end], description[end + 6 : end + 10], description[end + 12 : end + 16])
        position = end + 18
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


class DescriptionSide(ReportSide):
    """The part of the reply side that deals with RowDescription and its kin."""

    def _head(self, *kinds: int) -> Expectation:
        if not self.expected or self.expected[0].kind not in kinds:
            raise UnexpectedReply("a reply to a request that was not made")
        return self.expected[0]

    def _on_row_description(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.QUERY, expect.DESCRIBE, expect.INJECTED_DESCRIBE, expect.INTERNAL)
        if head.kind == expect.INTERNAL:
            return DROP
        if head.kind == expect.INJECTED_DESCRIBE:
            return self._compare_result(head, result_of(chunk[position + 5 : end]))
        swallows = head.index < len(head.plans) and head.plans[head.index].swallow_rows
        if head.kind == expect.DESCRIBE:
            if head.describes is not None and head.describes.result is None:
                head.describes.result = result_of(chunk[position + 5 : end])
            self.expected.popleft()
            if swallows:
                self._insert += messages.NO_DATA
        return DROP if swallows else PASS

    def _on_parameter_description(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.DESCRIBE, expect.INJECTED_DESCRIBE, expect.INTERNAL)
        if head.kind != expect.DESCRIBE:
            return DROP
        if head.describes is not None and not head.describes.parameters:
            count = (end - position - 7) // 4
            head.describes.parameters = struct.unpack_from(f"!{count}I", chunk, position + 7)
        return PASS

    def _on_no_data(self, chunk: bytes, position: int, end: int) -> int:
        head = self._head(expect.DESCRIBE, expect.INJECTED_DESCRIBE, expect.INTERNAL)
        if head.kind == expect.INTERNAL:
            return DROP
        if head.kind == expect.INJECTED_DESCRIBE:
            return self._compare_result(head, NO_RESULT)
        if head.describes is not None and head.describes.result is None:
            head.describes.result = NO_RESULT
        self.expected.popleft()
        return PASS

    def _compare_result(self, head: Expectation, result: bytes) -> int:
        self.expected.popleft()
        if head.describes is not None:
            head.describes.is_changed = head.describes.result != result
        return DROP
