"""Attacks found by looking for what the other suites leave open: the cases of redteam.jsonl, and what needs more than one connection."""

from __future__ import annotations

import pytest

from tests.attacks.test_attacks import cases, play


@pytest.mark.parametrize("case", cases("redteam.jsonl"))
def test_attack_gets_nothing(stage, case):
    reason = play(stage, case)
    assert reason is None, f"{case['why']}\n{case['steps']}\n{reason}"
