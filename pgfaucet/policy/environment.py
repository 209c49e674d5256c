"""${NAME} and ${NAME:-default} in the texts of `server` and `databases`. Nothing else of a policy directory reads the environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgfaucet.policy.problem import Problem
from pgfaucet.policy.yamltree import MappingNode, Node, ScalarNode, SequenceNode, position_in, scalars

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE: Final = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|)", re.ASCII)


def substitute(node: Node, environ: Mapping[str, str], problems: list[Problem]) -> Node:
    """Copy a tree with the references in its texts replaced; keys stay as they are. Never shows what a variable holds."""
    match node:
        case ScalarNode():
            return _substitute_text(node, environ, problems) if "${" in node.text else node
        case SequenceNode():
            return SequenceNode(node.source, [substitute(item, environ, problems) for item in node.items])
        case MappingNode():
            values = {key: substitute(value, environ, problems) for key, value in node.values.items()}
            return MappingNode(node.source, node.keys, values)


def refuse_references(node: Node, problems: list[Problem]) -> None:
    """Report every reference in a part that never reads the environment."""
    for scalar in scalars(node):
        found = re.search(r"\$\{[A-Za-z_]", scalar.text)
        if found is not None:
            what = "${...} is not read from the environment in roles"
            problems.append(
                Problem(
                    position_in(scalar, found.start()),
                    what,
                    "write the value itself, or take it from the token with claim('...')",
                )
            )


def _substitute_text(node: ScalarNode, environ: Mapping[str, str], problems: list[Problem]) -> ScalarNode:
    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        source = position_in(node, found.start())
        if name is None:
            problems.append(
                Problem(source, "${ begins no environment variable here", "write ${NAME} or ${NAME:-default}")
            )
            return ""
        held = environ.get(name)
        if default is not None:
            return held or default
        if held is None:
            problems.append(
                Problem(source, f"the environment variable {name} is not set", f"set it, or write ${{{name}:-default}}")
            )
            return "unset"
        return held

    return ScalarNode(node.source, _REFERENCE.sub(value, node.text), is_plain=False, raw=node.raw)
