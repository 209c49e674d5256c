"""What is wrong in a policy directory, and where: one line for each problem, `FILE:LINE:COL: what is wrong; what to do`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgfaucet.policy.model import Source


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. A warning leaves the policy in force."""

    source: Source | str  # a place in a file, or the directory
    what: str
    fix: str
    is_warning: bool = False

    @override
    def __str__(self) -> str:
        return f"{self.source}: {'warning: ' if self.is_warning else ''}{self.what}; {self.fix}"


class PolicyErrors(Exception):
    """Everything that keeps a policy directory from being used."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort problems by file, line and column; each is said once."""

    def key(problem: Problem) -> tuple[str, int, int, str]:
        source = problem.source
        return (
            (source, 0, 0, problem.what)
            if isinstance(source, str)
            else (source.file, source.line, source.column, problem.what)
        )

    return sorted(dict.fromkeys(problems), key=key)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, or None."""
    names = list(known)
    folded = {candidate.lower(): candidate for candidate in names}
    if name.lower() in folded:
        return folded[name.lower()]
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return found[0] if found else None


def known_names(name: str, known: Iterable[str]) -> str:
    """Word what to write instead of an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    meant = nearest(name, names)
    if meant is not None:
        return f'did you mean "{meant}"?'
    return f"use one of {', '.join(names)}" if names else "none is defined"
