from __future__ import annotations

from pgfaucet.guard import Epoch, Guard
from tests.unit.sql.test_utility import world


def test_a_kept_refusal_holds_no_frame():
    guard = Guard(world(), Epoch(), statement_bytes=65536)
    for text in ("select * from hidden", "select (", "prepare p as select * from hidden", "vacuum"):
        plan = guard.plan(text, ("public",))
        error = plan.statements[-1].error
        assert error is not None
        assert error.__traceback__ is None
        assert error.__context__ is None
        assert error.__cause__ is None
