"""`pgfaucet init`, against a real server: what it drafts loads, is right for the catalog, and opens nothing private."""

from __future__ import annotations

import pytest
import yaml

from pgfaucet.cli.main import DONE, ENVIRONMENT, REFUSED, main
from tests.kit.postgres import SERVICE_PASSWORD

EXTRA = """
create schema hr;
create table hr.staff (id int primary key, tenant_id int references tenants, name text, password_hash text, card_number text);
create table "Odd Name" (id int, tenant_id int);
create table "on" (id int, tenant_id int);
create view big_orders as select id, tenant_id, total from orders where total > 50;
grant usage on schema hr to faucet_svc; grant select on all tables in schema hr, public to faucet_svc;
"""


def run(*arguments):
    """Run a command as the shell does; return the exit code."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


@pytest.fixture
def dsn(postgres, database):
    postgres.run_sql(database, EXTRA)
    return f"postgresql://faucet_svc:{SERVICE_PASSWORD}@127.0.0.1:{postgres.port}/{database}"


def test_the_draft_is_a_policy_that_holds(dsn, database, tmp_path, monkeypatch, capsys):
    policies = tmp_path / "policies"
    assert main(["init", "-c", str(policies), "--dsn", dsn]) == DONE
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(policies / "server.yaml"), str(policies / f"{database}.yaml")]
    assert f"put the password into {database.upper()}_PASSWORD" in err
    written = "".join(path.read_text() for path in policies.iterdir())
    assert SERVICE_PASSWORD not in written
    monkeypatch.setenv(f"{database.upper()}_PASSWORD", SERVICE_PASSWORD)
    assert main(["check", "-c", str(policies), "--connect"]) == DONE, capsys.readouterr()
    role = yaml.safe_load((policies / f"{database}.yaml").read_text())["roles"][f"{database}-reader"]
    tables = role["tables"]
    assert tables["orders"]["row_filter"] == "tenant_id = claim('tenant')::integer"
    assert tables["tenants"]["row_filter"] == "id = claim('tenant')::integer"
    assert tables["hr.staff"]["select"] == ["id", "tenant_id", "name"]
    assert "secret" not in tables["notes"]["select"]
    assert set(tables) == {"customers", "orders", "notes", "tenants", "hr.staff", "on", "big_orders", "api_keys"}
    assert tables["api_keys"]["select"] == ["id", "tenant_id"]
    assert {verb for grant in tables.values() for verb in grant} == {"select", "row_filter"}
    assert "# order_items has no tenant_id" in written
    assert '# "public.Odd Name" has names that must be quoted' in written


def test_the_drafted_role_sees_its_tenant_only(dsn, database, tmp_path, monkeypatch, capsys):
    assert main(["init", "-c", str(tmp_path), "--dsn", dsn]) == DONE
    monkeypatch.setenv(f"{database.upper()}_PASSWORD", SERVICE_PASSWORD)
    explain = ["explain", "-c", str(tmp_path), "--role", f"{database}-reader", "--claim", "tenant=42"]
    assert run(*explain, "select secret from api_keys") == REFUSED
    assert run(*explain, "select * from order_items") == REFUSED
    assert run(*explain, "select count(*) from orders") == DONE
    assert "WHERE orders.tenant_id = '42'" in capsys.readouterr().out.replace("::pg_catalog.text", "").replace(
        "CAST(", ""
    )


def test_policies_that_are_there_are_left_alone(dsn, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("roles: {}\n")
    assert main(["init", "-c", str(tmp_path), "--dsn", dsn]) == REFUSED
    assert (
        capsys.readouterr().err
        == f"pgfaucet: {tmp_path / 'mine.yaml'}: there are policies already; choose another directory\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_server_that_is_not_there_is_said_and_nothing_is_written(tmp_path, capsys):
    assert (
        main(["init", "-c", str(tmp_path / "p"), "--dsn", "postgresql://u:pw-not-shown@127.0.0.1:1/d"]) == ENVIRONMENT
    )
    assert "pw-not-shown" not in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
