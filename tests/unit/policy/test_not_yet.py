from __future__ import annotations

import pytest

from tests.kit.policy_files import agent, load_text, said_about


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            agent("limits: {affected_rows: 100}"),
            "4:14: this version does not enforce limits.affected_rows; remove it",
        ),
        (agent("limits: {cost: 1e6}"), "4:14: this version does not enforce limits.cost; remove it"),
    ],
)
def test_what_cannot_be_enforced_is_refused_and_never_ignored(text: str, said: str):
    assert said_about(text) == [f"a.yaml:{said}"]


def test_the_number_of_workers_may_come_from_the_environment():
    assert load_text("server: {workers: '${WORKERS:-1}'}").config.server.workers == 1


def test_a_variable_that_is_not_set_is_reported_as_such_only():
    (said,) = said_about("server: {workers: '${WORKERS}'}")
    assert said.startswith("a.yaml:1:20: the environment variable WORKERS is not set")


def test_what_is_enforced_passes():
    assert load_text(agent("mode: enforce\nlimits: {rows: 1}")).policy.roles["agent"].mode == "enforce"
    assert load_text("server: {workers: 1}", workers=1).config.server.workers == 1
