"""`pgfaucet explain`: what would be decided about a statement, and why."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from pgfaucet.plan import StatementPlan


@click.command(
    epilog="""\b
Example:
  pgfaucet explain -c policies/ --role support-agent --claim tenant=42 "select * from orders"
"""
)
@click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)
@click.option("--role", required=True, help="Decide as this role.")
@click.option(
    "--claim", "claims", multiple=True, metavar="K=V", help="A claim of the token; may be given more than once."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each statement.")
@click.argument("sql")
def command(directory: Path, role: str, claims: tuple[str, ...], as_json: bool, sql: str) -> None:
    """Show the decision about SQL, the reasons, and the text that would be sent.

    Reads the catalog of the role's database. Exit code 0 if everything would run, 1 if something would be refused.
    """
    from pgfaucet.database import decide_once

    plans = asyncio.run(decide_once(directory, role, dict(_claim(text) for text in claims), sql))
    for plan in plans:
        click.echo(orjson.dumps(_as_dict(plan)).decode() if as_json else _as_text(plan))
    sys.exit(1 if any(plan.error is not None for plan in plans) else 0)


def _claim(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not K=V", param_hint="--claim")
    return name, value


def _as_dict(plan: StatementPlan) -> dict[str, Any]:
    error = plan.error
    return {
        "decision": "allow" if error is None else "deny",
        "verb": plan.verb,
        "tables": plan.tables,
        "reasons": plan.reasons if error is None else (error.reason,),
        "sqlstate": error.sqlstate if error is not None else None,
        "message": error.message if error is not None else None,
        "hint": error.hint if error is not None else None,
        "sql": plan.sql or None,
    }


def _as_text(plan: StatementPlan) -> str:
    error = plan.error
    if error is not None:
        lines = [f"DENY   {plan.verb}  {error.sqlstate}: {error.message}"]
        lines += [f"  hint:   {error.hint}"] if error.hint else []
        lines += [f"  reason: {error.reason}"] if error.reason != error.message else []
        return "\n".join(lines)
    lines = [f"ALLOW  {plan.verb}  {', '.join(plan.tables)}".rstrip()]
    lines += [f"  because {reason}" for reason in plan.reasons]
    lines += [f"  sends   {plan.sql}"]
    return "\n".join(lines)
