"""Attacks get nothing, and what looks like them but is legitimate works: each case of attacks.jsonl, redteam.jsonl and legitimate.jsonl."""

from __future__ import annotations

import json

import pytest

from tests.attacks.judge import verdict
from tests.attacks.stage import HERE


def cases(name):
    lines = (HERE / name).read_text().splitlines()
    return [pytest.param(case, id=case["id"]) for case in map(json.loads, lines)]


def play(stage, case):
    """Play a case on both sides and put the data back; return why it failed, if it did."""
    needs_native = case["expect"] == "same-as-native"
    try:
        proxied = stage.play(case)
        native = stage.play_natively(case) if needs_native else None
        reason = stage.damage() or verdict(case, proxied, native)
        if reason is None and needs_native and stage.upstream.has_changed:
            reason = stage.difference_of_data()
        return reason
    finally:
        stage.put_back(case)


@pytest.mark.parametrize("case", [*cases("attacks.jsonl"), *cases("redteam.jsonl")])
def test_attack_gets_nothing(stage, case):
    reason = play(stage, case)
    assert reason is None, f"{case['why']}\n{case['steps']}\n{reason}"


@pytest.mark.parametrize("case", cases("legitimate.jsonl"))
def test_legitimate_statement_works(stage, case):
    reason = play(stage, case)
    assert reason is None, f"{case['steps']}\n{reason}"


@pytest.mark.parametrize(
    "name", ["oracle-where-01", "hidden-column-01", "from-forms-01", "unlisted-function-01", "catalog-01", "copy-01"]
)
def test_without_the_proxy_an_attack_succeeds_and_is_seen(stage, name):
    case = next(param.values[0] for param in cases("attacks.jsonl") if param.id == name)
    unprotected = stage.play_unprotected(case)
    assert verdict(case, unprotected, stage.play_natively(case)) is not None
