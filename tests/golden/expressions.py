"""What becomes of expressions of policies over the table orders, for each purpose that they can have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.expression import compile_expression
from pgfaucet.sql.expression_scope import PolicyError
from tests.golden.decisions import GOLDEN, catalog

if TYPE_CHECKING:
    from pgfaucet.sql.expression import Purpose

ORDERS: Final = QualifiedName("public", "orders")
PURPOSES: Final[tuple[Purpose, ...]] = ("row_filter", "check", "preset", "mask")
CLAIMS: Final = {"tenant": "42", "a": "it's"}

Made = dict[str, Any]


def texts() -> list[str]:
    """Return the expressions."""
    return (GOLDEN / "expressions.txt").read_text().splitlines()


def approved() -> dict[str, Made]:
    """Return what was approved, by text."""
    lines = (GOLDEN / "expressions.approved.jsonl").read_text().splitlines()
    return {made["text"]: made for made in map(json.loads, lines)}


def compiled(text: str) -> Made:
    """Compile an expression for each purpose; purposes that make the same of it share an entry."""
    found: dict[str, Any] = {}
    for purpose in PURPOSES:
        made = _compiled(text, purpose)
        same = next((names for names, before in found.items() if before == made), None)
        if same is not None:
            del found[same]
        found[f"{same} {purpose}" if same is not None else purpose] = made
    return {"text": text, **found}


def _compiled(text: str, purpose: Purpose) -> Made:
    snapshot = catalog("attacks")
    try:
        made = compile_expression(text, snapshot.relations[ORDERS], snapshot, CLAIMS, ("public", "hr"), purpose=purpose)
    except PolicyError as error:
        return {"error": str(error), "position": error.position, "hint": error.hint}
    return {
        "node": made.node,
        "columns": sorted(made.columns),
        "has_sublink": made.has_sublink,
        "claims": sorted(made.claims),
        "missing_claim": made.missing_claim,
    }
