"""Where the password for the server comes from when it changes: a file, or the output of a program. Raises nothing that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from pgfaucet.upstream.dsn import parse_dsn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgfaucet.config import DatabaseConfig
    from pgfaucet.upstream.dsn import Host, Target

KEEP_SECONDS: Final = 30.0  # many connections that are made at once run the program once
COMMAND_SECONDS: Final = 10.0
MAX_BYTES: Final = 65_536


class PasswordUnavailable(OSError):
    """There is no password to be had. The text says why."""


class PasswordSource(Protocol):
    """Gives the password of the moment."""

    async def get(self) -> str:
        """Return it. Raises PasswordUnavailable."""

    def forget(self) -> None:
        """Take note that the server has refused it."""


class FilePassword:
    """A file that holds nothing but the password; it may be replaced at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def get(self) -> str:
        """Read the file. Raises PasswordUnavailable."""
        try:
            raw = await asyncio.to_thread(self._path.read_bytes)
        except OSError as problem:
            raise PasswordUnavailable(f"{self._path}: {problem.strerror or problem}") from None
        return _line(raw, str(self._path))

    def forget(self) -> None:
        """Do nothing: the file is read each time."""


class CommandPassword:
    """A program that prints the password, such as a client of a vault or of a cloud."""

    def __init__(self, command: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        """`command` is a program and its arguments; no shell reads them. `clock` gives monotonic seconds."""
        self._command = command
        self._clock = clock
        self._known: tuple[str, float] | None = None
        self._turn = asyncio.Lock()

    async def get(self) -> str:
        """Run the program, if it has not just been run. Raises PasswordUnavailable."""
        async with self._turn:
            if self._known is None or self._clock() - self._known[1] >= KEEP_SECONDS:
                self._known = (_line(await self._run(), self._command[0]), self._clock())
            return self._known[0]

    def forget(self) -> None:
        """Run the program again the next time."""
        self._known = None

    async def _run(self) -> bytes:
        name = self._command[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except OSError as problem:
            raise PasswordUnavailable(f"{name}: {problem.strerror or problem}") from None
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                printed, _ = await process.communicate()
        except TimeoutError:
            raise PasswordUnavailable(f"{name}: no password within {COMMAND_SECONDS:.0f} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if process.returncode:
            raise PasswordUnavailable(f"{name}: ended with exit code {process.returncode}")
        return printed


def _line(raw: bytes, where: str) -> str:
    """Return the first line. Raises PasswordUnavailable."""
    text = raw[:MAX_BYTES].partition(b"\n")[0].rstrip(b"\r")
    if not text or b"\0" in text:
        raise PasswordUnavailable(f"{where}: its first line is no password")
    return text.decode(errors="surrogateescape")


async def password_of(target: Target, host: Host) -> str | None:
    """Return the password of the moment for a host. Raises PasswordUnavailable."""
    return await target.source.get() if target.source is not None else target.password_for(host)


def target_of(settings: DatabaseConfig) -> Target:
    """Return where a database is, with what gives its password. Raises DsnError."""
    target = parse_dsn(settings.dsn, password=settings.password)
    source: PasswordSource | None = None
    if settings.password_file is not None:
        source = FilePassword(settings.password_file)
    elif settings.password_command:
        source = CommandPassword(settings.password_command)
    return replace(target, source=source)
