"""Walks and copies parse trees as libpg_query's JSON has them: dictionaries, lists and plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgfaucet.sql.world import Node


def walk(root: object) -> Iterator[dict[str, Any]]:
    """Yield every dictionary at and below root, in no certain order; uses no recursion."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            yield node
            stack.extend(node.values())


def string(node: Node) -> str:
    """Return what a String node holds."""
    text: str = node["String"].get("sval", "")
    return text


def strings(nodes: Iterable[Node]) -> list[str]:
    """Return what String nodes hold, as the parts of a name do."""
    return [string(node) for node in nodes]


def has_class(root: object, kind: str) -> bool:
    """Say whether a node of that class stands at or below root."""
    return any(kind in node for node in walk(root))


def copy_tree(node: Node) -> Node:
    """Return a copy that shares nothing that can change with the original."""
    copied: Node = _copy(node)
    return copied


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_copy(item) for item in node]
    return node
