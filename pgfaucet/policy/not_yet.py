"""Keys of the policy language that this version reads but cannot enforce: refused when a policy is loaded, never ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgfaucet.policy.problem import Problem
from pgfaucet.policy.yamltree import MappingNode, Node, ScalarNode, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgfaucet.policy.yamltree import Path


@dataclass(frozen=True, slots=True)
class NotYet:
    """A key, the values of it that can't be enforced, and what to write instead. A * in the path stands for any name."""

    path: tuple[str, ...]
    applies: Callable[[str], bool]
    what: str
    fix: str


def _always(_: str) -> bool:
    return True


NOT_YET: Final = (
    NotYet(
        ("roles", "*", "limits", "affected_rows"),
        _always,
        "this version does not enforce limits.affected_rows",
        "remove it",
    ),
    NotYet(("roles", "*", "limits", "cost"), _always, "this version does not enforce limits.cost", "remove it"),
)


def refuse_not_yet(section: str, node: Node, problems: list[Problem]) -> None:
    """Report every value in a top-level section that can't be enforced."""
    for entry in NOT_YET:
        if entry.path[0] == section:
            found = _matches(node, entry.path[1:], ())
            places = [source_of(node, path, of_key=True) for path, scalar in found if entry.applies(scalar.text)]
            problems.extend(Problem(place, entry.what, entry.fix) for place in places)


def _matches(node: Node, pattern: tuple[str, ...], path: Path) -> Iterator[tuple[Path, ScalarNode]]:
    if not pattern:
        if isinstance(node, ScalarNode):
            yield path, node
        return
    if isinstance(node, MappingNode):
        for key, value in node.values.items():
            if pattern[0] in ("*", key):
                yield from _matches(value, pattern[1:], (*path, key))
