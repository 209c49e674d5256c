from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from pgfaucet.audit import verify
from pgfaucet.audit.record import SessionFields
from pgfaucet.audit.sink import AuditLog
from pgfaucet.cli import audit
from pgfaucet.cli.main import main
from pgfaucet.config import AuditConfig
from pgfaucet.plan import StatementPlan

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_777_991_538.0  # 2026-05-05T14:32:18Z
BOT = SessionFields("s1", "shop", "agent", "psql", "10.0.4.18", "abc", "agent:bot:1", "desk", (("tenant", "42"),))
MAN = SessionFields("s2", "shop", "agent", "psql", "10.0.4.18", "def", "man:1", "clerk")


def plan(query: str, table: str) -> StatementPlan:
    return StatementPlan("SELECT", (table,), query, "f", (), (), (), query)


def write_log(path: Path, *queries: str) -> None:
    """Write a log of one statement a second: a bot's, or a refused one of a man if it begins with a minus sign."""

    async def body() -> None:
        now = NOW
        log = AuditLog.open(
            AuditConfig(path, path.with_name("audit.key")),
            asyncio.get_running_loop(),
            clock=lambda: now,
        )
        for query in queries:
            now += 1
            denied = query.startswith("-")
            log.append_statement(
                MAN if denied else BOT,
                plan(query.removeprefix("-"), "public.api_keys" if denied else "public.orders"),
                *(b"", 3, 10, 0.001, "42P01" if denied else None, "not granted" if denied else None, ()),
            )
        now += 1
        log.close()

    asyncio.run(body())


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verify, "WRITING_SECONDS", 0.0)
    path = tmp_path / "audit.jsonl"
    write_log(path, "SELECT one", "-SELECT two", "SELECT  three\n")
    return path


