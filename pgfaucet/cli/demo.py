"""`pgfaucet demo`: argument parsing only."""

from __future__ import annotations

import click

from pgfaucet.demo.show import run_demo


@click.command(
    short_help="PostgreSQL, a sample shop, the proxy and a guided tour.",
    name="demo",
    epilog="""\b
Example:
  pgfaucet demo --tour""",
)
@click.option("--tour", is_flag=True, help="Exit after the tour: 0 if every step behaved, 1 if not.")
@click.pass_context
def command(context: click.Context, *, tour: bool) -> None:
    """Start a throw-away PostgreSQL with a sample shop, put the proxy in front of it and show what it does.

    Then it stays up and prints a DSN, until Ctrl-C. It uses free ports and a temporary directory, and leaves nothing behind.
    """
    context.exit(run_demo(tour_only=tour))
