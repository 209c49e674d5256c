"""What roles inherit, merged in (CONTRACT section 3).

A role's own table entry replaces an inherited one whole, and its own values win. What two parents say differently must be written in the
role itself. Lists of functions, statements and allow_set are united. `access`, `mode` and `description` are never inherited.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.policy.identifier import qualified_name
from pgfaucet.policy.model import Limits, Role, Source, TableGrant
from pgfaucet.policy.problem import Problem, known_names
from pgfaucet.policy.roles import EVERY, Draft, Key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pgfaucet.sql.catalog import QualifiedName

DEFAULT_PATH: Final = ("public",)
SERVER_PATH: Final = ("$user", "public")  # of `access: full`, which takes nothing from what the server gives


@dataclass(frozen=True, slots=True)
class Merged:
    """A role with what it inherits, and which of its values are written somewhere."""

    role: Role
    values: dict[Key, object]
    tables: dict[QualifiedName | str, TableGrant]


class Inheritance:
    """Merges every role of a directory once; reports what can't be merged."""

    def __init__(self, drafts: Mapping[str, Draft], known: Collection[str], databases: Collection[str]) -> None:
        """`known` are the names of all roles, of those with errors too."""
        self.problems: list[Problem] = []
        self._drafts = drafts
        self._known = known
        self._databases = databases
        self._merged: dict[str, Merged | None] = {}

    def roles(self) -> dict[str, Role]:
        """Return every role that could be merged, in the order of the files."""
        for name in self._drafts:
            self._visit(name)
        merged = (self._merged[name] for name in self._drafts)
        return {found.role.name: found.role for found in merged if found is not None}

    def _visit(self, name: str) -> None:
        """Merge a role after its parents, with a stack of our own: a chain may be long."""
        under_way: list[str] = []
        pending = [name]
        while pending:
            current = pending[-1]
            if current in self._merged or under_way[-1:] == [current]:
                pending.pop()
                if current in under_way:
                    under_way.remove(current)
                if current not in self._merged:
                    self._merged[current] = self._merge(self._drafts[current])
                continue
            under_way.append(current)
            for parent in self._drafts[current].model.inherits:
                if parent in under_way:
                    self._report_cycle(current, parent, under_way)
                    self._merged[parent] = None
                elif parent in self._drafts and parent not in self._merged:
                    pending.append(parent)

    def _report_cycle(self, current: str, parent: str, under_way: list[str]) -> None:
        names = [*under_way[under_way.index(parent) :], parent]
        index = self._drafts[current].model.inherits.index(parent)
        source = self._drafts[current].place("inherits", index)
        self._report(source, f"roles inherit in a circle: {' -> '.join(names)}", "remove one of them from inherits")

    def _merge(self, own: Draft) -> Merged | None:
        parents = self._parents(own)
        if parents is None:
            return None
        values = self._merged_values(own, parents)
        path: Any = values.get(("search_path",), DEFAULT_PATH)
        tables = self._merged_tables(own, parents, path)
        database = values.get(("database",))
        if not isinstance(database, str):
            self._report(own.source, f'role "{own.name}" names no database', "write database: NAME")
            return None
        if database not in self._databases:
            place = own.place("database")
            self._report(place, f'database "{database}" is not under databases', known_names(database, self._databases))
            return None
        role = _role(own, parents, values, tuple(tables.values()))
        return Merged(role, values, tables)

    def _parents(self, own: Draft) -> list[Merged] | None:
        """Return the parents, None if one can't be used."""
        found: list[Merged] = []
        usable = True
        for index, name in enumerate(own.model.inherits):
            source = own.place("inherits", index)
            parent = self._merged.get(name)
            if name not in self._known:
                self._report(source, f'role "{name}" does not exist', known_names(name, self._known))
            elif parent is not None and parent.role.access == "full":
                fix = "write access: full in this role if it is meant to have it"
                self._report(source, f'role "{name}" has access: full, which is not inherited', fix)
            elif parent is not None:
                found.append(parent)
                continue
            usable = False
        return found if usable else None

    def _merged_values(self, own: Draft, parents: list[Merged]) -> dict[Key, object]:
        merged: dict[Key, object] = {}
        giver: dict[Key, str] = {}
        for parent in parents:
            for key, value in parent.values.items():
                if key in own.values or merged.get(key, value) == value:
                    merged[key] = value
                    giver.setdefault(key, parent.role.name)
                    continue
                name = ".".join(key)
                what = f'roles "{giver[key]}" and "{parent.role.name}" differ on {name}'
                self._report(own.place("inherits"), what, f'write {name} in role "{own.name}"')
        return {**merged, **own.values}

    def _merged_tables(
        self, own: Draft, parents: list[Merged], path: tuple[str, ...]
    ) -> dict[QualifiedName | str, TableGrant]:
        mine: dict[QualifiedName | str, TableGrant] = {}
        for grant in own.tables:
            key = _table_key(grant.name, path)
            if not path and "." not in grant.name and key != EVERY:
                self._report(
                    grant.source, f'"{grant.name}" names no schema and search_path is empty', "write schema.table"
                )
            if key in mine:
                self._report(
                    grant.source, f'"{grant.name}" is the table that stands at {mine[key].source} already', "keep one"
                )
            mine[key] = grant
        inherited: dict[QualifiedName | str, TableGrant] = {}
        for parent in parents:
            for key, grant in parent.tables.items():
                if key in mine:
                    continue
                first = inherited.setdefault(key, grant)
                if _meaning(first) != _meaning(grant):
                    what = f'inherited entries for table "{grant.name}" differ: {first.source} and {grant.source}'
                    self._report(
                        own.place("inherits"), what, f'write the entry for "{grant.name}" in role "{own.name}"'
                    )
                self._check_path(own, grant, parent.role.search_path, path)
        return {key: _renamed(key, grant, path) for key, grant in inherited.items()} | mine

    def _check_path(self, own: Draft, grant: TableGrant, written_for: tuple[str, ...], path: tuple[str, ...]) -> None:
        """Refuse an inherited expression where its names could mean something else."""
        if grant.expression_sources and path[: len(written_for)] != written_for:
            what = f"the inherited entry at {grant.source} was written for search_path [{', '.join(written_for)}]"
            fix = f'begin search_path with it, or write the entry for "{grant.name}" in role "{own.name}"'
            self._report(own.place("search_path"), what, fix)

    def _report(self, source: Source, what: str, fix: str) -> None:
        self.problems.append(Problem(source, what, fix))


