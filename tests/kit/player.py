"""Plays the steps of a case against a server or a proxy, and keeps every byte that came back.

A step is a mapping. It says what to send with one of

    sql, sql_parts ([[text, times], ...]), sql_hex    with `proto`: simple (default), extended or prepared (parsed once, run twice)
    op                                                parse, exec, describe, pipeline, fcall or raw: messages out of order

and may bring `params` (a value {"hex": ...} is sent in binary), `types`, `rfmt` (result format), `max` (rows), and `copy` (what
to answer when the server asks for data).
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

from tests.kit import wire
from tests.kit.outcome import Gatherer, Outcome
from tests.kit.wire import Message, Wire, cstring, message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Step = dict[str, Any]
STEP_SECONDS = 30.0  # a busy machine takes long to notice that a statement_timeout is over


class Player(Wire):
    """One connection that plays steps."""

    def __init__(self, port: int, *, timeout: float = STEP_SECONDS) -> None:
        super().__init__(port, timeout=timeout)
        self.received = bytearray()
        self._names = 0

    def enter(self, password: str, database: str, parameters: Mapping[str, str]) -> Outcome:
        """Log in; the outcome has an error when that was refused."""
        others = dict(parameters)
        user = others.pop("user", "agent")
        gathered = Gatherer()
        try:
            gathered.take(self.log_in(password, database=database, user=user, **others))
        except (EOFError, ConnectionError):
            gathered.outcome.ended = "closed"
        return gathered.outcome

    def play(self, step: Step) -> Outcome:
        """Send one step and gather what it returns."""
        gathered = Gatherer()
        outcome = gathered.outcome
        deadline = time.monotonic() + STEP_SECONDS
        try:
            for request in self._requests(step):
                gathered = Gatherer()
                outcome = gathered.outcome
                self.send(request)
                while not gathered.take(answer := self.receive()):
                    assert time.monotonic() < deadline, "answers, but no end"
                    if answer.tag == "G":
                        self._answer_copy(step)
                if outcome.errors:
                    break
        except TimeoutError:
            outcome.ended = "hang"
        except (EOFError, ConnectionError):
            outcome.ended = outcome.ended or "closed"
        return outcome

    def receive(self) -> Message:
        """Read the next message and keep its bytes."""
        answer = super().receive()
        self.received += answer.tag.encode() + answer.body
        return answer

    def _answer_copy(self, step: Step) -> None:
        if "copy" in step:
            self.send(message("d", step["copy"].encode()), message("c"))
        else:
            self.send(message("f", cstring("no data")))

    def _requests(self, step: Step) -> Iterator[bytes]:
        """Yield what to send: each part ends with what makes the server say ReadyForQuery."""
        if "op" in step:
            yield _operation(step)
            return
        sql = _text(step)
        match step.get("proto", "simple"):
            case "simple":
                yield message("Q", sql + b"\0")
            case "extended":
                yield _parse("", sql, step) + _run("", step) + wire.SYNC
            case "prepared":
                self._names += 1
                name = f"s{self._names}"
                yield _parse(name, sql, step) + wire.describe("S", name) + wire.SYNC
                yield _run(name, step) + wire.SYNC
                yield _run(name, step) + wire.SYNC


def _text(step: Step) -> bytes:
    if "sql_hex" in step:
        return bytes.fromhex(step["sql_hex"])
    if "sql_parts" in step:
        return "".join(text * times for text, times in step["sql_parts"]).encode()
    return step["sql"].encode()


def _operation(step: Step) -> bytes:
    name = step.get("name", "")
    match step["op"]:
        case "parse":
            return _parse(name, _text(step), step) + wire.SYNC
        case "exec":
            return _run(name, step) + wire.SYNC
        case "describe":
            return wire.describe("S", name) + wire.SYNC
        case "pipeline":
            between = wire.FLUSH if step.get("flush") else b""
            return b"".join(_parse("", sql.encode(), {}) + _run("", {}) + between for sql in step["sqls"]) + wire.SYNC
        case "fcall":
            arguments = b"".join(struct.pack(">i", len(value)) + value.encode() for value in step.get("args", ()))
            count = len(step.get("args", ()))
            return message("F", struct.pack(">Ihh", step["oid"], 0, count) + arguments + struct.pack(">h", 0))
        case "raw":
            return bytes.fromhex(step["hex"])
    raise AssertionError(f"unknown op {step['op']}")


def _parse(name: str, sql: bytes, step: Step) -> bytes:
    types = step.get("types", ())
    return message("P", cstring(name) + sql + b"\0" + struct.pack(f">h{len(types)}I", len(types), *types))


def _run(name: str, step: Step) -> bytes:
    values = step.get("params", ())
    body = cstring("") + cstring(name) + struct.pack(">h", len(values))
    body += b"".join(struct.pack(">h", isinstance(value, dict)) for value in values) + struct.pack(">h", len(values))
    body += b"".join(map(_parameter, values)) + struct.pack(">hh", 1, step.get("rfmt", 0))
    return message("B", body) + wire.describe("P") + wire.execute(limit=step.get("max", 0))


def _parameter(value: Any) -> bytes:
    if value is None:
        return struct.pack(">i", -1)
    if isinstance(value, dict):
        data = bytes.fromhex(value["hex"])
    else:
        data = str(value).encode() if not isinstance(value, bool) else b"t" if value else b"f"
    return struct.pack(">i", len(data)) + data
