from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pgfaucet.cli.main import DONE, REFUSED, USAGE, main
from pgfaucet.policy.loader import load
from tests.kit.policy_files import SHOP, agent

if TYPE_CHECKING:
    from pathlib import Path

    from pgfaucet.policy.model import Role


class Roles:
    """`pgfaucet role` on a directory with the database shop and the role agent."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        (directory / "server.yaml").write_text(SHOP)
        (directory / "agent.yaml").write_text(agent("description: Reads\ntables: {orders: {select: [id]}}"))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["role", *arguments, "-c", str(self.directory)])
        out, err = self._capsys.readouterr()
        return code, out.replace(str(self.directory), "p"), err.replace(str(self.directory), "p")

    def create(self, *arguments: str) -> Role:
        """Create the role bot and load it."""
        code, out, err = self.run("create", "bot", *arguments)
        assert (code, out, err) == (DONE, "p/bot.yaml\n", "")
        return load(self.directory).policy.roles["bot"]

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def roles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Roles:
    return Roles(tmp_path, capsys)


# -- create


def test_a_role_is_written_into_a_file_of_its_own(roles: Roles):
    role = roles.create("--description", "Takes orders", "--table", "orders", "--select")
    assert (role.database, role.description) == ("shop", "Takes orders")
    assert role.tables[0].select is True
    assert roles.files == ["agent.yaml", "bot.yaml", "server.yaml"]


def test_each_table_gets_the_options_that_follow_it(roles: Roles):
    role = roles.create(
        "--table", "orders", "--select", "id, status", "--update", "status", "--row-filter", "tenant_id = claim('t')::int",
        "--table", "hr.salaries", "--insert", "--delete", "--preset", "tenant_id=claim('t')::int", "--mask", "note=left(note, 3)",
    )  # fmt: skip
    orders, salaries = role.tables
    assert (orders.select, orders.update, orders.insert) == (("id", "status"), ("status",), False)
    assert orders.row_filter == "tenant_id = claim('t')::int"
    assert (salaries.name, salaries.select, salaries.insert, salaries.delete) == ("hr.salaries", False, True, True)
    assert (salaries.preset, salaries.mask) == ({"tenant_id": "claim('t')::int"}, {"note": "left(note, 3)"})


def test_what_is_granted_beside_tables_is_written_too(roles: Roles):
    role = roles.create("--inherits", "agent", "--function", "public.order_total")
    assert role.functions == ("public.order_total",)
    assert [grant.name for grant in role.tables] == ["orders"]


def test_an_expression_survives_yaml(roles: Roles):
    text = "note <> 'it''s: # \"no\"' and true"
    assert roles.create("--table", "orders", "--select", "--row-filter", text).tables[0].row_filter == text


def test_a_role_that_is_there_is_never_changed(roles: Roles):
    code, out, err = roles.run("create", "agent")
    assert (code, out) == (REFUSED, "")
    assert err == 'pgfaucet: p/agent.yaml:2:3: role "agent" exists already; choose another name, or edit it there\n'


def test_a_file_that_is_there_is_never_changed(roles: Roles):
    code, _, err = roles.run("create", "other", "--file", "agent.yaml")
    assert code == REFUSED
    assert err == "pgfaucet: p/agent.yaml: this file exists already; write --file with another name\n"


def test_what_would_not_load_is_not_written(roles: Roles):
    code, out, err = roles.run("create", "bot", "--table", "orders", "--select", "--row-filter", "a = = 1")
    assert (code, out) == (REFUSED, "")
    assert 'row_filter: syntax error at or near "="' in err
    assert roles.files == ["agent.yaml", "server.yaml"]


def test_in_a_directory_with_an_error_nothing_is_written(roles: Roles):
    (roles.directory / "bad.yaml").write_text("nonsense: 1")
    assert roles.run("create", "bot")[0] == REFUSED
    assert "bot.yaml" not in roles.files


def test_the_file_is_named_after_the_role(roles: Roles):
    assert roles.run("create", "Sales / EMEA")[1] == "p/Sales-EMEA.yaml\n"
    assert roles.run("create", "x", "--file", "y.yml")[1] == "p/y.yml\n"


@pytest.mark.parametrize("name", ["y.txt", "../y.yaml", "/tmp/y.yaml", "below/y.yaml", ".y.yaml", "y"])
def test_a_file_that_would_not_be_read_is_not_written(roles: Roles, name: str):
    code, _, err = roles.run("create", "bot", "--file", name)
    assert code == USAGE
    assert err == f'pgfaucet: "{name}" would not be read; write --file NAME.yaml\n'
    assert roles.files == ["agent.yaml", "server.yaml"]


def test_a_role_whose_name_makes_no_file_name_needs_one(roles: Roles):
    code, _, err = roles.run("create", "…")
    assert code == USAGE
    assert err == 'pgfaucet: ".yaml" would not be read; write --file NAME.yaml\n'
    assert roles.run("create", "…", "--file", "dots.yaml")[0] == DONE


def test_with_two_databases_one_must_be_named(roles: Roles):
    (roles.directory / "more.yaml").write_text("databases: {other: {dsn: postgresql://h/d}}")
    code, _, err = roles.run("create", "bot")
    assert code == USAGE
    assert err == "pgfaucet: it is not clear which database the role is for; write --database with one of other, shop\n"
    assert roles.create("--database", "other").database == "other"


def test_without_a_database_there_is_no_role(roles: Roles):
    for path in roles.directory.iterdir():
        path.unlink()
    (roles.directory / "server.yaml").write_text("server: {}")
    code, _, err = roles.run("create", "bot")
    assert code == USAGE
    assert err == "pgfaucet: there is no database for the role; write one under databases first\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--select"], "--select stands before every --table; write --table NAME first"),
        (["--table", "a", "--table", "a"], "--table a is written twice; keep one"),
        (["--table", "a", "--select", "--select", "id"], "--select is written twice for one table; keep one"),
        (["--table", "a", "--delete", "id"], '--delete takes no value; remove "id"'),
        (
            ["--table", "a", "--preset", "tenant"],
            '"tenant" is not COLUMN=SQL; write --preset "tenant_id=claim(\'tenant\')::int"',
        ),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(roles: Roles, arguments: list[str], said: str):
    code, _, err = roles.run("create", "bot", *arguments)
    assert (code, err) == (USAGE, f"pgfaucet: {said}\n")


# -- list and show


def test_the_list_has_a_line_for_each_role(roles: Roles):
    roles.create("--description", "Takes orders")
    assert roles.run("list")[1] == "agent  shop  Reads\nbot    shop  Takes orders\n"


def test_the_list_as_json_has_an_object_a_line(roles: Roles):
    lines = roles.run("list", "--json")[1].splitlines()
    assert [json.loads(line) for line in lines] == [
        {"role": "agent", "database": "shop", "description": "Reads", "source": "p/agent.yaml:2:3"}
    ]


def test_a_directory_without_roles_lists_nothing(roles: Roles):
    (roles.directory / "agent.yaml").unlink()
    assert roles.run("list") == (DONE, "", "")


def test_show_says_where_the_role_stands(roles: Roles):
    assert roles.run("show", "agent")[1].startswith("# p/agent.yaml:2:3\nroles:\n  agent:\n")


def test_an_unknown_role_is_refused_with_the_nearest_one(roles: Roles):
    code, out, err = roles.run("show", "agnt")
    assert (code, out) == (REFUSED, "")
    assert err == 'pgfaucet: p: role "agnt" does not exist; did you mean "agent"?\n'


@pytest.mark.parametrize(
    "keys",
    [
        "access: full",
        "tables: {}",
        "search_path: []\ntables: {hr.salaries: {select: true}}",
        "limits: {rows: 5, bytes: 3MB, statement_bytes: 100B, connections: 2, rate: 7/m}",
        "limits: {rate: 5000000/s}",
        "limits: {rate: 1001/h}",
        "limits: {rate: 0.5/s}",
        "settings: {statement_timeout: 5s, jit: 'off', app.name: ''}\nallow_set: [work_mem]",
        "statements: [temp, copy]\nfunctions: ['*']\nrequire_where: true\nexplain: full",
        "tables:\n  orders:\n    select: [id, note]\n    row_filter: \"note <> 'it''s: #'\"\n    preset: {a: '1'}\n    mask: {note: \"'…'\"}",
        "tables: {orders: {}, '\"Odd.Name\"': {truncate: true}}",
    ],
)
def test_what_is_shown_can_be_loaded_and_means_the_same(roles: Roles, keys: str):
    (roles.directory / "agent.yaml").write_text(agent(keys))
    before = load(roles.directory).policy
    shown = roles.run("show", "agent")[1]
    (roles.directory / "agent.yaml").write_text(shown)
    assert load(roles.directory).policy.version == before.version


def test_what_is_shown_includes_what_is_inherited(roles: Roles):
    roles.create("--inherits", "agent", "--table", "tenants", "--select")
    shown = roles.run("show", "bot")[1]
    assert "orders:" in shown
    assert "inherits" not in shown
