"""`pgfaucet run`: serve a policy directory."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pgfaucet.cli.main import ENVIRONMENT, complain, environment_problem
from pgfaucet.ops.logs import set_up_logging


@click.command(
    epilog="""\b
Example:
  pgfaucet run -c policies/
  psql "postgresql://me:$(pgfaucet token create -c policies --role analyst --ttl 60m --label me)@127.0.0.1:6432/shop"
"""
)
@click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)
@click.option("--workers", type=int, help="Processes on the listeners; overrides server.workers.")
@click.option("--listen", help="HOST:PORT to listen on; overrides server.listen.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(directory: Path, workers: int | None, listen: str | None, log_format: str) -> None:
    """Run the proxy until it is told to stop.

    SIGTERM finishes open transactions, then ends the sessions. SIGHUP, or a change of a file in the directory, reloads the policy;
    a directory with an error in it changes nothing.
    """
    from pgfaucet.audit.journal import AuditUnusable
    from pgfaucet.audit.keys import KeyUnusable
    from pgfaucet.auth.store import StoreUnavailable
    from pgfaucet.server import Place, load_policy, serve
    from pgfaucet.upstream.dsn import DsnError

    place = Place.from_environment()
    set_up_logging(log_format, f"worker {place.index}" if place.meeting is not None else "")
    count = workers if workers is not None else load_policy(directory, listen, None).config.server.workers
    try:
        if count != 1 and place.meeting is None:
            from pgfaucet.worker import serve_with_workers

            sys.exit(serve_with_workers(directory, listen=listen, workers=count, log_format=log_format))
        serve(directory, listen=listen, workers=workers)
    except (AuditUnusable, KeyUnusable, StoreUnavailable, DsnError) as problem:
        complain(str(problem))
        sys.exit(ENVIRONMENT)
    except OSError as problem:
        complain(f"{environment_problem(problem)}; nothing was started")
        sys.exit(ENVIRONMENT)
