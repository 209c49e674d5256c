"""Syntax of the expressions and statements that policy files hold, checked without a catalog; each error at its place in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError
from pgfaucet.policy.fields import MAX_STATEMENT_BYTES
from pgfaucet.policy.problem import Problem
from pgfaucet.policy.yamltree import ScalarNode, position_in
from pgfaucet.sql.expression import PREFIX, PolicyError, parse_expression
from pgfaucet.sql.parse import parse
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.sql.world import Node

MAX_EXPRESSION_BYTES: Final = 65_536
MAX_DEPTH: Final = 200  # as for the statements of clients


def check_expression(node: ScalarNode, purpose: str, problems: list[Problem]) -> None:
    """Report what is wrong with an expression. `purpose` names it, as in `mask.note`."""
    try:
        parse(
            PREFIX + node.text, max_bytes=MAX_EXPRESSION_BYTES, max_depth=MAX_DEPTH
        )  # first: it bounds depth, whatever the stack
        tree = parse_expression(node.text)
    except (FaucetError, PolicyError) as error:
        shift = len(PREFIX) if isinstance(error, FaucetError) else 0
        offset = error.position - 1 - shift if error.position is not None else 0
        fix = error.hint or "write one PostgreSQL expression over the table's columns"
        problems.append(Problem(position_in(node, max(offset, 0)), f"{purpose}: {error.message}", fix))
        return
    for message, fix, offset in _mistakes(tree):
        problems.append(Problem(position_in(node, offset), f"{purpose}: {message}", fix))


def check_statement(node: ScalarNode, problems: list[Problem]) -> None:
    """Report a statement of a test that does not parse."""
    try:
        parse(node.text, max_bytes=MAX_STATEMENT_BYTES, max_depth=MAX_DEPTH)
    except FaucetError as error:
        offset = error.position - 1 if error.position is not None else 0
        problems.append(
            Problem(position_in(node, offset), error.message, 'mend the statement, or move it to deny with "42601"')
        )


def _mistakes(tree: Node) -> Iterator[tuple[str, str, int]]:
    for node in walk(tree):
        for kind, body in node.items():
            if kind == "ParamRef":
                yield (
                    f"there is no parameter ${body.get('number', 0)}",
                    "take values from the token with claim('...')",
                    0,
                )
            elif kind == "FuncCall" and [part["String"]["sval"] for part in body["funcname"]] == ["claim"]:
                args = body.get("args", [])
                if len(args) != 1 or "sval" not in args[0].get("A_Const", {}):
                    yield "claim() takes the name of a claim", "write it in single quotes, as in claim('tenant')", 0
