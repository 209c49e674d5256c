from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgfaucet.cli import export
from pgfaucet.cli.main import DONE, REFUSED, USAGE, main
from pgfaucet.policy.export import Server
from tests.kit.catalog import shop
from tests.kit.policy_files import SHOP, agent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Export a directory with these roles, in front of the catalog of the shop."""

    async def read(settings: object, roles: list[str]) -> tuple[object, Server]:
        return shop(), Server("svc", user_passes=True)

    monkeypatch.setattr(export, "_read", read)

    def run(roles: str, *options: str, rest: str = SHOP) -> tuple[int, str, str]:
        (tmp_path / "server.yaml").write_text(rest)
        (tmp_path / "roles.yaml").write_text(roles)
        code = main(["export", "-c", str(tmp_path), *options])
        out, err = capsys.readouterr()
        return code, out, err.replace(str(tmp_path), "p")

    return run


ROLES = agent("tables: {orders: {select: true, row_filter: \"tenant_id = claim('t')::int4\"}}")
TWO = "databases: {shop: {dsn: postgresql://svc@localhost/shop}, other: {dsn: postgresql://svc@localhost/other}}\n"


def test_the_script_goes_to_stdout(run):
    code, out, err = run(ROLES, "--rls")
    assert (code, err) == (DONE, "")
    assert out.startswith("-- pgfaucet export --rls: database shop, policy version ")
    assert out.endswith("COMMIT;\n")


def test_a_claim_becomes_a_constant(run):
    assert "'7'::pg_catalog.text" in run(ROLES, "--rls", "--claim", "t=7")[1]


def test_one_role_only(run):
    out = run(ROLES + "  second: {database: shop, tables: {}}\n", "--rls", "--role", "second")[1]
    assert '"second"' in out
    assert '"agent"' not in out


def test_what_to_export_must_be_said(run):
    assert run(ROLES)[::2] == (USAGE, "pgfaucet: it is not clear what to export; write --rls\n")


def test_a_claim_without_a_value_is_a_usage_error(run):
    assert run(ROLES, "--rls", "--claim", "t")[0] == USAGE


def test_with_two_databases_one_must_be_named(run):
    assert run(ROLES, "--rls", rest=TWO)[0] == USAGE
    assert run(ROLES, "--rls", "--database", "shop", rest=TWO)[0] == DONE
    assert run(ROLES, "--rls", "--role", "agent", rest=TWO)[0] == DONE


def test_an_unknown_role_is_refused(run):
    assert run(ROLES, "--rls", "--role", "agnet")[::2] == (
        REFUSED,
        'pgfaucet: --role: role "agnet" does not exist; did you mean "agent"?\n',
    )


def test_half_a_policy_is_not_exported(run):
    code, out, err = run(agent("tables: {oders: {select: true}, orders: {select: true}}"), "--rls")
    assert (code, out) == (REFUSED, "")
    assert 'relation "public.oders" does not exist; did you mean "orders"?' in err
