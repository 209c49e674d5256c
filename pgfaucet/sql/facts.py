"""What is known of an expression while names are resolved: its type, what it reads, whether it can betray a hidden row.

The algebra of RECIPES section 3: an expression is leakproof only when every part of it is listed as such. Never guesses: a type that
is not certain is 0, and an operation that is not listed is leaky.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgfaucet.sql.scope import Item

UNKNOWN: Final = 705  # a string literal or NULL whose type the other operand decides
BOOL: Final = 16
INT8: Final = 20
INT4: Final = 23
TEXT: Final = 25
FLOAT8: Final = 701
DATE: Final = 1082
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184
INTERVAL: Final = 1186
NUMERIC: Final = 1700
REGISTERED: Final = frozenset({24, 1008, *range(2202, 2212), 4089, 4090, 4096, 4097, 4191, 4192, 3769, 3770})
"""regproc, regclass, ... and their arrays: see sql.registered, where such a value is held as an oid and its type here is negative."""
NONE: Final[frozenset[Item]] = frozenset()
NO_PARAMETERS: Final[frozenset[int]] = frozenset()


class Facts:
    """What one expression is. Treated as a value: never changed once made.

    `reads`: range table items whose columns it names. `sources`: filtered relations whose rows it could betray if it were evaluated
    before their filter. `is_fixed`: it cannot be moved into a relation's own sub-select (sub-select, whole row, masked column,
    aggregate). `is_lazy`: it holds a sub-select that may raise, run when the first row comes by. `assumes`: parameters without a declared type that it takes to have the type of their other operand.
    """

    __slots__ = ("assumes", "is_fixed", "is_lazy", "is_leakproof", "is_volatile", "reads", "sources", "type")

    def __init__(  # noqa: PLR0913 - everything that is known of an expression
        self,
        type_oid: int = 0,
        *,
        is_leakproof: bool = True,
        reads: frozenset[Item] = NONE,
        sources: frozenset[Item] = NONE,
        is_volatile: bool = False,
        is_fixed: bool = False,
        is_lazy: bool = False,
        assumes: frozenset[int] = NO_PARAMETERS,
    ) -> None:
        self.type = type_oid
        self.is_leakproof = is_leakproof
        self.reads = reads
        self.sources = sources
        self.is_volatile = is_volatile
        self.is_fixed = is_fixed
        self.is_lazy = is_lazy
        self.assumes = assumes

    def retyped(self, type_oid: int) -> Facts:
        """Return the same facts with another type."""
        return Facts(
            type_oid,
            is_leakproof=self.is_leakproof,
            reads=self.reads,
            sources=self.sources,
            is_volatile=self.is_volatile,
            is_fixed=self.is_fixed,
            is_lazy=self.is_lazy,
            assumes=self.assumes,
        )

    def opaque(self, *, is_leakproof: bool = False) -> Facts:
        """Return the facts of a value computed above every scan (aggregate, window function): no qual on it reaches a scan."""
        return Facts(
            self.type,
            is_leakproof=is_leakproof,
            reads=self.reads,
            is_volatile=self.is_volatile,
            is_fixed=True,
            assumes=self.assumes,
        )

    def as_column(self, item: Item) -> Facts:
        """Return the facts of a column of `item` that stands for this expression once the planner has pulled the sub-select up."""
        return Facts(
            TEXT if self.type == UNKNOWN else self.type,
            is_leakproof=self.is_leakproof or not (self.sources or self.is_lazy),
            reads=frozenset((item,)),
            sources=self.sources,
            is_volatile=self.is_volatile,
            is_lazy=self.is_lazy,
            assumes=self.assumes,
        )


def constant(type_oid: int) -> Facts:
    """Return the facts of a constant."""
    return _CONSTANTS.get(type_oid) or Facts(type_oid)


_CONSTANTS: Final = {oid: Facts(oid) for oid in (UNKNOWN, BOOL, INT4, INT8, NUMERIC, TIMESTAMPTZ, DATE, 0)}


def combine(
    parts: Iterable[Facts], type_oid: int = 0, *, is_leakproof: bool = False, is_volatile: bool = False
) -> Facts:
    """Return the facts of an operation over parts.

    `is_leakproof` says it of the operation itself. Without a column in it an expression sees no row, so that any operation will do.
    """
    reads, sources, assumes, leakproof = NONE, NONE, NO_PARAMETERS, True
    is_fixed = is_lazy = False
    for part in parts:
        if part.reads:
            reads = reads | part.reads if reads else part.reads
        if part.sources:
            sources = sources | part.sources if sources else part.sources
        if part.assumes:
            assumes = assumes | part.assumes
        leakproof = leakproof and part.is_leakproof
        is_volatile = is_volatile or part.is_volatile
        is_fixed = is_fixed or part.is_fixed
        is_lazy = is_lazy or part.is_lazy
    return Facts(
        type_oid,
        is_leakproof=leakproof and (is_leakproof or not reads),
        reads=reads,
        sources=sources,
        is_volatile=is_volatile,
        is_fixed=is_fixed,
        is_lazy=is_lazy,
        assumes=assumes,
    )
