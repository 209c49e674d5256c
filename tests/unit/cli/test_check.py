from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgfaucet.cli import catalogs
from pgfaucet.cli.main import DONE, ENVIRONMENT, REFUSED, main
from tests.kit.catalog import shop
from tests.kit.policy_files import SHOP, agent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgfaucet.config import Config

Check = "Callable[..., tuple[int, str, str]]"  # a name for annotations


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Check a directory with these roles; return the exit code, stdout and stderr without the directory."""

    def run(roles: str, *options: str) -> tuple[int, str, str]:
        (tmp_path / "server.yaml").write_text(SHOP)
        (tmp_path / "roles.yaml").write_text(roles)
        code = main(["check", "-c", str(tmp_path), *options])
        out, err = capsys.readouterr()
        return code, out.replace(str(tmp_path), "p"), err.replace(str(tmp_path), "p")

    return run


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """Stand in for the server: the catalog of the shop, and errors by database that a test puts in."""
    errors: dict[str, Exception] = {}

    async def read(config: Config) -> tuple[object, object]:
        return {name: shop() for name in config.databases if name not in errors}, errors

    monkeypatch.setattr(catalogs, "read_catalogs", read)
    return errors


def test_a_good_directory_is_counted_and_exits_with_0(check: Check):
    code, out, err = check(agent("tables: {orders: {select: true}}"))
    assert (code, err) == (DONE, "")
    assert out.startswith("p: 1 role, 1 database, 0 tests, 0 errors, 0 warnings; policy version ")


def test_an_error_exits_with_1_and_nothing_is_said_on_stdout(check: Check):
    code, out, err = check(agent("tabels: {}"))
    assert (code, out) == (REFUSED, "")
    assert err == 'pgfaucet: p/roles.yaml:4:5: unknown key "tabels"; did you mean "tables"?\n'


def test_every_error_is_said(check: Check):
    _, _, err = check(agent("tabels: {}\nexplain: of\nlimits: {rows: 0}"))
    assert len(err.splitlines()) == 3
    assert all(line.startswith("pgfaucet: p/roles.yaml:") for line in err.splitlines())


def test_a_warning_leaves_the_exit_code_at_0(check: Check):
    code, out, err = check(agent("access: full"))
    assert code == DONE
    assert err.startswith('pgfaucet: p/roles.yaml:2:3: warning: role "agent" has access: full')
    assert "0 errors, 1 warning;" in out


def test_without_connect_no_server_is_asked(check: Check, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalogs, "read_catalogs", lambda _: pytest.fail("asked"))
    assert check(agent("tables: {nowhere: {select: true}}"))[0] == DONE


@pytest.mark.usefixtures("live")
def test_with_connect_what_does_not_exist_is_an_error(check: Check):
    code, out, err = check(agent("tables: {ordrs: {select: true}}"), "--connect")
    assert code == REFUSED
    assert err == 'pgfaucet: p/roles.yaml:4:14: relation "public.ordrs" does not exist; did you mean "orders"?\n'
    assert "1 error, 0 warnings;" in out


@pytest.mark.usefixtures("live")
def test_an_inherited_mistake_is_said_once(check: Check):
    roles = agent("tables: {ordrs: {select: true}}") + "  other: {inherits: [agent]}\n  third: {inherits: [agent]}\n"
    _, _, err = check(roles, "--connect")
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("live")
def test_with_connect_what_a_filter_cannot_hide_is_a_warning(check: Check):
    code, _, err = check(agent("tables: {orders: {delete: true}}"), "--connect")
    assert code == DONE
    assert "warning: deleting rows of" in err


def test_a_database_that_cannot_be_reached_exits_with_3(check: Check, live: dict[str, Exception]):
    live["shop"] = ConnectionRefusedError(111, "Connection refused")
    code, out, err = check(agent(""), "--connect")
    assert (code, out) == (ENVIRONMENT, "")
    assert err == "pgfaucet: database shop cannot be read: Connection refused; start it, or mend its dsn and password\n"


def test_a_password_is_in_no_message(check: Check, tmp_path: Path):
    (tmp_path / "more.yaml").write_text("databases: {d: {dsn: mysql://u:hunter2@h/d, password: [hunter3]}}\n")
    code, out, err = check(agent(""))
    assert code == REFUSED
    assert "hunter" not in out + err
    assert len(err.splitlines()) == 2
