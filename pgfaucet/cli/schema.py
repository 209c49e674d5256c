"""`pgfaucet schema`: the JSON Schema of the policy files."""

from __future__ import annotations

import json

import click


@click.command(
    epilog="""\b
Example:
  pgfaucet schema > pgfaucet.schema.json
  # then, as the first line of a policy file, for editors with a YAML language server:
  # yaml-language-server: $schema=pgfaucet.schema.json
"""
)
def command() -> None:
    """Print the JSON Schema of the policy files, for editors."""
    from pgfaucet.policy.document import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
