"""What a server answered to one request, as plain values that can be compared, and what of it a person could read."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kit.wire import Message

FIRST_USER_OID = 16384

USER_TYPE = "a type of the database"


@dataclass(slots=True)
class Result:
    """What one statement returned."""

    columns: tuple[tuple[str, int | str], ...] = ()  # name and type; the OIDs of two databases' own types may differ
    formats: tuple[int, ...] = ()
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    tag: str | None = None
    copied: bytes | None = None


@dataclass(slots=True)
class Outcome:
    """What one request returned, to the point where the server waits again or is gone."""

    results: list[Result] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    notices: list[dict[str, str]] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    notifications: list[str] = field(default_factory=list)
    ended: str | None = None  # why there was no ReadyForQuery: "hang", "closed" or "fatal"

    @property
    def sqlstate(self) -> str | None:
        """The first error's, if there was one."""
        return self.errors[0].get("C") if self.errors else None

    @property
    def text(self) -> str:
        """Everything in it that can be read."""
        parts = [" ".join(fields.values()) for fields in (*self.errors, *self.notices)]
        for result in self.results:
            parts += [name for name, _ in result.columns]
            parts += [value for row in result.rows for value in row if value is not None]
            parts.append((result.copied or b"").decode(errors="replace"))
        parts += [f"{name}={value}" for name, value in self.parameters.items()]
        return "\n".join([*parts, *self.notifications])

    @property
    def summary(self) -> str:
        """One line for a failure message."""
        if self.errors:
            return f"{self.sqlstate} {self.errors[0].get('M', '')[:100]}"
        last = self.results[-1] if self.results else Result()
        return f"{self.ended or last.tag} {last.rows[:3]}"


class Gatherer:
    """Puts messages together into an Outcome."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._result: Result | None = None

    def take(self, message: Message) -> bool:
        """Take one message; True when it is the last."""
        outcome = self.outcome
        match message.tag:
            case "E":
                outcome.errors.append(message.fields)
                self._result = None
                if message.fields.get("V") in {"FATAL", "PANIC"}:
                    outcome.ended = "fatal"
                    return True
            case "N":
                outcome.notices.append(message.fields)
            case "S":
                name, value = message.body.split(b"\0")[:2]
                outcome.parameters[name.decode()] = value.decode(errors="replace")
            case "A":
                outcome.notifications.append(message.body[4:].decode(errors="replace"))
            case "Z":
                return True
            case _:
                self._take_result(message)
        return False

    def _take_result(self, message: Message) -> None:
        current = self._result or Result()
        match message.tag:
            case "T":
                current = Result(*_described(message.body))
            case "D":
                current.rows.append(_values(message.body, current.formats))
            case "H":
                current.copied = b""
            case "d":
                current.copied = (current.copied or b"") + message.body
            case "C" | "I" | "s":
                current.tag = {"I": "(empty)", "s": "(suspended)"}.get(message.tag) or message.body.rstrip(
                    b"\0"
                ).decode()
                self.outcome.results.append(current)
                self._result = None
                return
            case "V":
                self.outcome.results.append(Result(tag="FUNCTION", copied=message.body))
                return
            case "1" | "2" | "3" | "n" | "t" | "c" | "G":
                return
            case unknown:
                raise AssertionError(f"message {unknown!r} out of place")
        self._result = current


def _described(body: bytes) -> tuple[tuple[tuple[str, int | str], ...], tuple[int, ...]]:
    columns: list[tuple[str, int | str]] = []
    formats: list[int] = []
    offset = 2
    for _ in range(struct.unpack_from(">h", body)[0]):
        end = body.index(b"\0", offset)
        _, _, kind, _, _, form = struct.unpack_from(">ihIhih", body, end + 1)
        columns.append((body[offset:end].decode(), kind if kind < FIRST_USER_OID else USER_TYPE))
        formats.append(form)
        offset = end + 19
    return tuple(columns), tuple(formats)


def _values(body: bytes, formats: tuple[int, ...]) -> tuple[str | None, ...]:
    found: list[str | None] = []
    offset = 2
    for number in range(struct.unpack_from(">h", body)[0]):
        (length,) = struct.unpack_from(">i", body, offset)
        offset += 4
        value = body[offset : offset + max(length, 0)]
        is_binary = number < len(formats) and formats[number]
        found.append(None if length < 0 else f"\\x{value.hex()}" if is_binary else value.decode(errors="replace"))
        offset += max(length, 0)
    return tuple(found)
