"""The command group: finds subcommands, imports the one that is used, and turns what it raises into an error line and an exit code.

Exit codes: 0 done; 1 the answer is no; 2 usage; 3 the environment.
"""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import click
from typing_extensions import override

from pgfaucet.errors import FaucetError
from pgfaucet.policy.problem import PolicyErrors

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final = {
    "run": "Serve a policy directory.",
    "check": "Check a policy directory.",
    "explain": "Show what would be decided about a statement, and why.",
    "test": "Run the tests of the policy files.",
    "init": "Draft policies from a live database.",
    "schema": "Print the JSON Schema of the policy files.",
    "role": "Create, list and show roles.",
    "token": "Create, list, revoke and inspect tokens.",
    "audit": "Verify and search audit logs.",
    "export": "Print the policy as native GRANT and CREATE POLICY statements.",
    "demo": "PostgreSQL, a sample shop, the proxy and a guided tour.",
}
"""Each is `command` in the module of its name."""

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
ENVIRONMENT: Final = 3
INTERRUPTED: Final = 130


class Commands(click.Group):
    """A group whose subcommands are imported when they are used, so that start-up and --help are fast."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands that are installed."""
        return [name for name in COMMANDS if find_spec(f"pgfaucet.cli.{name}") is not None]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS or find_spec(f"pgfaucet.cli.{cmd_name}") is None:
            return None
        command: click.Command = import_module(f"pgfaucet.cli.{cmd_name}").command
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            fix = f'did you mean "{near[0]}"?' if near else "`pgfaucet --help` lists the commands"
            raise click.UsageError(f'there is no command "{args[0]}"; {fix}', ctx)
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _show_version(context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        try:
            click.echo(f"pgfaucet {version('pgfaucet')}")
        except PackageNotFoundError:
            click.echo("pgfaucet (not installed: run from its source tree)")
        context.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="""\b
Example:
  pgfaucet demo --tour
  pgfaucet check -c policies/""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def group() -> None:
    """A PostgreSQL proxy that parses, decides, rewrites and audits every statement."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        result: Any = group.main(args=arguments, prog_name="pgfaucet", standalone_mode=False)
    except (PolicyErrors, click.UsageError) as error:
        return _refused(error)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = (
            None  # `pgfaucet role list | head -1`: keeps the interpreter from flushing into the closed pipe at exit
        )
        return REFUSED
    except Exception as error:
        if not isinstance(error, _environment_errors()):
            raise
        complain(f"{environment_problem(error)}; mend it and try again")
        return ENVIRONMENT
    return result if isinstance(result, int) else DONE


def complain(line: str) -> None:
    """Print one error line."""
    click.echo(f"pgfaucet: {line}", err=True)


def environment_problem(error: Exception) -> str:
    """Word an error of the system, of the network or of the server on one line."""
    text = (error.format_message() if isinstance(error, click.ClickException) else str(error)).strip() or type(
        error
    ).__name__
    if isinstance(error, OSError) and error.strerror is not None:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split())


def _refused(error: PolicyErrors | click.UsageError) -> int:
    if isinstance(error, PolicyErrors):
        for problem in error.problems:
            complain(str(problem))
        return REFUSED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
    else:
        complain(_usage_message(error))
    return USAGE


def _environment_errors() -> tuple[type[Exception], ...]:
    """Return the errors that say that something outside can't be used, as far as the command has imported them."""
    asyncpg = sys.modules.get("asyncpg")
    dsn = sys.modules.get("pgfaucet.upstream.dsn")
    of_server = (asyncpg.PostgresError, asyncpg.InterfaceError) if asyncpg is not None else ()
    of_dsn = (dsn.DsnError,) if dsn is not None else ()
    return (OSError, FaucetError, click.ClickException, *of_server, *of_dsn)


def _usage_message(error: click.UsageError) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    if "; " in message:
        return message
    path = error.ctx.command_path if error.ctx is not None else "pgfaucet"
    return f"{message[:1].lower()}{message[1:]}; see `{path} --help`"
