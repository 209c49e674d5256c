"""One role as its entry says, before what it inherits: names, expressions and settings checked, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pgfaucet.policy.expressions import check_expression
from pgfaucet.policy.identifier import qualified_name
from pgfaucet.policy.model import Source, TableGrant
from pgfaucet.policy.problem import Problem
from pgfaucet.policy.yamltree import ScalarNode, entries, node_at, position_in, source_of, texts
from pgfaucet.sql.settings import OURS, TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.policy.document import RoleModel, TableModel
    from pgfaucet.policy.yamltree import Node

EVERY: Final = "*"
_PART: Final = r'(?:"(?:[^"\x00-\x1f]|"")+"|[^\s."()\x00-\x1f](?:[^."()\x00-\x1f]*[^\s."()\x00-\x1f])?)'
_NAME: Final = re.compile(rf"{_PART}(?:\.{_PART})?")
_SYSTEM: Final = re.compile(r"pg_.*|information_schema")
_RESERVED_SETTINGS: Final = OURS | {"search_path", "standard_conforming_strings", "client_encoding"}
_TIMEOUT: Final = re.compile(r"\d+(?:\.\d+)?\s*(?:us|ms|s|min|h|d)?", re.ASCII)

Key = tuple[str, ...]
"""Where a single value of a role stands: ("explain",), ("limits", "rows"), ("settings", "statement_timeout")."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A role as written."""

    name: str
    source: Source
    node: Node = field(repr=False)
    model: RoleModel
    values: dict[Key, object]  # single values that are written
    tables: tuple[TableGrant, ...]

    def place(self, *path: str | int) -> Source:
        """Return where a key of the role stands; the role itself if it isn't written."""
        return source_of(self.node, path, of_key=True) if node_at(self.node, path) is not None else self.source


def draft(name: str, source: Source, node: Node, model: RoleModel) -> Draft:
    """Make the draft of a role that `check_role` has looked at."""
    tables = tuple(_table(name, table, node) for name, table in model.tables.items())
    return Draft(name, source, node, model, _values(model), tables)


def check_role(node: Node, problems: list[Problem]) -> None:
    """Report what the names, expressions and settings of a role have wrong in themselves."""
    for name, source, table in entries(node, "tables"):
        problems.extend(_table_name_problems(name, source))
        for key, expression in _expressions(table):
            if expression.text.strip():
                check_expression(expression, key, problems)
    problems.extend(_other_name_problems(node))
    problems.extend(_setting_problems(node))


def _values(model: RoleModel) -> dict[Key, object]:
    written = model.model_fields_set
    single: dict[Key, object] = {
        (key,): getattr(model, key) for key in ("database", "search_path", "require_where", "explain") if key in written
    }
    limits: dict[Key, object] = {("limits", key): getattr(model.limits, key) for key in model.limits.model_fields_set}
    settings: dict[Key, object] = {("settings", key.lower()): value for key, value in model.settings.items()}
    return {**single, **limits, **settings}


def _table(name: str, table: TableModel, node: Node) -> TableGrant:
    path = ("tables", name)
    return TableGrant(
        name=name,
        source=source_of(node, path, of_key=True),
        select=table.select,
        insert=table.insert,
        update=table.update,
        delete=table.delete,
        truncate=table.truncate,
        row_filter=table.row_filter,
        check=table.check,
        preset=table.preset,
        mask=table.mask,
        expression_sources={key: position_in(scalar, 0) for key, scalar in _expressions(node_at(node, path))},
    )


def _expressions(table: Node | None) -> Iterator[tuple[str, ScalarNode]]:
    """Yield each expression of a table's entry with its name, as in `mask.note`."""
    if table is None:
        return
    for key, _, value in entries(table):
        if key in ("row_filter", "check") and isinstance(value, ScalarNode):
            yield key, value
        elif key in ("preset", "mask"):
            yield from ((f"{key}.{column}", each) for column, _, each in entries(value) if isinstance(each, ScalarNode))


def _table_name_problems(name: str, source: Source) -> Iterator[Problem]:
    if name == EVERY:
        return
    if _NAME.fullmatch(name) is None or name.endswith(".*"):
        yield Problem(
            source, f'"{name}" is not the name of a table', 'write table, schema.table, or "*" for every table'
        )
    elif _SYSTEM.fullmatch(qualified_name(name, ("public",)).schema):
        yield Problem(
            source, f'"{name}" is a catalog', "leave it out: catalogs show what the role may see by themselves"
        )


def _other_name_problems(node: Node) -> Iterator[Problem]:
    for function in texts(node, "functions"):
        if function.text != EVERY and _NAME.fullmatch(function.text) is None:
            what = f'"{function.text}" is not the name of a function'
            yield Problem(function.source, what, "write schema.function, without arguments")
    for schema in texts(node, "search_path"):
        if schema.text == "$user" or schema.text.startswith("pg_temp"):
            what = f'"{schema.text}" has no meaning in a role\'s search_path'
            yield Problem(schema.source, what, "name schemas of the database")


def _setting_problems(node: Node) -> Iterator[Problem]:
    named: dict[str, str] = {}
    for name, source, value in entries(node, "settings"):
        key = name.lower()
        if key in named:
            yield Problem(source, f'"{name}" is "{named[key]}" again', "keep one")
        named[key] = name
        yield from _reserved(
            name, source, "remove it; search_path is a key of the role" if key == "search_path" else "remove it"
        )
        if not isinstance(value, ScalarNode) or value.is_null:
            continue  # reported as it is read
        if key in TIMEOUTS and _TIMEOUT.fullmatch(value.text) is None:
            what = f'"{value.text}" is not a time as PostgreSQL writes it'
            yield Problem(value.source, what, "write it as in 500ms, 5s, 10min or 1h")
    for setting in texts(node, "allow_set"):
        yield from _reserved(setting.text, setting.source, "remove it; no role can open this setting")


def _reserved(name: str, source: Source, fix: str) -> Iterator[Problem]:
    if name.lower() in _RESERVED_SETTINGS or name.lower().startswith("pgfaucet."):
        yield Problem(source, f'the setting "{name}" cannot be given to a role', fix)
