"""Random statements: the same as under native row level security, and the same whatever is in the rows that nobody may see.

PGFAUCET_FUZZ_STATEMENTS and PGFAUCET_FUZZ_PAIRS: how many of the one and of the other (`make proof`: 100000 and 20000).
PGFAUCET_FUZZ_SEED: where the seeds that are new in each run begin, to play a run again. A statement is made of its seed alone:
`python -c "from tests.differential.fuzz.generator import statement; print(statement(SEED).sql)"`.
"""

from __future__ import annotations

import os
import secrets
import sys
from typing import TYPE_CHECKING

import pytest

from tests.differential.fuzz import naive
from tests.differential.fuzz.databases import SUITE, Databases
from tests.differential.fuzz.generator import statement
from tests.differential.fuzz.harness import Report, known_difference, run, with_native, with_other_rows
from tests.kit.comparison import difference
from tests.kit.player import Player
from tests.kit.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.postgres import Postgres

STATEMENTS = int(os.environ.get("PGFAUCET_FUZZ_STATEMENTS", "400"))
PAIRS = int(os.environ.get("PGFAUCET_FUZZ_PAIRS", "200"))
FIRST = int(os.environ.get("PGFAUCET_FUZZ_SEED", "0")) or 1_000_000 + secrets.randbelow(1 << 40)
SAMPLE = 40
RARE = (
    "defect of the server",
    "scale of equal numbers",
    "timed out",
    "conflict with a hidden row",
    "unread query in WITH",
    "lock in a part that is empty",
    "hidden column in an empty part",
    "FULL JOIN that only the server can simplify",
)
MOST_WITHOUT_ERROR = 0.2
"""Of the statements; with more errors the generator would show nothing."""


@pytest.fixture(scope="module")
def databases(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    with Databases(postgres, tmp_path_factory.mktemp("fuzz")) as made:
        yield made


def seeds(number: int) -> list[int]:
    """The first half is the same in every run, but at most a thousand."""
    fixed = min(number // 2, 1000)
    return [*range(fixed), *range(FIRST, FIRST + number - fixed)]


@pytest.mark.timeout(0)
def test_as_under_native_row_level_security(databases, capsys):
    report = run(databases, seeds(STATEMENTS), with_native)
    say(capsys, f"seeds from {FIRST}; {report.counts}")
    assert not report.disagreements, report.text
    assert report.kinds["rows"] + report.kinds["no rows"] > (1 - MOST_WITHOUT_ERROR) * report.played
    assert report.kinds["order of evaluation"] < 0.02 * report.played
    for known in (*RARE, "numbers of a sequence"):
        assert report.kinds[known] < 0.02 * report.played, known


@pytest.mark.timeout(0)
def test_hidden_rows_change_no_byte_of_an_answer(databases, capsys):
    report = run(databases, seeds(PAIRS), with_other_rows)
    say(capsys, f"seeds from {FIRST}; {report.counts}")
    assert not report.disagreements, report.text
    assert report.kinds["order of writes"] < 0.005 * report.played


def test_over_the_proxy(databases, postgres, tmp_path, capsys):
    roles, name = (SUITE / "roles.yaml").read_text(), databases.names[1]
    service = {"UPSTREAM_DSN": f"postgresql://svc@127.0.0.1:{postgres.port}/{name}"}
    report = Report()
    with (
        Proxy(postgres, name, tmp_path, roles=roles, environment=service) as proxy,
        Player.logged_in(proxy.port, proxy.mint("agent").text) as proxied,
        Player.logged_in(postgres.port, "", database=databases.names[0], user="agent") as native,
    ):
        for seed in seeds(SAMPLE):
            made = statement(seed)
            if "tagged" in made.sql and made.is_write:  # whose sequence is not put back here
                continue
            proto = ("simple", "extended", "prepared")[seed % 3]
            ours, theirs = (in_transaction(player, {"sql": made.sql, "proto": proto}) for player in (proxied, native))
            reason = difference([ours], [theirs], is_ordered=made.is_ordered)
            if reason is not None and not known_difference(databases, made, ours, theirs):
                report.disagreements.append(f"seed {seed}, {proto}: {made.sql}\n{reason}")
    assert not report.disagreements, report.text


def in_transaction(player, step):
    player.play({"sql": "begin"})
    try:
        return player.play(step)
    finally:
        player.play({"sql": "rollback"})


@pytest.mark.parametrize("rewrite", [naive.at_the_top, naive.everywhere])
@pytest.mark.parametrize("compare", [with_native, with_other_rows])
def test_a_naive_rewrite_is_found_out(postgres, tmp_path, rewrite, compare):
    def leaks(databases, made, report):
        """Say so where the answer is wrong, and not just an error about a name."""
        reason = compare(databases, made, report)
        return reason if reason is not None and "\n" in reason and " 42" not in reason.split("\nsent")[0] else None

    with Databases(postgres, tmp_path, rewrite) as naive_databases:
        report = run(naive_databases, range(400), leaks, enough=1)
    assert report.disagreements


def say(capsys, text):
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")
