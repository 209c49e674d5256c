"""Texts that differ in their literals only are decided once.

A literal is hidden behind an object while its statement is decided. If nothing looks at its value, the decision can't depend on it: the
printed statement is then a template with a gap for it, and the next text of that shape only fills its own value in, quoted by us.
A value that is looked at (a name in a cast to regclass, LIMIT, an argument of set_config) stays part of the key. So that two texts that
could be decided or rewritten differently never share a template is not a rule that somebody has to keep, but how values are reached.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql.normalise import scan_shape
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, KeysView, ValuesView

    from pgfaucet.plan import StatementPlan
    from pgfaucet.sql.normalise import TextShape
    from pgfaucet.sql.world import Node

MAX_LITERALS: Final = 200
MAX_SHAPES: Final = 2048
MAX_DECIDED: Final = 64  # values read, for each shape
_NONCE: Final = secrets.token_hex(8)
_FIRST_NUMBER: Final = 1_600_000_000 + secrets.randbelow(400_000_000)
_FIRST_LONG: Final = 7_000_000_000_000_000 + secrets.randbelow(900_000_000_000_000)
_GAP: Final = re.compile(
    rf"'pgf{_NONCE}x(\d{{1,3}})'|(?<![\w.])(?:{_FIRST_NUMBER // 1000}|{_FIRST_LONG // 1000})(\d{{3}})(?:\.5)?(?![\w.])"
)
_FIRST_NUMBER_BASE: Final = _FIRST_NUMBER // 1000 * 1000
_FIRST_LONG_BASE: Final = _FIRST_LONG // 1000 * 1000


class Reading:
    """Which literals of a statement were looked at while it was decided."""

    __slots__ = ("is_over", "seen")

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.is_over = False


class Literal:
    """Stands for the value of an A_Const: a mapping that notes that it was read. `kind` may be known without reading."""

    __slots__ = ("_reading", "_stand_in", "_value", "kind", "number")

    def __init__(
        self, reading: Reading, number: int, kind: str, value: dict[str, Any], stand_in: dict[str, Any]
    ) -> None:
        self._reading = reading
        self._value = value
        self._stand_in = stand_in
        self.kind = kind  # i, n, d (digits of an int8), s: part of the key of its shape
        self.number = number

    def _read(self) -> dict[str, Any]:
        if self._reading.is_over:
            return self._value if self.number in self._reading.seen else self._stand_in
        self._reading.seen.add(self.number)
        return self._value

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __eq__(self, other: object) -> bool:
        return self._read() == (other._read() if isinstance(other, Literal) else other)

    __hash__ = None  # type: ignore[assignment] # as a dictionary

    def get(self, key: str, default: Any = None) -> Any:
        """Read the value."""
        return self._read().get(key, default)

    def items(self) -> ItemsView[str, Any]:
        """Read the value."""
        return self._read().items()

    def keys(self) -> KeysView[str]:
        """Read the value."""
        return self._read().keys()

    def values(self) -> ValuesView[Any]:
        """Read the value."""
        return self._read().values()


@dataclass(frozen=True, slots=True)
class Template:
    """A printed statement with gaps: `pieces` before, between and behind them, and which literal goes into each."""

    pieces: tuple[str, ...]
    gaps: tuple[int, ...]

    def fill(self, shape: TextShape) -> str:
        """Write the statement with a text's own literals."""
        parts = [self.pieces[0]]
        for piece, number in zip(self.pieces[1:], self.gaps, strict=True):
            value = shape.literals[number]
            parts += ("'" + value.replace("'", "''") + "'" if shape.kinds[number] == "s" else value, piece)
        return "".join(parts)


ShapeKey = tuple[str, tuple[str, ...]]
"""A shape's key and the search_path."""

Shaped = tuple["StatementPlan", Template]


class ShapeCache:
    """Decided shapes: by key, then by the values that the decision has read. The oldest shapes go first."""

    def __init__(self) -> None:
        self._shapes: OrderedDict[ShapeKey, dict[tuple[int, ...], dict[tuple[str, ...], Shaped]]] = OrderedDict()

    def find(self, key: ShapeKey, literals: tuple[str, ...]) -> Shaped | None:
        """Return what was decided about a shape with these values, if anything was."""
        for numbers, decided in self._shapes.get(key, {}).items():
            found = decided.get(tuple([literals[number] for number in numbers]))
            if found is not None:
                return found
        return None

    def keep(self, key: ShapeKey, literals: tuple[str, ...], seen: set[int], shaped: Shaped) -> None:
        """Keep a decision that has read the literals of these numbers and no others."""
        numbers = tuple(sorted(seen))
        of_key = self._shapes.setdefault(key, {})
        decided = of_key.setdefault(numbers, {})
        if len(decided) >= MAX_DECIDED:
            decided.clear()
        decided[tuple([literals[number] for number in numbers])] = shaped
        if len(self._shapes) > MAX_SHAPES:
            self._shapes.popitem(last=False)


def shape_of(text: str) -> TextShape | None:
    """Take a text's literals out of it; None when it has none, too many, or some that are not simply numbers and strings."""
    shape = scan_shape(text) if "\0" not in text else None  # the scanner would stop there
    return shape if shape is not None and 0 < len(shape.literals) <= MAX_LITERALS else None


def hide_literals(stmt: Node, text: str, shape: TextShape) -> Reading | None:
    """Hide each literal of a statement in place; None when the tree does not hold each of them as a constant of its own."""
    bodies = {node["A_Const"].get("location", 0): node["A_Const"] for node in walk(stmt) if "A_Const" in node}
    offset = (lambda place: place) if text.isascii() else (lambda place: len(text[:place].encode()))
    reading = Reading()
    for number, (kind, places) in enumerate(zip(shape.kinds, shape.places, strict=True)):
        body = next((bodies.pop(found) for place in places if (found := offset(place)) in bodies), None)
        if body is None:
            return None
        name, stand_in = _stand_in(kind, number, body)
        if name not in body:
            return None
        body[name] = Literal(reading, number, kind, body[name], stand_in)
    return reading


def _stand_in(kind: str, number: int, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of the field that a kind of literal is held in, and the value that makes its gap."""
    if kind == "s":
        return "sval", {"sval": f"pgf{_NONCE}x{number}"}
    if kind == "i":
        value = body.get("ival", {}).get("ival", 0)
        return "ival", {"ival": -(_FIRST_NUMBER_BASE + number) if value < 0 else _FIRST_NUMBER_BASE + number}
    digits = f"{_FIRST_LONG_BASE + number}" if kind == "d" else f"{_FIRST_NUMBER_BASE + number}.5"
    return "fval", {"fval": f"-{digits}" if body.get("fval", {}).get("fval", "").startswith("-") else digits}


def template_of(printed: str, shape: TextShape, reading: Reading) -> Template | None:
    """Make the template of a statement that was printed with its gaps; None when a gap is missing or doubtful."""
    pieces: list[str] = []
    gaps: list[int] = []
    end = 0
    for found in _GAP.finditer(printed):
        number = int(found[1] or found[2])
        is_string = found[1] is not None
        if number >= len(shape.literals) or number in reading.seen or is_string != (shape.kinds[number] == "s"):
            return None
        pieces.append(printed[end : found.start()])
        gaps.append(number)
        end = found.end()
    pieces.append(printed[end:])
    if any(_NONCE in piece for piece in pieces):
        return None
    return Template(tuple(pieces), tuple(gaps))
