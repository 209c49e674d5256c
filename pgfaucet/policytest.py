"""Runs the `tests:` of a policy through whatever decides: the statement that must be allowed, the one that must be refused and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pgfaucet.policy.model import PolicyTest, Source

    Decide = Callable[[str, Mapping[str, str], str], str | None]
    """Role, claims and statement to the SQLSTATE that refuses it, None when it is allowed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one statement of a test."""

    role: str
    source: Source
    sql: str
    expected: str | None  # SQLSTATE, None: allowed
    decided: str | None

    @property
    def is_right(self) -> bool:
        """Whether the decision is the one that the test asks for."""
        return self.expected == self.decided

    @override
    def __str__(self) -> str:
        """Say what is wrong and what to do, as every problem of a policy file is said."""
        wanted = "be allowed" if self.expected is None else f"be refused with {self.expected}"
        got = "it is allowed" if self.decided is None else f"it is refused with {self.decided}"
        what = f'{self.source}: as {self.role}, "{self.sql}" should {wanted}, but {got}'
        return f"{what}; mend the policy or the test, `pgfaucet explain` shows why"


def run(tests: Iterable[PolicyTest], decide: Decide) -> Iterator[Outcome]:
    """Decide every statement of the tests, in their order."""
    for test in tests:
        for sql in test.allow:
            yield Outcome(test.role, test.source, sql, None, decide(test.role, test.claims, sql))
        for sql, sqlstate in test.deny:
            yield Outcome(test.role, test.source, sql, sqlstate, decide(test.role, test.claims, sql))
