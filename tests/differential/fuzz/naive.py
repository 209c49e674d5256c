"""Rewrites that look right and are not: the fuzzer has to find them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgfaucet.sql import build
from pgfaucet.sql.parse import parse
from pgfaucet.sql.printer import print_statement

if TYPE_CHECKING:
    from collections.abc import Iterator

FILTERED = frozenset({"dept", "people", "ev", "animals", "tagged"})
FILTERABLE = frozenset({"SelectStmt", "UpdateStmt", "DeleteStmt"})
LIMITS = {"max_bytes": 1 << 20, "max_depth": 500}
Node = dict[str, Any]


def at_the_top(sql: str) -> str:
    """Add the filter of each table that the statement itself reads to its WHERE."""
    statements = parse(sql, **LIMITS)
    ((kind, body),) = statements[0].stmt.items()
    if kind in FILTERABLE:
        _add(body)
    return print_statement(statements[0].stmt)


def everywhere(sql: str) -> str:
    """Do the same in every sub-select too."""
    statements = parse(sql, **LIMITS)
    for body in list(_bodies(statements[0].stmt)):
        _add(body)
    return print_statement(statements[0].stmt)


def _bodies(node: object) -> Iterator[Node]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name in FILTERABLE or (name in {"larg", "rarg"} and "targetList" in value):
                yield value
            yield from _bodies(value)
    elif isinstance(node, list):
        for part in node:
            yield from _bodies(part)


def _add(body: Node) -> None:
    sources = [*body.get("fromClause", ()), *body.get("usingClause", ())]
    if isinstance(body.get("relation"), dict):
        sources.append({"RangeVar": body["relation"]})
    for name in [name for source in sources for name in _tables(source)]:
        fields = [{"String": {"sval": name}}, {"String": {"sval": "tenant_id"}}]
        condition = {
            "A_Expr": {
                "kind": "AEXPR_OP",
                "name": [{"String": {"sval": "="}}],
                "lexpr": {"ColumnRef": {"fields": fields}},
                "rexpr": {"A_Const": {"ival": {"ival": 42}}},
            }
        }
        given = [body["whereClause"]] if "whereClause" in body else []
        body["whereClause"] = build.all_of(*build.conjuncts(given[0]), condition) if given else condition


def _tables(source: Node) -> Iterator[str]:
    ((kind, body),) = source.items()
    if kind == "JoinExpr":
        yield from _tables(body["larg"])
        yield from _tables(body["rarg"])
    elif kind == "RangeVar" and body["relname"] in FILTERED:
        yield body.get("alias", {}).get("aliasname", body["relname"])
