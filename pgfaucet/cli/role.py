"""`pgfaucet role`: writes a role as a policy file of its own, lists roles, shows one with what it inherits. Never changes a file."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from typing_extensions import override

from pgfaucet.cli.main import REFUSED, complain
from pgfaucet.policy.inherit import SERVER_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pgfaucet.policy.model import Role, TableGrant

ALL = "*"
_SHOWN_EMPTY = ("tables",)
_TABLE_OPTIONS = ("select", "insert", "update", "delete", "truncate", "row_filter", "check", "preset", "mask")

directory_option = click.option(
    "-c", "--config", "directory", required=True, type=click.Path(path_type=Path), help="The policy directory."
)


@click.group(
    epilog="""\b
Example:
  pgfaucet role list -c policies/
  pgfaucet role show -c policies/ support-agent
"""
)
def command() -> None:
    """Create, list and show roles."""


class OrderedCommand(click.Command):
    """A command whose options apply to the --table before them: it keeps the order in which they were given."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the order, then parse as usual."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        ctx.meta["order"] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


def _columns_option(verb: str) -> Callable[[Any], Any]:
    text = f"Grant {verb} on all columns, or on A,B,C."
    return click.option(f"--{verb}", multiple=True, is_flag=False, flag_value=ALL, metavar="[COLUMNS]", help=text)