def _role(own: Draft, parents: list[Merged], values: dict[Key, object], tables: tuple[TableGrant, ...]) -> Role:
    model = own.model
    path: Any = values.get(("search_path",), DEFAULT_PATH)
    single: Any = {key[0]: value for key, value in values.items() if len(key) == 1}
    limits: Any = {key[1]: value for key, value in values.items() if key[0] == "limits"}
    settings: Any = {key[1]: value for key, value in values.items() if key[0] == "settings"}
    functions = [_function(name, parent.role.search_path, path) for parent in parents for name in parent.role.functions]
    if model.access == "full":
        single.setdefault("search_path", SERVER_PATH)
    return Role(
        **single,
        name=own.name,
        source=own.source,
        description=model.description,
        tables=tables,
        functions=_united([*functions, *model.functions]),
        statements=_united([*_lists(parents, "statements"), *model.statements]),
        allow_set=_united([*_lists(parents, "allow_set"), *(name.lower() for name in model.allow_set)]),
        settings=settings,
        limits=Limits(**limits),
        mode=model.mode,
        access=model.access,
    )


def _lists(parents: list[Merged], name: str) -> Iterator[str]:
    for parent in parents:
        yield from getattr(parent.role, name)


def _united(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _table_key(name: str, path: tuple[str, ...]) -> QualifiedName | str:
    return EVERY if name == EVERY else qualified_name(name, path)


def _meaning(grant: TableGrant) -> TableGrant:
    """Return an entry without where and how its table is written."""
    return replace(grant, name="", source=Source("", 0, 0), expression_sources={})


def _renamed(key: QualifiedName | str, grant: TableGrant, path: tuple[str, ...]) -> TableGrant:
    """Return an inherited entry under a name that means the same table on another search_path."""
    if isinstance(key, str) or qualified_name(grant.name, path) == key:
        return grant
    return replace(grant, name=f"{_quoted(key.schema)}.{_quoted(key.name)}")


def _function(name: str, written_for: tuple[str, ...], path: tuple[str, ...]) -> str:
    if name == EVERY or qualified_name(name, path) == qualified_name(name, written_for):
        return name
    found = qualified_name(name, written_for)
    return f"{_quoted(found.schema)}.{_quoted(found.name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if '"' in name or "." in name else name
