"""A private PostgreSQL for tests: one server for the session, databases copied from a loaded template in milliseconds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from pgfaucet.demo.postgres import EMBEDDED, PostgresServer
from pgfaucet.demo.stage import HERE as DEMO

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_PASSWORD = "service-password"


class Postgres(PostgresServer):
    """A server that trusts local users, with the sample shop as a template database named `shop`."""

    def __init__(self, settings: Mapping[str, str] | None = None, package: str = EMBEDDED) -> None:
        super().__init__(settings=settings, trust=True, package=package)
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()

    def load_template(self, name: str, script: Path) -> None:
        """Create database `name` from a psql script, once."""
        if name not in self._templates:
            self.run_sql("postgres", f"create database {name}")
            self.run_sql(name, script.read_text())
            self._templates.add(name)

    def load_shop(self) -> None:
        """Create the sample shop of the demo and the service user, once."""
        if "shop" not in self._templates:
            script = (DEMO / "shop.sql").read_text() + (Path(__file__).parent / "shop_extras.sql").read_text()
            self.run_sql("postgres", script, {"password": SERVICE_PASSWORD})
            self._templates.add("shop")

    def new_database(self, template: str = "shop") -> str:
        """Copy a template and return the new database's name."""
        name = f"{template}_{next(self._numbers)}"
        self.run_sql("postgres", f"create database {name} template {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.run_sql("postgres", f"drop database if exists {name} with (force)")

    def put_file(self, name: str, content: bytes) -> None:
        """Write a file into the data directory, readable by the server only."""
        path = self.data / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        self.own(path)

    def authenticate_by(self, *lines: str) -> None:
        """Put lines before those of pg_hba.conf and have it read again."""
        hba = self.data / "pg_hba.conf"
        self.put_file("pg_hba.conf", ("\n".join(lines) + "\n").encode() + hba.read_bytes())
        self.run_sql("postgres", "select pg_reload_conf()")

    def rows(self, database: str, sql: str) -> list[list[str]]:
        """Run a query as the superuser; every value as text, NULL as ''."""
        return [line.split("|") for line in self.run_sql(database, sql).splitlines()]

    def value(self, database: str, sql: str) -> str:
        """Run a query that gives one value."""
        return self.run_sql(database, sql).strip()
