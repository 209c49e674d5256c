"""The real proxy as a child process on a policy directory of its own."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgfaucet.demo.proxy import ProxyProcess
from tests.kit.policies import ROLES, SERVER
from tests.kit.postgres import SERVICE_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.kit.postgres import Postgres

SERVICE_USER = "faucet_svc"


@dataclass(frozen=True, slots=True)
class Token:
    """A minted token: what its bearer sends, and the id that names it elsewhere."""

    text: str
    id: str


class Proxy(ProxyProcess):
    """`pgfaucet run` in front of one database of a test server."""

    def __init__(
        self,
        postgres: Postgres,
        database: str,
        directory: Path,
        *,
        roles: str = ROLES,
        server: str = SERVER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.postgres = postgres
        self.database = database
        policies, state = directory / "policies", directory / "state"
        policies.mkdir()
        state.mkdir()
        (policies / "server.yaml").write_text(server)
        self.roles_file = policies / "roles.yaml"
        self.roles_file.write_text(roles)
        upstream = {
            "UPSTREAM_DSN": f"postgresql://{SERVICE_USER}@127.0.0.1:{postgres.port}/{database}",
            "UPSTREAM_PASSWORD": SERVICE_PASSWORD,
        }
        super().__init__(policies, state, {**upstream, **(environment or {})})
        self._tokens: dict[tuple[object, ...], Token] = {}

    # -- tokens --------------------------------------------------------------------------------------------------------------------

    def mint(self, role: str = "desk", *options: str, ttl: str = "60m", label: str = "test", **claims: object) -> Token:
        """Mint a token through the command line."""
        arguments = [
            "token",
            "create",
            "-c",
            str(self.policies),
            "--role",
            role,
            "--ttl",
            ttl,
            "--label",
            label,
            "--json",
            *options,
        ]
        for name, value in claims.items():
            arguments += ["--claim", f"{name}={value}"]
        done = self.run_command(*arguments)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        return Token(answer["token"], answer["id"])

    def token(self, role: str = "desk", tenant: int = 42) -> str:
        """Return a token for a role and a tenant; the same one at every call."""
        key = (role, tenant)
        if key not in self._tokens:
            self._tokens[key] = self.mint(role, tenant=tenant)
        return self._tokens[key].text

    def revoke(self, *selection: str) -> None:
        """Revoke tokens by id, or by `--label`, `--role`, `--all`."""
        done = self.run_command("token", "revoke", "-c", str(self.policies), *selection)
        assert done.returncode == 0, done.stderr

    def dsn(
        self, token: str | None = None, *, user: str = "agent", database: str = "shop", scheme: str = "postgresql"
    ) -> str:
        """Return a DSN; by default as the desk of tenant 42."""
        return f"{scheme}://{user}:{token if token is not None else self.token()}@127.0.0.1:{self.port}/{database}"

    # -- what it wrote -------------------------------------------------------------------------------------------------------------

    def audit(self, **fields: object) -> list[dict[str, Any]]:
        """Return the audit records whose fields have these values."""
        records = [json.loads(line) for line in self.audit_file.read_text().splitlines()]
        return [record for record in records if all(record.get(name) == value for name, value in fields.items())]

    def verify_audit(self) -> None:
        """Assert that the audit chain holds."""
        done = self.run_command("audit", "verify", str(self.audit_file))
        assert done.returncode == 0, done.stdout + done.stderr

    def metric(self, sample: str) -> float:
        """Return one sample of /metrics, named as there with its labels."""
        _, text = self.http("/metrics")
        for line in text.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no sample {sample}")

    def resident_kilobytes(self) -> int:
        """Return the process's resident memory (Linux)."""
        with Path(f"/proc/{self.pid}/status").open() as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll a condition until it holds; fail with `what` when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
