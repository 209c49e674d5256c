"""A statement does the same through the proxy as under PostgreSQL's own grants and row level security: each case of cases.jsonl.

`expect` is `same`, or what the proxy does where it differs on purpose: `refused` with one of these SQLSTATEs, or these `rows`, or this
`tag` (what the rows are depends on the server). Each case is run as a simple query and as a prepared statement.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.differential.fuzz.databases import ROLES, TEMPLATE
from tests.kit.comparison import difference
from tests.kit.contents import Contents
from tests.kit.player import Player
from tests.kit.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.outcome import Outcome
    from tests.kit.postgres import Postgres

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Pair:
    """The same data twice, with a client of the proxy before the one, and a client with native policies in the other."""

    proxied: Player
    native: Player
    ours: Contents
    theirs: Contents


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    postgres.run_sql("postgres", ROLES)
    postgres.load_template(TEMPLATE, HERE / "schema.sql")
    names = postgres.new_database(TEMPLATE), postgres.new_database(TEMPLATE)
    service = {"UPSTREAM_DSN": f"postgresql://svc@127.0.0.1:{postgres.port}/{names[0]}"}
    roles = (HERE / "roles.yaml").read_text()
    directory = tmp_path_factory.mktemp("differential")
    with (
        Proxy(postgres, names[0], directory, roles=roles, environment=service) as proxy,
        Contents(postgres.dsn(names[0])) as ours,
        Contents(postgres.dsn(names[1])) as theirs,
        Player.logged_in(proxy.port, proxy.mint("agent").text) as proxied,
        Player.logged_in(postgres.port, "", database=names[1], user="agent") as native,
    ):
        yield Pair(proxied, native, ours, theirs)
    for name in names:
        postgres.drop_database(name)


def cases():
    lines = (HERE / "cases.jsonl").read_text().splitlines()
    return [pytest.param(case, id=case["id"]) for case in map(json.loads, lines)]


@pytest.mark.parametrize("proto", ["simple", "prepared"])
@pytest.mark.parametrize("case", cases())
def test_as_under_native_row_level_security(pair, case, proto):
    step = {"sql": case["sql"], "proto": proto}
    try:
        ours = pair.proxied.play(step)
        if case["expect"] == "same":
            theirs = pair.native.play(step)
            reason = difference([ours], [theirs], is_ordered=" order by " in case["sql"]) or _difference_of_data(pair)
        else:
            reason = _judge(case["expect"], ours)
    finally:
        _put_back(pair)
    assert reason is None, f"{case['sql']}\n{reason}"


def _judge(expect: dict[str, Any], outcome: Outcome) -> str | None:
    if outcome.errors or outcome.ended:
        return None if outcome.sqlstate in expect.get("refused", ()) else outcome.summary
    result = outcome.results[-1]
    is_met = (
        [list(row) for row in result.rows] == expect["rows"] if "rows" in expect else result.tag == expect.get("tag")
    )
    return None if is_met else outcome.summary


def _difference_of_data(pair: Pair) -> str | None:
    for contents in (pair.ours, pair.theirs):
        contents.look()
    for table in pair.ours.tables:
        ours, theirs = pair.ours.rows(table), pair.theirs.rows(table)
        if ours != theirs:
            return f"{table}: {[row for row in (*ours, *theirs) if (row in ours) != (row in theirs)][:4]}"
    return None


def _put_back(pair: Pair) -> None:
    for player in (pair.proxied, pair.native):
        for sql in ("rollback", "close all", "deallocate all"):
            player.play({"sql": sql})
    for contents in (pair.ours, pair.theirs):
        contents.look()
        if contents.has_changed:
            contents.put_back()
