from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from pgfaucet.cli import main as module
from pgfaucet.cli.main import COMMANDS, DONE, ENVIRONMENT, INTERRUPTED, REFUSED, USAGE, group, main
from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.policy.problem import PolicyErrors, Problem

if TYPE_CHECKING:
    from pathlib import Path


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Run a command that raises, and return the exit code."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(module.Commands, "get_command", lambda *_: command)
    return main(["check"])


def test_help_lists_every_command():
    said = CliRunner().invoke(group, ["--help"]).output
    for name, what in COMMANDS.items():
        assert f"  {name} " in said
        assert what in said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]):
    assert main([name, "--help"]) == DONE
    said = capsys.readouterr().out
    assert "Example:" in said
    assert f"pgfaucet {name}" in said


@pytest.mark.parametrize(
    "names",
    ["role create", "role list", "role show", "token create", "token list", "token revoke", "token inspect", "audit verify", "audit search", "audit tail"],
)  # fmt: skip
def test_every_subcommand_has_help_with_an_example(names: str, capsys: pytest.CaptureFixture[str]):
    assert main([*names.split(), "-h"]) == DONE
    said = capsys.readouterr().out
    assert f"pgfaucet {names}" in said.partition("Example:")[2]


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == DONE
    assert capsys.readouterr().out.startswith("pgfaucet ")


def test_an_unknown_command_is_a_usage_error_with_the_nearest_one(capsys: pytest.CaptureFixture[str]):
    assert main(["chek"]) == USAGE
    assert capsys.readouterr().err == 'pgfaucet: there is no command "chek"; did you mean "check"?\n'


def test_a_command_like_no_other_leads_to_the_help(capsys: pytest.CaptureFixture[str]):
    assert main(["zzz"]) == USAGE
    assert capsys.readouterr().err == 'pgfaucet: there is no command "zzz"; `pgfaucet --help` lists the commands\n'


def test_no_command_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: pgfaucet" in captured.err


@pytest.mark.parametrize(
    ("arguments", "what", "see"),
    [
        (["check"], "missing option '-c' / '--config'", "pgfaucet check"),
        (["check", "-c"], "option '-c' requires an argument", "pgfaucet"),
        (["schema", "extra"], "got unexpected extra argument (extra)", "pgfaucet schema"),
        (["role", "list", "-c", ".", "--jsn"], "no such option", "pgfaucet role list"),
    ],
)
def test_a_usage_error_is_one_line_that_leads_to_the_help(
    arguments: list[str], what: str, see: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == USAGE
    said = capsys.readouterr().err
    assert said.startswith(f"pgfaucet: {what}")
    assert said.endswith(f"; see `{see} --help`\n")
    assert said.count("\n") == 1


def test_errors_of_the_policy_are_one_line_each_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    problems = [Problem("a.yaml:1:1", "one", "do this"), Problem("a.yaml:2:1", "two", "do that")]
    assert failing(monkeypatch, PolicyErrors(problems)) == REFUSED
    captured = capsys.readouterr()
    assert captured.err == "pgfaucet: a.yaml:1:1: one; do this\npgfaucet: a.yaml:2:1: two; do that\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (FaucetError(Sqlstate.CANNOT_CONNECT_NOW, "not there", reason="x"), "not there"),
        (click.ClickException("two\nlines"), "two lines"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_lies_outside_exits_with_3(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert failing(monkeypatch, error) == ENVIRONMENT
    assert capsys.readouterr().err == f"pgfaucet: {said}; mend it and try again\n"


def test_an_interrupt_exits_as_shells_expect(monkeypatch: pytest.MonkeyPatch):
    assert failing(monkeypatch, KeyboardInterrupt()) == INTERRUPTED


def test_our_own_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ZeroDivisionError):
        failing(monkeypatch, ZeroDivisionError())


def test_an_exit_code_of_a_command_is_passed_on(tmp_path: Path):
    assert main(["check", "-c", str(tmp_path / "gone")]) == REFUSED