def found(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[object]:
    """Run a command with --json; return the statements of what it printed."""
    assert main(["audit", *map(str, arguments), "--json"]) == 0
    return [orjson.loads(line)["query"] for line in capsys.readouterr().out.splitlines()]


# -- verify ------------------------------------------------------------------------------------------------------------------------


def test_verify_says_how_many_records_hold(log: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["audit", "verify", str(log)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{log}: 5 records hold, ")
    assert out.endswith("in agreement\n")


def test_verify_names_the_first_record_that_does_not_hold(log: Path, capsys: pytest.CaptureFixture[str]):
    log.write_bytes(log.read_bytes().replace(b"SELECT two", b"SELECT 222"))
    assert main(["audit", "verify", str(log)]) == 1
    assert capsys.readouterr().err == (
        f"pgfaucet: {log}:3: record 3 does not hold: changed: its content does not fit its hash; the 2 records before it hold\n"
    )


def test_verify_tells_of_every_file_and_fails_if_one_does_not_hold(log: Path, capsys: pytest.CaptureFixture[str]):
    other = log.with_name("other.jsonl")
    write_log(other, "SELECT 1")
    log.write_bytes(log.read_bytes()[:-5])
    assert main(["audit", "verify", str(log), str(other)]) == 1
    shown = capsys.readouterr()
    assert "torn" in shown.err
    assert f"{other}: 3 records hold" in shown.out


def test_verify_takes_a_key_from_elsewhere(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "safe").mkdir()
    safe = (tmp_path / "audit.key.pub").rename(tmp_path / "safe" / "my.pub")
    assert main(["audit", "verify", str(log)]) == 3
    assert "name the right one with --public-key" in capsys.readouterr().err
    assert main(["audit", "verify", str(log), "--public-key", str(safe)]) == 0


def test_a_key_that_was_replaced_along_with_the_log_does_not_fool_a_copy(log: Path, tmp_path: Path):
    safe = tmp_path / "safe.copy"
    safe.write_bytes((tmp_path / "audit.key.pub").read_bytes())
    for name in ("audit.jsonl", "audit.jsonl.checkpoints", "audit.key", "audit.key.pub"):
        (tmp_path / name).unlink()
    write_log(log, "SELECT forged")
    assert main(["audit", "verify", str(log)]) == 0
    assert main(["audit", "verify", str(log), "--public-key", str(safe)]) == 1


def test_a_file_that_is_not_there_is_the_environments_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for command in ("verify", "search", "tail"):
        assert main(["audit", command, str(tmp_path / "none.jsonl")]) == 3
        assert "none.jsonl: No such file" in capsys.readouterr().err


# -- search and tail ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "queries"),
    [
        ((), [None, "SELECT one", "SELECT two", "SELECT  three\n", None]),
        (("--label", "agent:*"), ["SELECT one", "SELECT  three\n"]),
        (("--table", "api_keys"), ["SELECT two"]),
        (("--role", "clerk"), ["SELECT two"]),
        (("--decision", "deny"), ["SELECT two"]),
        (("--since", "2026-05-05T14:32:20"), ["SELECT two", "SELECT  three\n", None]),
        (("--since", "2026-05-05T16:32:21+02:00"), ["SELECT  three\n", None]),
        (("--until", "2026-05-05 14:32:20Z"), [None, "SELECT one"]),
        (("--since", "2026-05-06"), []),
    ],
)
@pytest.mark.parametrize("command", ["search", "tail"])
def test_records_are_found_by_what_is_asked(
    log: Path, capsys: pytest.CaptureFixture[str], command: str, filters: tuple[str, ...], queries: list[str | None]
):
    assert found(capsys, command, log, *filters) == queries


def test_a_time_may_be_given_as_long_ago(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit.time, "time", lambda: NOW + 63)
    assert found(capsys, "search", log, "--since", "1m") == ["SELECT  three\n", None]
    assert len(found(capsys, "search", log, "--since", "999999d")) == 5


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "5", "", "0001-01-01T00:00+23:00"])
def test_what_is_no_time_is_refused(log: Path, capsys: pytest.CaptureFixture[str], text: str):
    assert main(["audit", "search", str(log), "--since", text]) == 2
    assert "is no time; write --since 2026-05-05T14:32" in capsys.readouterr().err


def test_people_see_a_table_with_one_line_for_each_record(log: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["audit", "search", str(log), "--table", "orders"]) == 0
    heading, one, three = capsys.readouterr().out.splitlines()
    assert heading.split() == ["time", "decision", "sqlstate", "rows", "label", "claims", "statement"]
    assert one.split() == ["2026-05-05T14:32:19.000Z", "allow", "3", "agent:bot:1", "tenant=42", "SELECT", "one"]
    assert three.endswith("SELECT three")


def test_what_a_terminal_would_obey_is_not_printed(log: Path, capsys: pytest.CaptureFixture[str]):
    other = log.with_name("other.jsonl")
    write_log(other, 'SELECT "\x1b[2J\x9b\u202e"')
    assert main(["audit", "search", str(other), "--table", "orders"]) == 0
    shown = capsys.readouterr().out
    assert 'SELECT "\ufffd[2J\ufffd\ufffd"' in shown


def test_tail_shows_the_last_of_each_file(log: Path, capsys: pytest.CaptureFixture[str]):
    other = log.with_name("other.jsonl")
    write_log(other, "SELECT other")
    assert found(capsys, "tail", log, other, "-n", "2") == ["SELECT  three\n", None, "SELECT other", None]
    assert found(capsys, "tail", log, "-n", "0") == []
    assert main(["audit", "tail", str(log), "-n", "-1"]) == 2


