"""Is what the proxy answered what PostgreSQL answers under the same grants and policies?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kit.outcome import Outcome, Result

POLICY = {"42501", "42P01", "42703"}
"""What a policy says no with; the server says 42501 where the contract asks for one of the others."""


def difference(proxied: Sequence[Outcome], native: Sequence[Outcome], *, is_ordered: bool) -> str | None:
    """Say the first difference between the answers to the same steps; None when there is none."""
    if len(proxied) != len(native):
        return f"{len(proxied)} steps were played, natively {len(native)}"
    for number, (ours, theirs) in enumerate(zip(proxied, native, strict=True), 1):
        if theirs.ended and not ours.ended:
            return f"step {number}: native ended with {theirs.ended}"
        if not is_same_kind(ours.sqlstate, theirs.sqlstate):
            return f"step {number}: {ours.summary}, natively {theirs.summary}"
        if len(ours.results) != len(theirs.results):
            return f"step {number}: {len(ours.results)} results, natively {len(theirs.results)}"
        for mine, other in zip(ours.results, theirs.results, strict=True):
            a, b = _comparable(mine, is_ordered=is_ordered), _comparable(other, is_ordered=is_ordered)
            if a != b:
                return f"step {number}: {_first_different(a, b)}"
    return None


def is_same_kind(ours: str | None, theirs: str | None) -> bool:
    """Tell whether two SQLSTATEs say the same: the same class, and a policy's no only against a policy's no."""
    if ours == theirs or (theirs == "42501" and ours in POLICY):
        return True
    if ours is None or theirs is None or ours in POLICY or theirs in POLICY:
        return False
    return ours[:2] == theirs[:2]


def _comparable(result: Result, *, is_ordered: bool) -> tuple[object, ...]:
    copied = result.copied
    if is_ordered:
        return result.columns, result.tag, result.rows, copied
    lines = None if copied is None else sorted(copied.split(b"\n"))
    return result.columns, result.tag, sorted(result.rows, key=repr), lines


def _first_different(ours: tuple[object, ...], theirs: tuple[object, ...]) -> str:
    names = ("columns", "tag", "rows", "copied")
    for name, a, b in zip(names, ours, theirs, strict=True):
        if a != b:
            return f"{name} {str(a)[:300]}\nnatively {str(b)[:300]}"
    return ""
