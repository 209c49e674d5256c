"""`pgfaucet explain`: what would be decided about a statement, and why."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from pgfaucet.cli.claims import parse_claims

if TYPE_CHECKING:
    from pgfaucet.plan import StatementPlan
    from pgfaucet.upstream.server_plan import ServerPlan


@click.command(
    epilog="""\b
Example:
  pgfaucet explain -c policies/ --role support-agent --claim tenant=42 "select * from orders"
  pgfaucet explain -c policies/ --role support-agent --claim tenant=42 --plan "select * from orders"
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
@click.option("--plan", "with_plan", is_flag=True, help="Also show how the server would run what would be sent.")
@click.argument("sql")
def command(directory: Path, role: str, claims: tuple[str, ...], sql: str, *, as_json: bool, with_plan: bool) -> None:
    """Show the decision about SQL, the reasons, and the text that would be sent.

    Reads the catalog of the role's database and executes nothing; --plan has the server plan what would be sent. Exit code 0 if everything would run, 1 if something would be refused.
    """
    from pgfaucet.database import decide_once

    decided = asyncio.run(decide_once(directory, role, parse_claims(claims), sql, with_server_plans=with_plan))
    for plan, server_plan in decided:
        if as_json:
            shown = {"plan": _plan_as_dict(server_plan)} if with_plan else {}
            click.echo(orjson.dumps(_as_dict(plan) | shown).decode())
        else:
            click.echo(_as_text(plan) + _plan_as_text(server_plan))
    sys.exit(1 if any(plan.error is not None for plan, _ in decided) else 0)


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


def _plan_as_dict(plan: ServerPlan | None) -> dict[str, Any] | None:
    return {"lines": plan.lines, "error": plan.error} if plan is not None else None


def _plan_as_text(plan: ServerPlan | None) -> str:
    if plan is None:
        return ""
    lines = plan.lines if plan.error is None else (f"cannot be shown: {plan.error}",)
    return "".join(f"\n  {'' if number else 'plan':<7} {line}" for number, line in enumerate(lines))
