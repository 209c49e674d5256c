"""Everything the demo stands on: PostgreSQL with the sample shop, the proxy, tokens. Built on entry, gone on exit."""

from __future__ import annotations

import shutil
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from pgfaucet.demo.postgres import PostgresServer, PostgresUnavailable
from pgfaucet.demo.proxy import ProxyProcess, ProxyUnavailable
from pgfaucet.demo.psql import Psql

if TYPE_CHECKING:
    from pgfaucet.demo.screen import Screen

HERE: Final = Path(__file__).resolve().parent
DATABASE: Final = "shop"
SERVICE_USER: Final = "faucet_svc"


class Stage:
    """A running demo; a context manager. Raises PostgresUnavailable or ProxyUnavailable on entry."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.postgres = PostgresServer()
        self.policies = policy_directory()
        self._clean_up = ExitStack()

    def __enter__(self) -> Self:
        """Start it all, and say so."""
        try:
            self._start()
        except BaseException:
            self._clean_up.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the processes and delete the directories; a second Ctrl-C does not leave half of them behind."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._clean_up.close()

    def _start(self) -> None:
        self._clean_up.enter_context(self.postgres)
        version = self.postgres.run_sql("postgres", "show server_version").strip()
        self.screen.done(f"PostgreSQL {version}", f"127.0.0.1:{self.postgres.port}, data in a temporary directory")
        schema = (HERE / "shop.sql").read_text()
        self.postgres.run_sql("postgres", schema, {"password": self.postgres.password})
        count = self.postgres.run_sql(
            DATABASE, "select count(distinct tenant_id) || ' tenants, ' || count(*) || ' orders' from orders"
        )
        self.screen.done("sample shop", f"{count.strip()}; and a table of API keys")
        state = Path(tempfile.mkdtemp(prefix="pgfaucet-demo-"))
        self._clean_up.callback(shutil.rmtree, state, ignore_errors=True)
        upstream = {
            "SHOP_DSN": f"postgresql://{SERVICE_USER}@127.0.0.1:{self.postgres.port}/{DATABASE}",
            "SHOP_DB_PASSWORD": self.postgres.password,
        }
        self.proxy = self._clean_up.enter_context(ProxyProcess(self.policies, state, upstream))
        self.screen.done("pgfaucet", f"127.0.0.1:{self.proxy.port}, policies from {shown_path(self.policies)}")

    def mint(self, *, role: str, label: str, tenant: int) -> dict[str, Any]:
        """Mint a token through the command line; return what it printed with --json."""
        claim = f"tenant={tenant}"
        return self.command_json("token", "create", "--role", role, "--claim", claim, "--ttl", "60m", "--label", label)

    def command_json(self, *arguments: str) -> dict[str, Any]:
        """Run a command on the policy directory with --json; raises ProxyUnavailable with its error."""
        done = self.proxy.run_command(*arguments, "-c", str(self.policies), "--json")
        if done.returncode != 0:
            raise ProxyUnavailable(f"pgfaucet {' '.join(arguments[:2])}: {done.stderr.strip()}")
        answer: dict[str, Any] = orjson.loads(done.stdout)
        return answer

    def client(self, token: str) -> Psql:
        """Return psql as the bearer of a token: through the proxy."""
        return Psql(self.postgres.program("psql"), f"postgresql://agent@127.0.0.1:{self.proxy.port}/{DATABASE}", token)

    def direct(self) -> Psql:
        """Return psql as the service user: past the proxy, the whole database."""
        dsn = f"postgresql://{SERVICE_USER}@127.0.0.1:{self.postgres.port}/{DATABASE}"
        return Psql(self.postgres.program("psql"), dsn, self.postgres.password)

    def statements_running(self, part: str) -> int:
        """Return how many upstream statements with this text run now, as PostgreSQL sees it."""
        sql = "select count(*) from pg_stat_activity where usename = 'faucet_svc' and state = 'active' and position(:'part' in query) > 0"
        return int(self.postgres.run_sql(DATABASE, sql, {"part": part}))

    def audit_records(self) -> list[dict[str, Any]]:
        """Return what the audit log holds at this moment."""
        return [orjson.loads(line) for line in self.proxy.audit_file.read_bytes().splitlines()]


def policy_directory() -> Path:
    """Return the worked example: ./policies of a checkout, or its copy in the installed package."""
    policies = (HERE / "policies").resolve()
    if not policies.is_dir():
        raise PostgresUnavailable(f"{HERE / 'policies'} is missing: the package is not installed whole")
    return policies


def shown_path(path: Path) -> str:
    """Return a path as short as it can be said here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
