"""What `check` warns of, and what `export --rls` prints, for the roles of the suites and for roles that provoke every warning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgfaucet.policy.compile import compile_role, compile_world
from pgfaucet.policy.export import Export, Server
from pgfaucet.policy.lint import lint
from pgfaucet.policy.lint_catalog import lint_with_catalog
from tests.golden.decisions import GOLDEN, SUITES, catalog, policy

if TYPE_CHECKING:
    from collections.abc import Iterator

APPROVED: Final = GOLDEN / "policies.approved.txt"
SERVERS: Final = {
    "plain": Server(user="svc", user_passes=False),
    "passes": Server(user="svc", user_passes=True),
    "held": Server(user="svc", user_passes=False, is_member=True, unfit_roles={"open": "it is a superuser"}),
}


def text() -> str:
    """Return all of it."""
    return "\n".join(line for suite in SUITES for line in (*_warnings(suite), *_exports(suite))) + "\n"


def _warnings(suite: str) -> Iterator[str]:
    held = policy(suite)
    yield f"== {suite}: check"
    yield from map(str, lint(held))
    yield f"== {suite}: check --connect"
    for role in held.roles.values():
        yield from map(str, compile_world(role, catalog(suite), {}, role.name)[1])
    yield from map(str, lint_with_catalog(held, "shop", catalog(suite)))


def _exports(suite: str) -> Iterator[str]:
    snapshot = catalog(suite)
    fit = [role for role in policy(suite).roles.values() if not compile_role(role, snapshot).problems]
    secured = {
        relation.oid: frozenset({"pgfaucet service", "mine"}) for relation in list(snapshot.relations.values())[-9::4]
    }
    for name, server in SERVERS.items():
        made = Export(snapshot, replace(server, secured=secured), fit, {"tenant": "42", "a": "it's"})
        yield f"== {suite}: export, {name}"
        yield made.script(fit, "golden")
