from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from pgfaucet.config import DatabaseConfig
from pgfaucet.upstream import password
from pgfaucet.upstream.dsn import Host
from pgfaucet.upstream.password import (
    KEEP_SECONDS,
    CommandPassword,
    FilePassword,
    PasswordUnavailable,
    password_of,
    target_of,
)

HOST = Host("db", 5432)
DSN = "postgresql://svc:written@db/shop"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def counting(tmp_path: Path, then: str = "") -> tuple[str, ...]:
    """Make a program that prints how often it has run."""
    runs = tmp_path / "runs"
    code = f"p = {str(runs)!r}; n = open(p, 'a+'); n.write('x'); n.flush(); print(open(p).read()); {then}"
    return (sys.executable, "-c", code)


def test_a_file_is_read_each_time(tmp_path: Path):
    path = tmp_path / "secret"
    source = FilePassword(path)
    for text in ("first", "second\n", "third\r\nand more"):
        path.write_bytes(text.encode())
        assert asyncio.run(source.get()) == text.split()[0]


@pytest.mark.parametrize("content", [b"", b"\nsecret", b"se\0cret"])
def test_a_file_without_a_password_is_told_of_by_its_name_alone(tmp_path: Path, content: bytes):
    path = tmp_path / "secret.txt"
    path.write_bytes(content)
    with pytest.raises(PasswordUnavailable) as caught:
        asyncio.run(FilePassword(path).get())
    assert str(caught.value) == f"{path}: its first line is no password"


def test_a_file_that_is_missing_is_told_of(tmp_path: Path):
    with pytest.raises(PasswordUnavailable, match="No such file"):
        asyncio.run(FilePassword(tmp_path / "none").get())


def test_a_program_runs_once_for_connections_that_are_made_together(tmp_path: Path):
    clock = Clock()
    source = CommandPassword(counting(tmp_path), clock)

    async def body() -> None:
        assert await asyncio.gather(source.get(), source.get()) == ["x", "x"]
        clock.now += KEEP_SECONDS - 0.1
        assert await source.get() == "x"
        clock.now += 0.2
        assert await source.get() == "xx"
        source.forget()
        assert await source.get() == "xxx"

    asyncio.run(body())


def test_no_shell_reads_the_command(tmp_path: Path):
    source = CommandPassword((sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME; echo 'x'"))
    assert asyncio.run(source.get()) == "$HOME; echo 'x'"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("/no/such/program",), "No such file"),
        ((sys.executable, "-c", "print('secret'); raise SystemExit(3)"), "ended with exit code 3"),
        ((sys.executable, "-c", ""), "its first line is no password"),
    ],
)
def test_a_program_that_fails_is_told_of_without_what_it_printed(command: tuple[str, ...], why: str):
    with pytest.raises(PasswordUnavailable, match=why) as caught:
        asyncio.run(CommandPassword(command).get())
    assert "secret" not in str(caught.value)


def test_a_program_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(password, "COMMAND_SECONDS", 0.3)
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    async def body() -> None:
        with pytest.raises(PasswordUnavailable, match="no password within"):
            await CommandPassword((sys.executable, "-c", code)).get()
        async with asyncio.timeout(5):
            while Path(f"/proc/{pid_file.read_text()}").exists():  # noqa: ASYNC110, ASYNC240 - there is no event to wait for
                await asyncio.sleep(0.01)

    asyncio.run(body())


def test_what_is_configured_decides_where_the_password_comes_from(tmp_path: Path):
    path = tmp_path / "secret"
    path.write_text("from file")

    async def body() -> None:
        written = target_of(DatabaseConfig("shop", DSN))
        assert await password_of(written, HOST) == "written"
        assert await password_of(target_of(DatabaseConfig("shop", DSN, "own")), HOST) == "own"
        assert await password_of(target_of(DatabaseConfig("shop", DSN, password_file=path)), HOST) == "from file"
        command = (sys.executable, "-c", "print('from program')")
        held = target_of(DatabaseConfig("shop", DSN, password_command=command))
        assert await password_of(held, HOST) == "from program"
        assert "from" not in repr(held)

    asyncio.run(body())
