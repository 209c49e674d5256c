from __future__ import annotations

import re
import stat
import time
from typing import TYPE_CHECKING

import orjson
import pytest

from pgfaucet.auth import signed, tokens
from pgfaucet.auth.principal import Principal
from pgfaucet.auth.sqlite_store import SqliteStore
from pgfaucet.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLICY = """\
server:
  tokens: {store: "sqlite:tokens.db", max_ttl: 2h}
  audit: {file: audit.jsonl}
databases:
  shop: {dsn: "postgresql://svc@127.0.0.1:5432/shop"}
roles:
  desk:
    database: shop
    tables:
      orders: {select: true, row_filter: "tenant_id = claim('tenant')::int"}
  clerk:
    database: shop
    tables:
      customers: {select: true}
"""


class Cli:
    """Runs `pgfaucet token`; what the last run printed."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, command: str, *arguments: str) -> int:
        code = main(["token", command, "-c", str(self.directory), *arguments])
        self.out, self.err = self._capsys.readouterr()
        return code

    def create(self, role: str = "clerk", *more: str) -> str:
        assert self("create", "--role", role, "--ttl", "60m", "--label", "agent:1", *more) == 0, self.err
        return self.out.strip()


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    (tmp_path / "policy.yaml").write_text(POLICY)
    return Cli(tmp_path, capsys)


def test_create_prints_the_token_alone(cli: Cli):
    token = cli.create()
    assert re.fullmatch(r"fct_[0-9a-z]{12}_[0-9A-Za-z]{40}", token)
    assert cli.out == token + "\n"
    assert cli.err == ""


def test_a_created_token_can_be_proved_with_what_is_stored(cli: Cli):
    token = cli.create("desk", "--claim", "tenant=42", "--claim", "note=a=b")
    public_id, secret = token[4:].split("_")
    record = SqliteStore(cli.directory / "tokens.db").get(public_id)
    assert record is not None
    assert record.claims == (("note", "a=b"), ("tenant", "42"))
    assert record.expires_at - record.created_at == 3600
    assert not isinstance(tokens.verify_secret(record, secret, record.created_at), tokens.Refusal)


def test_create_with_json_prints_the_members_of_the_contract(cli: Cli):
    made = orjson.loads(cli.create("desk", "--claim", "tenant=42", "--json"))
    assert list(made) == ["token", "id", "role", "label", "claims", "expires_at"]
    assert made["id"] == made["token"][:16]
    assert (made["role"], made["label"], made["claims"]) == ("desk", "agent:1", {"tenant": "42"})


def test_a_claim_that_a_filter_uses_and_the_token_lacks_is_warned_of(cli: Cli):
    cli.create("desk")
    assert "warning: role desk uses claim tenant, which this token lacks" in cli.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--role", "clerc", "--ttl", "1h", "--label", "x"), 1, '"clerk"'),
        (("--role", "clerk", "--ttl", "1h"), 2, "--label"),
        (("--role", "clerk", "--label", "x"), 2, "--ttl"),
        (("--role", "clerk", "--ttl", "3h", "--label", "x"), 2, "longer than server.tokens.max_ttl allows, 7200 s"),
        (("--role", "clerk", "--ttl", "0s", "--label", "x"), 2, "no duration; write --ttl 60m"),
        (("--role", "clerk", "--ttl", "60", "--label", "x"), 2, "no duration"),
        (("--role", "clerk", "--ttl", "1h", "--label", ""), 2, "a label is 1 to 256 bytes"),
        (("--role", "clerk", "--ttl", "1h", "--label", "a\nb"), 2, "printable"),
        (("--role", "clerk", "--ttl", "1h", "--label", "x", "--claim", "tenant"), 2, "not K=V"),
        (("--role", "clerk", "--ttl", "1h", "--label", "x", "--claim", "a=1", "--claim", "a=2"), 2, "written twice"),
    ],
)
def test_what_cannot_be_minted_is_refused_with_a_reason(cli: Cli, arguments: tuple[str, ...], code: int, message: str):
    assert cli("create", *arguments) == code
    assert message in cli.err
    assert cli.err.startswith("pgfaucet: ")
    assert cli.out == ""


def test_list_shows_no_secret(cli: Cli):
    token = cli.create("desk", "--claim", "tenant=42")
    assert cli("list") == 0
    heading, row = (line.split() for line in cli.out.splitlines())
    assert heading == ["ID", "STATUS", "EXPIRES", "ROLE", "LABEL", "CLAIMS"]
    assert [*row[:2], *row[3:]] == [token[:16], "valid", "desk", "agent:1", "tenant=42"]
    assert token[17:] not in cli.out


def test_list_with_json_has_one_object_a_line_with_the_members_of_the_contract(cli: Cli):
    first, second = cli.create(), cli.create()
    cli("revoke", first[:16])
    assert cli("list", "--json") == 0
    listed = [orjson.loads(line) for line in cli.out.splitlines()]
    assert {record["id"] for record in listed} == {first[:16], second[:16]}
    for record in listed:
        assert {"id", "role", "label", "claims", "created_at", "expires_at", "revoked_at"} <= record.keys()
        assert (record["revoked_at"] is None) == (record["id"] == second[:16])


@pytest.mark.parametrize(
    "chosen",
    [
        lambda token: (token[:16],),
        lambda token: (token[4:16],),
        lambda _: ("--label", "agent:*"),
        lambda _: ("--role", "clerk"),
        lambda _: ("--label", "agent:*", "--role", "clerk"),
        lambda _: ("--all",),
    ],
)
def test_revoke_ends_what_it_is_told_and_prints_the_ids(cli: Cli, chosen: Callable[[str], tuple[str, ...]]):
    token = cli.create()
    assert cli("revoke", *chosen(token)) == 0
    assert cli.out == token[:16] + "\n"
    assert cli("inspect", token[:16], "--json") == 0
    assert orjson.loads(cli.out)["status"] == "revoked"


def test_revoke_spares_what_does_not_fit(cli: Cli):
    cli.create()
    assert cli("revoke", "--label", "agent:*", "--role", "desk") == 0
    assert (cli.out, cli.err) == ("", "no valid token of the store was chosen\n")


def test_an_unknown_id_is_told_of_and_the_others_are_revoked(cli: Cli):
    token = cli.create()
    assert cli("revoke", "fct_000000000000", token[:16]) == 1
    assert cli.out == token[:16] + "\n"
    assert "there is no token fct_000000000000" in cli.err


@pytest.mark.parametrize("arguments", [(), ("--all", "--role", "clerk"), ("--all", "fct_000000000000"), ("x",)])
def test_revoke_needs_to_be_told_what(cli: Cli, arguments: tuple[str, ...]):
    token = cli.create()
    assert cli("revoke", *arguments) == 2
    cli("inspect", token[:16], "--json")
    assert orjson.loads(cli.out)["status"] == "valid"


@pytest.mark.parametrize("command", ["revoke", "inspect"])
def test_a_whole_token_is_no_id_and_is_not_repeated(cli: Cli, command: str):
    token = cli.create()
    assert cli(command, token) == 2
    assert "a whole token, secret included" in cli.err
    assert token[17:] not in cli.err


def test_inspect_shows_what_is_stored(cli: Cli):
    token = cli.create("desk", "--claim", "tenant=42")
    assert cli("inspect", token[:16]) == 0
    shown = dict(line.split(":", 1) for line in cli.out.splitlines())
    assert {name: text.strip() for name, text in shown.items() if not name.endswith("_at")} == {
        "id": token[:16],
        "role": "desk",
        "label": "agent:1",
        "claims": "tenant=42",
        "status": "valid",
    }
    assert cli("inspect", "fct_000000000000") == 1


def test_a_store_that_cannot_be_used_is_the_environments_fault(cli: Cli):
    cli.create()
    (cli.directory / "tokens.db").chmod(0o666)
    assert cli("list") == 3
    assert "chmod 600" in cli.err


@pytest.mark.parametrize("command", ["create", "list", "revoke", "inspect"])
def test_every_command_has_help_with_an_example(cli: Cli, command: str, capsys: pytest.CaptureFixture[str]):
    assert main(["token", command, "--help"]) == 0
    assert f"pgfaucet token {command} -c policies/" in capsys.readouterr().out


# -- what administrators did -------------------------------------------------------------------------------------------------------


def actions(cli: Cli) -> list[tuple[str, str, str]]:
    lines = (cli.directory / "audit.admin.jsonl").read_bytes().splitlines()
    return [(each["event"], each["token_id"], each["reason"].rpartition(": ")[2]) for each in map(orjson.loads, lines)]


def test_what_is_done_to_tokens_is_on_record(cli: Cli):
    ids = [cli.create()[:16] for _ in range(3)]
    cli("revoke", ids[0])
    cli("revoke", "--label", "agent:*", "--role", "clerk")
    cli("revoke", "--all")
    cli("list")
    cli("inspect", ids[0])
    found = actions(cli)
    assert found[:4] == [
        *[("token_created", each, "valid for 60m") for each in ids],
        ("token_revoked", ids[0], "by id"),
    ]
    assert sorted(found[4:6]) == sorted(("token_revoked", each, "label agent:*, role clerk") for each in ids[1:])
    assert found[6:] == [
        ("signed_tokens_revoked", "", "label agent:*, role clerk"),
        ("signed_tokens_revoked", "", "all"),
    ]
    assert main(["audit", "verify", str(cli.directory / "audit.admin.jsonl")]) == 0


def test_without_a_record_no_token_is_made_but_one_is_revoked(cli: Cli):
    token_id = cli.create()[:16]
    log = cli.directory / "audit.admin.jsonl"
    log.unlink()
    log.mkdir()
    assert cli("create", "--role", "clerk", "--ttl", "60m", "--label", "agent:2") == 3
    assert cli.out == ""
    assert "audit.admin.jsonl" in cli.err
    assert cli("revoke", token_id) == 3
    assert cli.out == f"{token_id}\n"
    cli("list", "--json")
    (only,) = map(orjson.loads, cli.out.splitlines())
    assert (only["id"], only["status"]) == (token_id, "revoked")


def test_terms_are_shown(cli: Cli):
    token = cli.create(
        "clerk", "--network", "10.0.4.18/24", "--network", "local", "--max-connections", "2", "--one-time"
    )
    assert cli("inspect", token[:16], "--json") == 0
    shown = orjson.loads(cli.out)
    assert shown["networks"] == ["10.0.4.0/24", "local"]
    assert (shown["max_connections"], shown["one_time"], shown["used_at"]) == (2, True, None)
    plain = cli.create()
    cli("inspect", plain[:16], "--json")
    assert not {"networks", "max_connections", "one_time"} & orjson.loads(cli.out).keys()


def test_a_used_token_is_shown_as_used(cli: Cli):
    token = cli.create("clerk", "--one-time")
    SqliteStore(cli.directory / "tokens.db").spend(token[4:16], 1_800_000_000.0)
    cli("list", "--json")
    (only,) = map(orjson.loads, cli.out.splitlines())
    assert (only["status"], only["used_at"]) == ("used", "2027-01-15T08:00:00.000Z")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--network", "everywhere"], "this is no network"),
        (["--max-connections", "0"], "--max-connections"),
        (["--sign", "none.key", "--one-time"], "none.key"),
    ],
)
def test_terms_that_make_no_sense_are_refused(cli: Cli, options: list[str], problem: str):
    arguments = ["--role", "clerk", "--ttl", "60m", "--label", "agent:1", *options]
    assert cli("create", *arguments) in (2, 3)
    assert cli.out == ""
    assert problem in cli.err
    assert not (cli.directory / "audit.admin.jsonl").exists()


def keygen(cli: Cli, capsys: pytest.CaptureFixture[str]) -> str:
    key = str(cli.directory / "signing.key")
    assert main(["token", "keygen", key]) == 0
    assert f"signed_by: [{key}.pub]" in capsys.readouterr().out
    return key


def test_a_signed_token_is_not_in_the_store(cli: Cli, capsys: pytest.CaptureFixture[str]):
    key = keygen(cli, capsys)
    made = cli("create", "--role", "clerk", "--ttl", "60m", "--label", "ci:1", "--sign", key, "--json")
    assert made == 0
    shown = orjson.loads(cli.out)
    assert shown["id"].startswith("fcs_")
    keys = signed.named([signed.read_public((cli.directory / "signing.key.pub").read_bytes())])
    proved = signed.verify(shown["token"].encode(), keys, now=time.time(), max_ttl=7200)
    assert isinstance(proved, Principal)
    assert (proved.public_name, proved.role, proved.label) == (shown["id"], "clerk", "ci:1")
    assert cli("list", "--json") == 0
    assert cli.out == ""
    assert actions(cli) == [("token_created", shown["id"], "valid for 60m, signed")]
    assert cli("revoke", shown["id"]) == 0
    assert cli.out == f"{shown['id']}\n"
    assert actions(cli)[1:] == [("token_revoked", shown["id"], "by id")]


def test_a_key_is_not_overwritten_and_is_its_owners_alone(cli: Cli, capsys: pytest.CaptureFixture[str]):
    key = keygen(cli, capsys)
    before = (cli.directory / "signing.key").read_bytes()
    assert stat.S_IMODE((cli.directory / "signing.key").stat().st_mode) == 0o600
    assert main(["token", "keygen", key]) == 3
    assert "signing.key: File exists; name a new file" in capsys.readouterr().err
    assert (cli.directory / "signing.key").read_bytes() == before


@pytest.mark.parametrize("content", ["", "no key", None])
def test_a_file_that_is_no_key_signs_nothing(cli: Cli, capsys: pytest.CaptureFixture[str], content: str | None):
    key = keygen(cli, capsys)
    text = (cli.directory / "signing.key.pub").read_text() if content is None else content
    (cli.directory / "signing.key").write_text(text)
    assert cli("create", "--role", "clerk", "--ttl", "60m", "--label", "ci:1", "--sign", key) == 3
    assert "this is no Ed25519 private key" in cli.err


def test_a_one_time_token_cannot_be_signed(cli: Cli, capsys: pytest.CaptureFixture[str]):
    key = keygen(cli, capsys)
    assert cli("create", "--role", "clerk", "--ttl", "60m", "--label", "ci:1", "--sign", key, "--one-time") == 2
    assert "it can't be a signed one" in cli.err


def test_a_rotated_token_is_like_the_old_one_which_stays(cli: Cli):
    old = cli.create("desk", "--claim", "tenant=42", "--network", "10.0.0.0/8", "--max-connections", "2")
    assert cli("rotate", old[:16], "--ttl", "90m", "--json") == 0
    made = orjson.loads(cli.out)
    assert made["token"][:16] == made["id"] != old[:16]
    cli("list", "--json")
    new, kept = sorted(map(orjson.loads, cli.out.splitlines()), key=lambda each: each["id"] != made["id"])
    same = ("role", "label", "claims", "networks", "max_connections", "status")
    assert [new[name] for name in same] == [kept[name] for name in same]
    assert kept["status"] == "valid"
    assert new["expires_at"] > kept["expires_at"]
    assert actions(cli)[1:] == [("token_created", made["id"], "valid for 90m")]


def test_a_rotated_token_is_revoked_where_that_is_wanted(cli: Cli):
    old = cli.create()
    assert cli("rotate", old[:16], "--revoke") == 0
    new = cli.out.strip()
    cli("list", "--json")
    found = {each["id"]: each["status"] for each in map(orjson.loads, cli.out.splitlines())}
    assert found == {new[:16]: "valid", old[:16]: "revoked"}
    assert actions(cli)[1:] == [
        ("token_created", new[:16], "valid for 3600s"),
        ("token_revoked", old[:16], f"rotated to {new[:16]}"),
    ]


def test_what_is_not_valid_is_not_rotated(cli: Cli):
    old = cli.create()
    cli("revoke", old[:16])
    for token_id in (old[:16], "fct_000000000000"):
        assert cli("rotate", token_id) == 1
        assert (cli.out, f"there is no valid token {token_id}" in cli.err) == ("", True)
    assert cli("rotate", cli.create()[:16], "--ttl", "9h") == 2
    assert "longer than server.tokens.max_ttl" in cli.err