def test_tail_follows_a_record_that_was_half_written_when_it_began(log: Path):
    whole = log.read_bytes()
    half = len(whole) - 100
    log.write_bytes(whole[:half])
    command = [sys.executable, "-m", "pgfaucet", "audit", "tail", "-f", "-n", "1", "--json", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert orjson.loads(process.stdout.readline())["query"] == "SELECT  three\n"
            with log.open("ab") as file:
                file.write(whole[half:])
            assert orjson.loads(process.stdout.readline())["event"] == "log_closed"
        finally:
            process.kill()


@pytest.mark.parametrize("command", ["verify", "search", "tail"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert main(["audit", command, "--help"]) == 0
    assert f"pgfaucet audit {command} " in capsys.readouterr().out


def test_a_log_that_is_missing_though_its_checkpoints_are_there_does_not_hold(
    log: Path, capsys: pytest.CaptureFixture[str]
):
    log.unlink()
    there = [str(path) for path in log.parent.glob("audit.jsonl*")]
    assert there
    assert main(["audit", "verify", *there]) == 1
    assert f"{log}: it is missing, though its signed checkpoints are there" in capsys.readouterr().err


def test_to_verify_nothing_is_a_mistake(log: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["audit", "verify", f"{log}.checkpoints"]) == 2
    assert "none of these is an audit log" in capsys.readouterr().err


def copied(log: Path) -> Path:
    copy = log.parent / "elsewhere"
    copy.write_bytes(log.with_name("audit.jsonl.checkpoints").read_bytes())
    return copy


def test_copies_that_another_key_signed_show_that_a_log_was_made_anew(log: Path, capsys: pytest.CaptureFixture[str]):
    copy = copied(log)
    for path in log.parent.glob("audit.*"):
        path.unlink()
    write_log(log, "SELECT forged", "SELECT forged", "SELECT forged")
    assert main(["audit", "verify", str(log)]) == 0
    assert main(["audit", "verify", str(log), "--checkpoints", str(copy)]) == 1
    assert "signed with another key" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no checkpoint\n"])
def test_copies_without_a_checkpoint_prove_nothing(log: Path, capsys: pytest.CaptureFixture[str], content: bytes):
    copy = log.parent / "elsewhere"
    copy.write_bytes(content)
    assert main(["audit", "verify", str(log), "--checkpoints", str(copy)]) == 1
    assert f"{copy}: there is no checkpoint in it" in capsys.readouterr().err


def test_torn_copies_do_not_count(log: Path):
    copy = copied(log)
    copy.write_bytes(copy.read_bytes() + b'{"ts":"2026","signature":"torn' + b"\n" + copy.read_bytes())
    assert main(["audit", "verify", str(log), "--checkpoints", str(copy)]) == 0


def test_a_log_that_was_cut_back_and_grew_again_does_not_agree_with_its_copies(
    log: Path, capsys: pytest.CaptureFixture[str]
):
    copy = copied(log)
    first = copy.read_bytes().splitlines(keepends=True)[0]
    log.with_name("audit.jsonl.checkpoints").write_bytes(first)
    log.write_bytes(log.read_bytes()[: orjson.loads(first)["offset"]])
    write_log(log, "SELECT forged", "SELECT forged")  # the end is again at a number that was signed before
    grown = log.with_name("audit.jsonl.checkpoints").read_bytes()
    signed = [orjson.loads(line)["seq"] for line in (copy.read_bytes() + grown).splitlines()]
    assert len(signed) > len(set(signed)) + 1
    copy.write_bytes(copy.read_bytes() + grown)
    assert main(["audit", "verify", str(log)]) == 0
    assert main(["audit", "verify", str(log), "--checkpoints", str(copy)]) == 1
    assert "does not hold: replaced: a copy of a signed checkpoint" in capsys.readouterr().err


def test_json_that_a_terminal_would_obey_is_escaped(log: Path, capsys: pytest.CaptureFixture[str]):
    other = log.with_name("other.jsonl")
    write_log(other, 'SELECT "\x9b\x7f\x85"')
    assert main(["audit", "search", str(other), "--table", "orders", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "\\u009b\\u007f\\u0085" in shown
    assert orjson.loads(shown)["query"] == 'SELECT "\x9b\x7f\x85"'
