"""What a statement of the fuzzer can name: the tables of ../schema.sql, and which of their columns are in reach at one place."""

from __future__ import annotations

from dataclasses import dataclass, field

INT, TEXT, NUM, BOOL, TZ, TS, JSON, ARRAY, MOOD = (
    "int",
    "text",
    "numeric",
    "bool",
    "tz",
    "ts",
    "jsonb",
    "text[]",
    "mood",
)
SCALARS = (INT, TEXT, NUM, BOOL)
SQL_TYPES = {
    INT: "int",
    TEXT: "text",
    NUM: "numeric",
    BOOL: "bool",
    TZ: "timestamptz",
    TS: "timestamp",
    JSON: "jsonb",
    ARRAY: "text[]",
}

Columns = dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the columns that the role may read, its key, and what of it the role may write."""

    name: str
    columns: Columns
    key: tuple[str, ...]
    inserted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    arbiters: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    is_deleted_from: bool = True
    has_hidden_columns: bool = False


DEPT = Table("dept", {"id": INT, "tenant_id": INT, "dname": TEXT, "budget": NUM}, ("id",), is_deleted_from=False)
PEOPLE = Table(
    "people",
    {
        "id": INT,
        "tenant_id": INT,
        "name": TEXT,
        "salary": INT,
        "note": TEXT,
        "dept_id": INT,
        "email": TEXT,
        "created": TZ,
        "doc": JSON,
        "tags": ARRAY,
        "active": BOOL,
        "mgr_id": INT,
        "m": MOOD,
        "score": NUM,
    },
    ("id",),
    inserted=("id", "tenant_id", "name", "salary", "note", "dept_id", "email", "score"),
    updated=("name", "salary", "note", "dept_id", "email", "tags", "doc", "score", "tenant_id"),
    arbiters=("id", "tenant_id, email"),
    required=("id", "tenant_id"),
    has_hidden_columns=True,
)
PUBREF = Table(
    "pubref",
    {"code": TEXT, "label": TEXT, "n": INT},
    ("code",),
    inserted=("code", "label", "n"),
    updated=("label", "n", "code"),
    arbiters=("code",),
    required=("code",),
)
EV = Table(
    "ev",
    {"id": INT, "tenant_id": INT, "kind": TEXT, "ts": TS, "amt": NUM},
    ("id", "tenant_id"),
    inserted=("id", "tenant_id", "kind", "ts", "amt"),
    updated=("kind", "ts", "amt", "tenant_id", "id"),
    arbiters=("id, tenant_id",),
    required=("id", "tenant_id"),
)
ANIMALS = Table("animals", {"id": INT, "tenant_id": INT, "aname": TEXT}, ("id",), updated=("aname",))
TAGGED = Table(
    "tagged",
    {"id": INT, "tenant_id": INT, "k": TEXT, "v": TEXT, "vlen": INT},
    ("id",),
    inserted=("id", "tenant_id", "k", "v"),
    updated=("k", "v", "tenant_id", "id"),
    arbiters=("id", "tenant_id, k"),
    required=("k",),
)
TABLES = (PEOPLE, PEOPLE, PEOPLE, DEPT, PUBREF, EV, ANIMALS, TAGGED)
"""The first, which has the most to find, thrice."""


@dataclass(slots=True)
class Item:
    """One thing in FROM: an alias, its columns, and which of them tell its rows apart (none: nothing does)."""

    alias: str
    columns: Columns
    key: tuple[str, ...] = ()
    table: Table | None = None


@dataclass(slots=True)
class Scope:
    """What can be named at one place, and what around it."""

    items: list[Item] = field(default_factory=list)
    outer: Scope | None = None
    ctes: dict[str, Columns] = field(default_factory=dict)

    def columns(self, kind: str) -> list[str]:
        """Return references of one type in this scope alone."""
        return [
            f"{item.alias}.{name}"
            for item in self.items
            for name, column_kind in item.columns.items()
            if column_kind == kind
        ]

    def inner(self) -> Scope:
        """Return the scope of a sub-select."""
        return Scope(outer=self, ctes=dict(self.ctes))

    @property
    def key(self) -> list[str] | None:
        """What tells this scope's rows apart; None when nothing does."""
        if any(not item.key for item in self.items):
            return None
        return [f"{item.alias}.{name}" for item in self.items for name in item.key]
