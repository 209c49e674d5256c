"""Where attacks are played: the proxy before a database full of canaries, and PostgreSQL itself under the same policy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.kit.contents import Contents
from tests.kit.player import Player
from tests.kit.proxy import Proxy

if TYPE_CHECKING:
    from tests.kit.outcome import Outcome
    from tests.kit.postgres import Postgres

HERE = Path(__file__).parent
TEMPLATE = "redteam"
ROLES = ("reader42", "writer", "narrow", "none")
OWN = {"orders": "tenant_id = 42", "notes": "tenant_id = 42", "bookings": "tenant_id = 42", "kv": "true"}
"""What the writer of tenant 42 may change."""
FREE = {"public.notes_log"}
"""What a trigger writes."""
HIDDEN = {"public.orders": ("id", "internal_note", "margin"), "public.notes": ("id", "secret_tag")}
"""Columns of own rows that nobody may change."""

Case = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """What came of the steps of a case at one of the two."""

    outcomes: list[Outcome]  # of the log-in when that was refused
    received: bytes
    was_let_in: bool = True


class Stage:
    """One proxy, its database, and one database with row level security for each role; a context manager."""

    def __init__(self, postgres: Postgres, directory: Path) -> None:
        self._postgres = postgres
        postgres.load_template(TEMPLATE, HERE / "schema.sql")
        for role in ROLES:
            postgres.run_sql("postgres", f"create database nat_{role} template {TEMPLATE}")
            postgres.run_sql(f"nat_{role}", (HERE / "native.sql").read_text(), {"role": role})
        self._database = postgres.new_database(TEMPLATE)
        self.proxy = Proxy(postgres, self._database, directory, roles=(HERE / "roles.yaml").read_text())
        self.upstream = Contents(postgres.dsn(self._database))
        self.oracle = Contents(postgres.dsn("nat_writer"))
        self._protected = self._protected_rows()
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.proxy.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()
        for contents in (self.upstream, self.oracle):
            contents.__exit__()
        for name in (self._database, *(f"nat_{role}" for role in ROLES)):
            self._postgres.drop_database(name)

    # -- playing -------------------------------------------------------------------------------------------------------------------

    def play(self, case: Case) -> Played:
        """Play a case through the proxy."""
        startup = case.get("startup", {})
        password = case["password"] if "password" in case else self._token(case)
        return _play(case, self.proxy.port, password, case.get("database", "shop"), startup)

    def play_natively(self, case: Case) -> Played:
        """Play a case as a role of its own under native grants and policies."""
        name = f"nat_{case['role']}"
        claims = " ".join(f"-c redteam.{key}={value}" for key, value in _escaped(case["claims"]))
        return _play(case, self._postgres.port, "", name, {"user": name, "options": claims})

    def play_unprotected(self, case: Case) -> Played:
        """Play a case as the service user, with nothing in between."""
        return _play(case, self._postgres.port, "", self._database, {"user": "faucet_svc"})

    def _token(self, case: Case) -> str:
        key = json.dumps([case["role"], case["claims"]])
        if key not in self._tokens:
            self._tokens[key] = self.proxy.mint(case["role"], **case["claims"]).text
        return self._tokens[key]

    # -- what it did to the data ---------------------------------------------------------------------------------------------------

    def damage(self) -> str | None:
        """Say what changed that no statement of these roles may change."""
        self.upstream.look()
        if self.upstream.has_changed_catalog:
            return "the catalogs changed"
        if not self.upstream.has_changed:
            return None
        now = self._protected_rows()
        for name, rows in self._protected.items():
            known = {row[0] for row in rows}
            same = all(row in rows for row in now[name] if row[0] in known) if name in HIDDEN else rows == now[name]
            if not same:
                return f"protected rows or columns of {name} changed"
        return None

    def difference_of_data(self) -> str | None:
        """Say where own rows are not what native row level security made of them."""
        for table, condition in OWN.items():
            columns = self.oracle.columns(f"public.{table}")
            ours = self.upstream.rows(f"public.{table}", columns, condition)
            theirs = self.oracle.rows(f"public.{table}", columns, condition)
            if ours != theirs:
                return f"{table} differs: {[row for row in (*ours, *theirs) if (row in ours) != (row in theirs)][:4]}"
        return None

    def put_back(self, case: Case) -> None:
        """Make both databases what they were before the case."""
        if case["role"] == "writer":
            self.oracle.look()
        if self.upstream.has_changed_catalog:
            self.upstream.__exit__()
            self._postgres.drop_database(self._database)
            self._postgres.run_sql("postgres", f"create database {self._database} template {TEMPLATE}")
            self.upstream = Contents(self._postgres.dsn(self._database))
        for contents in (self.upstream, self.oracle):
            if contents.has_changed:
                contents.put_back()

    def _protected_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        found = {}
        for table in self.upstream.tables:
            own = OWN.get(table.removeprefix("public."))
            if table not in FREE and own != "true":
                found[f"{table} of others"] = self.upstream.rows(table, condition=f"not ({own})" if own else "true")
        return found | {table: self.upstream.rows(table, names) for table, names in HIDDEN.items()}


def _escaped(claims: dict[str, str]) -> list[tuple[str, str]]:
    """The start-up parameter `options` is split at blanks."""
    return [(key, value.replace(" ", "\\ ")) for key, value in claims.items()]


def _play(case: Case, port: int, password: str, database: str, parameters: dict[str, str]) -> Played:
    with Player(port) as player:
        entered = player.enter(password, database, parameters)
        if entered.errors or entered.ended:
            return Played([entered], bytes(player.received), was_let_in=False)
        outcomes: list[Outcome] = []
        for step in case["steps"]:
            outcomes.append(player.play(step))
            if outcomes[-1].ended:
                break
        return Played(outcomes, bytes(player.received))
