"""The policy as written, validated: frozen values, no catalog knowledge. See docs/references/policy.md."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """Where something was written; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


Columns = bool | tuple[str, ...]
"""true: every column; false: none; a tuple: these."""


@dataclass(frozen=True, slots=True)
class TableGrant:
    """One entry under a role's `tables`."""

    name: str  # as written: "orders", "hr.salaries", "*"
    source: Source
    select: Columns = False
    insert: Columns = False
    update: Columns = False
    delete: bool = False
    truncate: bool = False
    row_filter: str | None = None
    check: str | None = None
    preset: dict[str, str] = field(default_factory=dict)
    mask: dict[str, str] = field(default_factory=dict)
    expression_sources: dict[str, Source] = field(default_factory=dict)  # "row_filter", "check", "preset.x", "mask.x"

    @property
    def hides_nothing(self) -> bool:
        """Whether it shows every row and column as it is."""
        return self.select is True and self.row_filter is None and not self.mask


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one role; None means none."""

    rows: int | None = None
    affected_rows: int | None = None
    bytes: int | None = None
    statement_bytes: int = 65536
    connections: int | None = None
    rate: float | None = None  # statements a second
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """A role with what it inherits already merged in."""

    name: str
    source: Source
    database: str
    description: str = ""
    search_path: tuple[str, ...] = ("public",)
    tables: tuple[TableGrant, ...] = ()
    functions: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    allow_set: tuple[str, ...] = ()
    limits: Limits = Limits()
    require_where: bool = False
    explain: str = "safe"
    mode: str = "enforce"  # or observe
    access: str = "policy"  # or full

    @property
    def may_define(self) -> bool:
        """Whether DDL is open: it is for roles that see every table whole and may call every function, so that it opens no more."""
        is_whole = all(grant.hides_nothing for grant in self.tables) and any(grant.name == "*" for grant in self.tables)
        return "ddl" in self.statements and "*" in self.functions and is_whole


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One entry under `tests`."""

    role: str
    source: Source
    claims: dict[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    deny: tuple[tuple[str, str], ...] = ()  # (statement, SQLSTATE)


@dataclass(frozen=True)
class Policy:
    """Every role of a policy directory. `version` is a hash of what was read."""

    version: str
    roles: dict[str, Role]
    tests: tuple[PolicyTest, ...] = ()
