"""Runs real psql sessions for the tour and keeps what they printed, with the SQLSTATE and row count that psql saw."""

from __future__ import annotations

import subprocess
import textwrap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgfaucet.demo.postgres import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = "\x01"
TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What psql printed for one statement, and how that statement ended. SQLSTATE 00000 is success."""

    text: str
    sqlstate: str
    row_count: int


@dataclass(frozen=True, slots=True)
class Psql:
    """psql with one DSN."""

    program: Path
    dsn: str
    password: str

    def run(self, sql: str) -> Answer:
        """Run one statement in a session of its own; raises TimeoutExpired."""
        script = textwrap.dedent(sql).strip().rstrip(";") + f";\n\\echo {MARK}:SQLSTATE:ROW_COUNT\n"
        with self._start() as process:
            printed, _ = process.communicate(script, TIMEOUT_SECONDS)
        text, found, last = printed.rpartition(MARK)
        if not found:
            return Answer(printed.strip(), "08006", 0)
        return Answer(text.rstrip(), last[:5], int(last[5:].strip().lstrip(":") or 0))

    def start(self, sql: str) -> RunningPsql:
        """Start a statement and leave it running."""
        process = self._start()
        if process.stdin is not None:
            process.stdin.write(f"{sql};\n")
            process.stdin.close()
        return RunningPsql(process)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, "-X", "--no-password", "-v", "HISTFILE=/dev/null", "-P", "pager=off", "-d", self.dsn],
            env={**clean_environment(), "PGPASSWORD": self.password, "PGCLIENTENCODING": "UTF8", "PGAPPNAME": "psql"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )


@dataclass(frozen=True, slots=True)
class RunningPsql:
    """A psql whose statement has not ended yet."""

    process: subprocess.Popen[str]

    def wait(self, seconds: float) -> tuple[str, float]:
        """Wait for its end; return what it printed and how long that took. Ends it by force when it does not come."""
        began = time.monotonic()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        took = time.monotonic() - began
        printed = self.process.stdout.read() if self.process.stdout is not None else ""
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return printed.strip(), took
