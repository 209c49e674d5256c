from __future__ import annotations

from typing import TYPE_CHECKING

from pgfaucet import policytest
from pgfaucet.policy.model import PolicyTest, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = Source("a.yaml", 3, 5)
TEST = PolicyTest("agent", PLACE, {"tenant": "42"}, ("select 1", "select 2"), (("select 3", "42501"),))


def test_every_statement_is_decided_in_order_as_the_role_with_the_claims():
    asked: list[tuple[str, Mapping[str, str], str]] = []

    def decide(role: str, claims: Mapping[str, str], sql: str) -> str | None:
        asked.append((role, claims, sql))
        return None

    list(policytest.run([TEST], decide))
    assert asked == [("agent", {"tenant": "42"}, f"select {number}") for number in (1, 2, 3)]


def test_only_the_decision_that_the_test_asks_for_is_right():
    outcomes = list(policytest.run([TEST], lambda _role, _claims, sql: None if sql == "select 1" else "42P01"))
    assert [outcome.is_right for outcome in outcomes] == [True, False, False]


def test_an_outcome_says_where_the_test_stands_and_what_was_decided():
    said = [str(outcome) for outcome in policytest.run([TEST], lambda *_: "42P01")]
    assert said[0] == (
        'a.yaml:3:5: as agent, "select 1" should be allowed, but it is refused with 42P01;'
        " mend the policy or the test, `pgfaucet explain` shows why"
    )
    assert '"select 3" should be refused with 42501, but it is refused with 42P01' in said[2]
