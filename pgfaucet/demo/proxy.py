"""A pgfaucet of one's own as a child process: start it on free ports, wait until it serves, stop it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, Self

from pgfaucet.demo.postgres import clean_environment, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 40.0
ATTEMPTS: Final = 3


class ProxyUnavailable(Exception):
    """The proxy did not start; the text holds the end of its log."""


class ProxyProcess:
    """One `pgfaucet run` on a policy directory that reads PGFAUCET_LISTEN, PGFAUCET_ADMIN and PGFAUCET_STATE; a context manager.

    `state` is the directory for tokens, audit log and process log.
    """

    def __init__(
        self, policies: Path, state: Path, environment: Mapping[str, str], arguments: tuple[str, ...] = ()
    ) -> None:
        self.policies = policies
        self.state = state
        self.port = 0
        self.admin_port = 0
        self._own = dict(environment)
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start; raises ProxyUnavailable."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait until the process is gone."""
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise ProxyUnavailable("the proxy is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_file(self) -> Path:
        """Where the process writes its log."""
        return self.state / "pgfaucet.log"

    @property
    def audit_file(self) -> Path:
        """Where the process writes its audit records."""
        return self.state / "audit.jsonl"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the process, and of commands that work on the same directory."""
        return {
            **clean_environment(),
            "PYTHONUNBUFFERED": "1",
            "PGFAUCET_LISTEN": f"127.0.0.1:{self.port}",
            "PGFAUCET_ADMIN": f"127.0.0.1:{self.admin_port}",
            "PGFAUCET_STATE": str(self.state),
            **self._own,
        }

    def start(self) -> None:
        """Start on free ports and wait until statements can be served; raises ProxyUnavailable."""
        for attempt in range(ATTEMPTS):
            self.port, self.admin_port = free_port(), free_port()
            try:
                self._launch()
                return
            except ProxyUnavailable:
                if attempt + 1 == ATTEMPTS or "ddress already in use" not in self.read_log():
                    raise

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Ask the process to stop, wait for it, and return its exit code; None when it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        for number in (how, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(STOP_SECONDS)
        return process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def read_log(self) -> str:
        """Return what the process has logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def run_command(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run another pgfaucet command in the same environment."""
        return subprocess.run(
            [sys.executable, "-m", "pgfaucet", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def http(self, path: str) -> tuple[int, str]:
        """GET from the admin address: status and body; status 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as problem:
            return 0, str(problem)
        finally:
            connection.close()

    def _launch(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pgfaucet", "run", "-c", str(self.policies), *self._arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever runs us; we stop the proxy in order
            )
        deadline = time.monotonic() + START_SECONDS
        why = ""
        while time.monotonic() < deadline:
            status, why = self.http("/readyz")
            if status == 200:
                return
            if self._process.poll() is not None:
                code, self._process = self._process.returncode, None
                raise ProxyUnavailable(f"pgfaucet run ended with exit code {code}:\n{self.read_log()[-3000:]}")
            time.sleep(0.05)
        raise ProxyUnavailable(f"not ready after {START_SECONDS:.0f} s ({why.strip()}):\n{self.read_log()[-3000:]}")
