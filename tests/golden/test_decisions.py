"""Every statement is decided as it was approved; `python tools/approve_decisions.py` after a deliberate change."""

from __future__ import annotations

import difflib
import json

import pytest

from pgfaucet.policy.document import json_schema
from tests.golden import expressions, policies, unknown_fields
from tests.golden.decisions import GOLDEN, SUITES, Decider, approved, catalog, groups, pretty

GROUPS = [(suite, group, cases) for suite in SUITES for group, cases in groups(suite).items()]
APPROVED_EXPRESSIONS = expressions.approved()
APPROVED = {suite: approved(suite) for suite in SUITES}
CATALOGS = {suite: catalog(suite) for suite in SUITES}  # read once, before a mutation run forks


@pytest.mark.parametrize(
    ("suite", "cases"), [pytest.param(suite, cases, id=f"{suite}-{group}") for suite, group, cases in GROUPS]
)
def test_decided_as_approved(suite, cases):
    decider = Decider(suite)
    for case in cases:
        expected, got = APPROVED[suite].get(case["id"], []), list(decider.decide(case))
        if got != expected:
            difference = list(difflib.unified_diff(pretty(expected), pretty(got), "approved", "now", lineterm="", n=2))
            pytest.fail("\n".join([case["id"], *difference]), pytrace=False)


@pytest.mark.parametrize("suite", SUITES)
def test_nothing_is_approved_that_is_not_asked(suite):
    assert APPROVED[suite].keys() <= {case["id"] for cases in groups(suite).values() for case in cases}


def test_a_field_that_nobody_knows_is_refused_as_approved():
    expected, got = unknown_fields.APPROVED.read_text().splitlines(), unknown_fields.outcomes()
    assert not set(got) - set(expected)
    assert not set(expected) - set(got)
    passed = [place.partition(":")[0] for place in got if "PASSED" in place]
    assert [place for place in passed if not place.endswith(" String")] == unknown_fields.NOT_SENT


def test_warnings_and_exports_are_as_approved():
    got, expected = policies.text().splitlines(), policies.APPROVED.read_text().splitlines()
    assert not list(difflib.unified_diff(expected, got, "approved", "now", lineterm="", n=2))


def test_the_schema_for_editors_is_as_approved():
    assert json.dumps(json_schema(), indent=1) + "\n" == (GOLDEN / "schema.approved.json").read_text()


@pytest.mark.parametrize("group", range(8))
def test_expressions_are_compiled_as_approved(group):
    for text in expressions.texts()[group::8]:
        got, expected = expressions.compiled(text), APPROVED_EXPRESSIONS.get(text, {})
        if got != expected:
            difference = list(
                difflib.unified_diff(pretty([expected]), pretty([got]), "approved", "now", lineterm="", n=2)
            )
            pytest.fail("\n".join([text, *difference]), pytrace=False)
