"""Warnings about a policy that is valid but may not be meant: wide roles, filters nobody tests, entries without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.policy.problem import Problem, in_order
from pgfaucet.sql.expression import PolicyError, claims_in, parse_expression
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.policy.model import Columns, Policy, PolicyTest, Role, Source, TableGrant
    from pgfaucet.sql.world import Node

VOLATILE: Final = frozenset(
    {
        "clock_timestamp", "currval", "gen_random_bytes", "gen_random_uuid", "lastval", "nextval", "pg_current_xact_id", "pg_sleep",
        "random", "random_normal", "set_config", "setseed", "setval", "timeofday", "txid_current", "uuid_generate_v4", "uuidv4", "uuidv7",
    }
)  # fmt: skip


def lint(policy: Policy) -> list[Problem]:
    """Return what deserves a second look, without a server."""
    found: list[Problem] = []
    for role in policy.roles.values():
        tests = [test for test in policy.tests if test.role == role.name]
        found += _wide(role)
        found += _untested(role, tests)
        for grant in role.tables:
            found += _without_effect(grant)
            found += _risky(grant)
    return in_order(found)


def columns_read(text: str) -> frozenset[str]:
    """Return the columns that an expression reads from the table's own row, as far as its text tells; sub-selects are left out."""
    try:
        tree = parse_expression(text)
    except PolicyError:
        return frozenset()
    inner = {id(node) for sublink in _bodies(tree, "SubLink") for node in walk(sublink.get("subselect"))}
    references = (node["ColumnRef"]["fields"] for node in walk(tree) if "ColumnRef" in node and id(node) not in inner)
    return frozenset(fields[-1]["String"]["sval"] for fields in references if "String" in fields[-1])


def covers(columns: Columns, name: str) -> bool:
    """Say whether a list of columns, or true, names a column."""
    return columns if isinstance(columns, bool) else name in columns


def warning(source: Source, what: str, fix: str) -> Problem:
    """Make a warning."""
    return Problem(source, what, fix, is_warning=True)


def _bodies(tree: Node, kind: str) -> Iterator[Node]:
    for node in walk(tree):
        if kind in node:
            yield node[kind]


def _wide(role: Role) -> Iterator[Problem]:
    if role.access == "full":
        yield warning(
            role.source,
            f'role "{role.name}" has access: full: nothing is filtered or refused',
            "keep its tokens few and short-lived",
        )
        return
    if role.mode == "observe":
        yield warning(
            role.source,
            f'role "{role.name}" has mode: observe: everything is forwarded',
            "read what it would have refused in the audit log, then write mode: enforce",
        )
    for grant in role.tables:
        verbs = [verb for verb in ("select", "insert", "update", "delete", "truncate") if getattr(grant, verb)]
        if grant.name == "*" and verbs:
            what = f'"*" opens every table outside the system schemas for {", ".join(verbs)}, future ones too'
            yield warning(grant.source, what, "name the tables if not all are meant")
    if "*" in role.functions:
        what = f'role "{role.name}" may call every function but the dangerous ones'
        yield warning(role.source, what, "name the functions if not all are meant")
    if role.statements:
        what = f'role "{role.name}" may run statements of kind {", ".join(role.statements)}'
        yield warning(role.source, what, "remove those it does not need")
    if "ddl" in role.statements and not role.may_define:
        what = f'role "{role.name}" has statement kind ddl, which opens only settings for it'
        fix = 'DDL is for roles with tables: {"*": {select: true}}, nothing narrower, and functions: ["*"]'
        yield warning(role.source, what, fix)
    if "*" in role.allow_set:
        yield warning(
            role.source,
            f'role "{role.name}" may set every setting but the reserved ones',
            "name the settings if not all are meant",
        )
    if role.explain == "full" and any(grant.row_filter is not None for grant in role.tables):
        what = f'role "{role.name}" has explain: full: plans show row filters and count hidden rows'
        yield warning(role.source, what, "write explain: safe")


def _untested(role: Role, tests: list[PolicyTest]) -> Iterator[Problem]:
    filtered = [grant for grant in role.tables if grant.row_filter is not None]
    if not filtered:
        return
    if not tests:
        yield warning(role.source, f'role "{role.name}" filters rows and has no test', "write one under tests")
        return
    given = {claim for test in tests for claim in test.claims}
    used = {claim for grant in filtered for claim in claims_in(grant.row_filter or "")}
    for claim in sorted(used - given):
        what = f'no test of role "{role.name}" has the claim "{claim}", which its row filters use'
        yield warning(
            role.source, what, f"write a test with claims: {{{claim}: ...}}; without the claim no row is visible"
        )


def _without_effect(grant: TableGrant) -> Iterator[Problem]:
    place = grant.expression_sources.get
    can_write = bool(grant.insert or grant.update)
    if grant.row_filter is not None and not (grant.select or grant.update or grant.delete or grant.insert):
        yield warning(
            place("row_filter", grant.source),
            f'the row filter of "{grant.name}" has no effect: nothing is granted',
            "grant a verb, or remove it",
        )
    if grant.check is not None and not can_write:
        yield warning(
            place("check", grant.source),
            f'the check of "{grant.name}" has no effect: neither insert nor update is granted',
            "remove it",
        )
    for column in grant.preset:
        source = place(f"preset.{column}", grant.source)
        if not grant.insert:
            yield warning(
                source, f'the preset of "{column}" has no effect: insert is not granted', "remove it, or grant insert"
            )
        elif not isinstance(grant.insert, bool) and column in grant.insert:
            yield warning(source, f'"{column}" has a preset, so clients cannot insert it', "take it out of insert")
    for column in grant.mask:
        if not covers(grant.select, column):
            source = place(f"mask.{column}", grant.source)
            yield warning(
                source,
                f'the mask of "{column}" has no effect: select is not granted on it',
                "remove it, or grant select",
            )


def _risky(grant: TableGrant) -> Iterator[Problem]:
    place = grant.expression_sources.get
    moved = sorted(column for column in columns_read(grant.row_filter or "") if covers(grant.update, column))
    if moved and grant.check is None:
        what = (
            f'clients may set {", ".join(moved)} of "{grant.name}", which the row filter reads, and there is no check'
        )
        yield warning(grant.source, what, "take them out of update, or write a check that says which rows may result")
    for column in grant.mask:
        verbs = [verb for verb in ("insert", "update") if covers(getattr(grant, verb), column)]
        if verbs:
            what = (
                f'"{column}" is masked and can be written by {" and ".join(verbs)}: a masked value may be written back'
            )
            yield warning(place(f"mask.{column}", grant.source), what, f"take it out of {' and '.join(verbs)}")
    expressions = {
        "row_filter": grant.row_filter,
        "check": grant.check,
        **{f"mask.{name}": text for name, text in grant.mask.items()},
    }
    for key, text in expressions.items():
        for name in sorted(_volatile(text or "")):
            what = f"{key} calls {name}(), which gives another answer at each call"
            yield warning(place(key, grant.source), what, "use a value that is fixed for the statement")


def _volatile(text: str) -> set[str]:
    try:
        calls = _bodies(parse_expression(text), "FuncCall")
    except PolicyError:
        return set()
    return {call["funcname"][-1]["String"]["sval"] for call in calls} & VOLATILE
