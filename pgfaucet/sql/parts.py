"""Cuts a query string where what follows depends on what goes before: behind DDL, and around PREPARE and EXECUTE."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError
from pgfaucet.plan import StatementKind
from pgfaucet.sql.definitions import DEFINITIONS
from pgfaucet.sql.parse import parse

if TYPE_CHECKING:
    from pgfaucet.plan import QueryPlan
    from pgfaucet.sql.parse import RawStatement

_BY_NAME: Final = frozenset({"PrepareStmt", "ExecuteStmt", "DeallocateStmt"})
_BY_NAME_KINDS: Final = frozenset({StatementKind.PREPARE, StatementKind.EXECUTE})
_CHANGES: Final = DEFINITIONS.keys() | {"CallStmt", "CreateTableAsStmt", "DoStmt"}
_BEGINS: Final = frozenset({"TRANS_STMT_BEGIN", "TRANS_STMT_START"})
_MAX_DEPTH: Final = 200


def parts_of(text: str, plan: QueryPlan, *, in_block: bool) -> tuple[tuple[str, ...], bool]:
    """Return the parts of a string that can't be decided as one, and whether a transaction has to be put around them.

    No parts where it can be, or where it begins with its own statements and opens a transaction later. Each part stands where it stood
    in the string, behind blanks, so that positions in it are positions in the string.
    """
    nothing: tuple[tuple[str, ...], bool] = ((), False)
    if len(plan.statements) < 2 or not any(
        each.changes_catalog or each.kind in _BY_NAME_KINDS for each in plan.statements
    ):
        return nothing
    try:
        raws = parse(text, max_bytes=len(text) * 4 + 1, max_depth=_MAX_DEPTH)
    except FaucetError:
        return nothing
    kinds = [_kind(raw) for raw in raws]
    has_own = "TransactionStmt" in kinds
    if has_own and not in_block and raws[0].stmt.get("TransactionStmt", {}).get("kind") not in _BEGINS:
        return nothing
    cuts = [place for place in range(1, len(raws)) if _is_cut(kinds[place - 1], kinds[place])]
    if not cuts:
        return nothing
    bounds = [0, *cuts, len(raws)]
    parts = [_part(text, raws[start:end]) for start, end in pairwise(bounds)]
    return tuple(parts), not has_own and not in_block


def _kind(raw: RawStatement) -> str:
    ((kind, body),) = raw.stmt.items()
    return "CreateTableAsStmt" if "intoClause" in body else kind


def _is_cut(before: str, after: str) -> bool:
    if before in _BY_NAME or after in _BY_NAME:
        return True
    return before in _CHANGES and after not in DEFINITIONS


def _part(text: str, raws: list[RawStatement]) -> str:
    first, last = raws[0], raws[-1]
    return " " * first.location + text[first.location : last.location + last.length]
