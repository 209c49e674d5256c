from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgfaucet.cli import catalogs
from pgfaucet.cli.main import DONE, ENVIRONMENT, REFUSED, main
from tests.kit.catalog import shop
from tests.kit.policy_files import SHOP

if TYPE_CHECKING:
    from pathlib import Path

    from pgfaucet.config import Config

ROLES = """\
roles:
  agent:
    database: shop
    tables:
      orders: {select: [id, status], update: [status], row_filter: tenant_id = claim('tenant')::int}
  owner: {database: shop, access: full}
tests:
"""


class PolicyTests:
    """`pgfaucet test` on the catalog of the shop."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.unreachable: dict[str, Exception] = {}
        self._capsys = capsys

    async def read_catalogs(self, config: Config) -> tuple[object, object]:
        return {name: shop() for name in config.databases if name not in self.unreachable}, self.unreachable

    def run(self, tests: str) -> tuple[int, str, str]:
        (self.directory / "roles.yaml").write_text(ROLES + tests + SHOP)
        code = main(["test", "-c", str(self.directory)])
        out, err = self._capsys.readouterr()
        return code, out, err.replace(str(self.directory), "p")


@pytest.fixture
def policy(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> PolicyTests:
    made = PolicyTests(tmp_path, capsys)
    monkeypatch.setattr(catalogs, "read_catalogs", made.read_catalogs)
    return made


def test_a_policy_that_decides_as_its_tests_say_exits_with_0(policy: PolicyTests):
    assert policy.run("""\
  - role: agent
    claims: {tenant: 42}
    allow:
      - select id, status from orders where status = 'open'
      - update orders set status = 'paid' where id = 1
      - begin
    deny:
      select * from api_keys: "42P01"
      select total from orders: "42703"
      delete from orders: "42501"
      selct 1: "42601"
  - {role: owner, allow: [select * from api_keys, drop table orders]}
""") == (DONE, "9 of 9 statements decided as the tests say\n", "")


def test_a_statement_that_is_refused_and_should_not_be_fails(policy: PolicyTests):
    code, out, err = policy.run("  - {role: agent, claims: {tenant: 42}, allow: [select 1, delete from orders]}\n")
    assert (code, out) == (REFUSED, "1 of 2 statements decided as the tests say\n")
    assert err == (
        'pgfaucet: p/roles.yaml:8:5: as agent, "delete from orders" should be allowed, but it is refused with 42501;'
        " mend the policy or the test, `pgfaucet explain` shows why\n"
    )


@pytest.mark.parametrize(
    ("deny", "got"),
    [
        ('select id from orders: "42501"', "be refused with 42501, but it is allowed"),
        ('select * from api_keys: "42501"', "be refused with 42501, but it is refused with 42P01"),
    ],
)
def test_a_statement_that_is_allowed_or_refused_otherwise_fails(policy: PolicyTests, deny: str, got: str):
    code, _, err = policy.run(f"  - {{role: agent, claims: {{tenant: 42}}, deny: {{{deny}}}}}\n")
    assert code == REFUSED
    assert f"should {got}; mend" in err


def test_the_limit_of_a_role_on_a_statements_length_counts(policy: PolicyTests):
    tests = f'  - role: agent\n    deny:\n      ? "select {"1" * 70_000}"\n      : "54000"\n'
    assert policy.run(tests)[0] == DONE


def test_no_test_at_all_is_no_failure(policy: PolicyTests):
    assert policy.run("  []\n") == (DONE, "0 of 0 statements decided as the tests say\n", "")


def test_a_mistake_in_the_policy_is_reported_before_any_server_is_asked(policy: PolicyTests):
    policy.unreachable["shop"] = OSError("not asked")
    code, _, err = policy.run("  - {role: agnt, allow: [select 1]}\n")
    assert code == REFUSED
    assert err == 'pgfaucet: p/roles.yaml:8:12: role "agnt" does not exist; did you mean "agent"?\n'


def test_a_database_that_cannot_be_reached_exits_with_3(policy: PolicyTests):
    policy.unreachable["shop"] = ConnectionRefusedError(111, "Connection refused")
    code, out, err = policy.run("  - {role: agent, allow: [select 1]}\n")
    assert (code, out) == (ENVIRONMENT, "")
    assert err == "pgfaucet: database shop cannot be read: Connection refused; start it, or mend its dsn and password\n"
