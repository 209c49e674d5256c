"""What becomes of a statement when a node of its tree has a field that nobody knows: a later PostgreSQL may have one.

For each place that a node class can stand in (below which class, in which field), the first statement of forms.jsonl that has it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import orjson
from pglast.parser import ParseError, parse_sql_json

from pgfaucet.errors import FaucetError
from pgfaucet.policy.compile import claims_used, compile_world
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.rewrite import rewrite_statement
from pgfaucet.sql.rewritten import RewriteContext
from pgfaucet.sql.tree import copy_tree
from tests.golden.decisions import GOLDEN, catalog, roles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.sql.world import Node, World

ROLES: Final = ("open", "clerk")
UNKNOWN: Final = "pgf_unknown"
APPROVED: Final = GOLDEN / "unknown_fields.approved.txt"

NOT_SENT: Final = [
    "List.items SetToDefault",
    "MultiAssignRef.source RowExpr",
    "MultiAssignRef.source SubLink",
    "RangeFunction.functions List",
    "RowExpr.args SetToDefault",
]
"""Written anew: DEFAULT, the pair of a function and its column definitions, copies of one source of several columns. Names are too."""

Path = tuple[str | int, ...]


def outcomes() -> list[str]:
    """Return each place, and how a statement is refused that has an unknown field there."""
    worlds = {role: _world(role) for role in ROLES}
    found: dict[str, set[str]] = {}
    counts: dict[tuple[str, str], int] = {}
    for role, stmt in _statements():
        if _refusal(copy_tree(stmt), worlds[role]) is not None:
            continue
        for place, path in _places(stmt):
            counts[role, place] = counts.get((role, place), 0) + 1
            if counts[role, place] == 1:
                changed = copy_tree(stmt)
                _at(changed, path)[UNKNOWN] = "x"
                found.setdefault(place, set()).add(_refusal(changed, worlds[role]) or "PASSED")
    return [f"{place}: {' | '.join(sorted(refusals))}" for place, refusals in sorted(found.items())]


def _world(role: str) -> World:
    held = roles("attacks")[role]
    claims = {"tenant": "42"}
    return compile_world(held, catalog("attacks"), {name: claims[name] for name in claims_used(held)}, role)[0]


def _statements() -> Iterator[tuple[str, Node]]:
    for line in (GOLDEN / "forms.jsonl").read_text().splitlines():
        case = json.loads(line)
        if case["role"] in ROLES:
            try:
                statements = orjson.loads(parse_sql_json(case["steps"][0]["sql"]))["stmts"]
            except ParseError:
                continue
            if len(statements) == 1:
                yield case["role"], statements[0]["stmt"]


def _refusal(stmt: Node, world: World) -> str | None:
    try:
        rewritten = rewrite_statement(stmt, RewriteContext(world, world.search_path))
        for tree in [rewritten.tree] if not rewritten.steps else [step.tree for step in rewritten.steps]:
            print_verified(tree)
    except FaucetError as error:
        return f"{error.sqlstate} {error.reason}"
    return None


def _places(stmt: Node) -> Iterator[tuple[str, Path]]:
    """Give every body of a node: its class, and the class and field that it stands in."""
    stack: list[tuple[Any, Path, str]] = [(stmt, (), "statement")]
    while stack:
        value, path, above = stack.pop()
        if isinstance(value, list):
            stack += [(item, (*path, number), above) for number, item in enumerate(value)]
        elif isinstance(value, dict):
            is_node = len(value) == 1 and next(iter(value))[:1].isupper()
            if not is_node:
                yield above, path
            for key, inner in value.items():
                below = f"{above.partition(' ')[0]} {key}" if is_node else f"{above.split()[-1]}.{key}"
                stack.append((inner, (*path, key), below))


def _at(stmt: Node, path: Path) -> dict[str, Any]:
    found: Any = stmt
    for step in path:
        found = found[step]
    body: dict[str, Any] = found
    return body