@command.command(
    cls=OrderedCommand,
    epilog="""\b
Example:
  pgfaucet role create support-agent -c policies/ --database shop \\
      --table orders --select id,status,note --update note --row-filter "tenant_id = claim('tenant')::int" \\
      --table products --select
""",
)
@click.argument("name")
@directory_option
@click.option("--database", help="A name under databases; may be left out if there is only one.")
@click.option("--description", help="What the role is for.")
@click.option("--inherits", multiple=True, metavar="ROLE", help="A role whose grants are taken over.")
@click.option("--function", "functions", multiple=True, metavar="SCHEMA.NAME", help="A function that may be called.")
@click.option("--file", "file_name", help="Name of the new file; the role's name with .yaml when absent.")
@click.option("--table", multiple=True, help="A table; the options that follow are about it.")
@_columns_option("select")
@_columns_option("insert")
@_columns_option("update")
@click.option("--delete", multiple=True, is_flag=False, flag_value=ALL, metavar="", help="Grant delete.")
@click.option("--truncate", multiple=True, is_flag=False, flag_value=ALL, metavar="", help="Grant truncate.")
@click.option("--row-filter", multiple=True, metavar="SQL", help="Rows that can be read, updated and deleted.")
@click.option("--check", multiple=True, metavar="SQL", help="Rows that may result; the row filter when absent.")
@click.option("--preset", multiple=True, metavar="COLUMN=SQL", help="Value forced on insert.")
@click.option("--mask", multiple=True, metavar="COLUMN=SQL", help="What select returns instead of a column.")
@click.pass_context
def create(context: click.Context, /, name: str, directory: Path, **options: Any) -> None:
    """Write a new file with role NAME into the policy directory.

    Nothing is written if the role or the file exists already, or if the directory would not load with it.
    """
    from pgfaucet.policy.loader import SUFFIXES, load, load_texts, read_directory

    loaded = load(directory)
    if name in loaded.policy.roles:
        complain(
            f'{loaded.policy.roles[name].source}: role "{name}" exists already; choose another name, or edit it there'
        )
        context.exit(REFUSED)
    databases = list(loaded.config.databases)
    if not databases:
        raise click.UsageError("there is no database for the role; write one under databases first", context)
    if options["database"] is None and not options["inherits"] and len(databases) != 1:
        raise click.UsageError(
            f"it is not clear which database the role is for; write --database with one of {', '.join(databases)}",
            context,
        )
    if options["database"] is None and not options["inherits"]:
        options["database"] = databases[0]
    path = directory / (options["file_name"] or re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-") + ".yaml")
    if path.suffix not in SUFFIXES or path.parent != directory or path.name.startswith("."):
        raise click.UsageError(
            f'"{options["file_name"] or path.name}" would not be read; write --file NAME.yaml', context
        )
    text = _document(name, options, _tables(context, options))
    if not path.exists():
        load_texts(directory, {**read_directory(directory), path.name: text.encode()}, environ=os.environ)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        complain(f"{path}: this file exists already; write --file with another name")
        context.exit(REFUSED)
    click.echo(str(path))


@command.command(
    "list",
    epilog="""\b
Example:
  pgfaucet role list -c policies/
""",
)
@directory_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_roles(directory: Path, *, as_json: bool) -> None:
    """List the roles of a policy directory."""
    from pgfaucet.policy.loader import load

    roles = load(directory).policy.roles.values()
    if as_json:
        for role in roles:
            click.echo(
                json.dumps(
                    {
                        "role": role.name,
                        "database": role.database,
                        "description": role.description,
                        "source": str(role.source),
                    }
                )
            )
        return
    width = max((len(role.name) for role in roles), default=0)
    place = max((len(role.database) for role in roles), default=0)
    for role in roles:
        click.echo(f"{role.name:<{width}}  {role.database:<{place}}  {role.description}".rstrip())


@command.command(
    epilog="""\b
Example:
  pgfaucet role show -c policies/ support-agent
"""
)
@click.argument("name")
@directory_option
def show(name: str, directory: Path) -> None:
    """Show role NAME as YAML, with what it inherits."""
    from pgfaucet.policy.loader import PolicyErrors, load, unknown_role

    policy = load(directory).policy
    role = policy.roles.get(name)
    if role is None:
        raise PolicyErrors([unknown_role(name, policy, directory)])
    click.echo(f"# {role.source}")
    click.echo(_dump({"roles": {name: _shown(role)}}), nl=False)


def _tables(context: click.Context, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each table the options that were written after it."""
    values: dict[str, Iterator[str]] = {name: iter(options[name]) for name in ("table", *_TABLE_OPTIONS)}
    tables: dict[str, dict[str, Any]] = {}
    current: dict[str, Any] | None = None
    for name in context.meta["order"]:
        if name == "table":
            table = next(values["table"])
            if table in tables:
                raise click.UsageError(f"--table {table} is written twice; keep one", context)
            current = tables[table] = {}
        elif name in values:
            flag = f"--{name.replace('_', '-')}"
            if current is None:
                raise click.UsageError(f"{flag} stands before every --table; write --table NAME first", context)
            _put(context, current, name, flag, next(values[name]))
    return tables


def _put(context: click.Context, table: dict[str, Any], name: str, flag: str, text: str) -> None:
    if name in ("preset", "mask"):
        column, separator, expression = text.partition("=")
        if not separator or not column:
            raise click.UsageError(
                f'"{text}" is not COLUMN=SQL; write {flag} "tenant_id=claim(\'tenant\')::int"', context
            )
        table.setdefault(name, {})[column.strip()] = expression.strip()
        return
    if name in table:
        raise click.UsageError(f"{flag} is written twice for one table; keep one", context)
    if name in ("delete", "truncate") and text != ALL:
        raise click.UsageError(f'{flag} takes no value; remove "{text}"', context)
    if name in ("row_filter", "check"):
        table[name] = text
    else:
        table[name] = True if text == ALL else [column.strip() for column in text.split(",")]


def _document(name: str, options: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    role = {
        "description": options["description"],
        "database": options["database"],
        "inherits": list(options["inherits"]),
        "tables": dict(tables),
        "functions": list(options["functions"]),
    }
    return _dump({"roles": {name: {key: value for key, value in role.items() if value or key == "tables"}}})


def _shown(role: Role) -> dict[str, Any]:
    limits = {key: getattr(role.limits, key) for key in type(role.limits).__dataclass_fields__}
    found: dict[str, Any] = {
        "description": role.description,
        "database": role.database,
        "access": role.access if role.access != "policy" else None,
        "mode": role.mode if role.mode != "enforce" else None,
        "search_path": list(role.search_path) if role.search_path != SERVER_PATH else None,
        "tables": {grant.name: _shown_table(grant) for grant in role.tables},
        "functions": list(role.functions),
        "statements": list(role.statements),
        "settings": role.settings,
        "allow_set": list(role.allow_set),
        "limits": {key: _shown_limit(key, value) for key, value in limits.items() if value is not None},
        "require_where": role.require_where,
        "explain": role.explain,
    }
    return {
        key: value
        for key, value in found.items()
        if value not in (None, "", [], {}) or key in _SHOWN_EMPTY or (key == "search_path" and value == [])
    }


def _shown_limit(key: str, value: float) -> Any:
    if key in ("bytes", "statement_bytes"):
        return f"{value // 1024}KB" if value % 1024 == 0 else f"{value}B"
    if key == "rate":
        return _shown_rate(value)
    return value


def _shown_rate(value: float) -> str:
    """Write a rate with the unit in which it is a whole number."""
    for unit, seconds in (("s", 1), ("m", 60), ("h", 3_600)):
        number = value * seconds
        if round(number) and math.isclose(number, round(number)):
            return f"{round(number)}/{unit}"
    return f"{value * 3_600:.6f}/h"


def _shown_table(grant: TableGrant) -> dict[str, Any]:
    found = {key: getattr(grant, key) for key in _TABLE_OPTIONS}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items() if value}


def _dump(document: Any) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=140, default_flow_style=None)
    return text
