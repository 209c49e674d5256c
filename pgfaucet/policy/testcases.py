"""Entries under `tests`, checked as far as is possible without deciding anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgfaucet.policy.expressions import check_statement
from pgfaucet.policy.model import PolicyTest
from pgfaucet.policy.problem import Problem, known_names
from pgfaucet.policy.yamltree import entries, texts

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgfaucet.policy.document import PolicyTestModel
    from pgfaucet.policy.yamltree import Node


def check_test(node: Node, roles: Collection[str], problems: list[Problem]) -> None:
    """Report what a test has wrong in itself; `roles` are the names that there are."""
    for role in texts(node, "role"):
        if role.text and role.text not in roles:
            problem = Problem(role.source, f'role "{role.text}" does not exist', known_names(role.text, roles))
            problems.append(problem)
    if not entries(node, "deny") and not texts(node, "allow"):
        problems.append(Problem(node.source, "this test tests nothing", "write allow: [SQL] or deny: {SQL: SQLSTATE}"))
    for statement in texts(node, "allow"):
        check_statement(statement, problems)


def policy_test(node: Node, model: PolicyTestModel) -> PolicyTest:
    """Make the value of a test that `check_test` has looked at."""
    return PolicyTest(model.role, node.source, model.claims, model.allow, tuple(model.deny.items()))
