"""What could get out of step between a session and its server."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pgfaucet.session.client import ClientSession
from pgfaucet.session.state import IDLE
from pgfaucet.wire import messages as m
from tests.session.conftest import Guard

if TYPE_CHECKING:
    from tests.session.conftest import Session

pytestmark = pytest.mark.interpreted  # the fakes stand in the place of compiled classes
READY = m.ready_for_query(IDLE)


@pytest.mark.parametrize(("cancels", "kept"), [(0, ["released"]), (1, ["discarded"])])
def test_a_connection_that_a_cancel_is_on_its_way_to_is_not_lent_on(cancels: int, kept: list[str]) -> None:
    done: list[str] = []
    session = object.__new__(ClientSession)
    session.connection = object()  # type: ignore[assignment] # a fake
    session.expected, session.status, session.pin, session.pending_cancels = deque(), IDLE, None, cancels
    session.pool = SimpleNamespace(  # type: ignore[assignment] # a fake
        release=lambda _: done.append("released"), discard=lambda *_: done.append("discarded")
    )
    session.database = SimpleNamespace(pool=SimpleNamespace(mode="transaction"))  # type: ignore[assignment] # a fake
    session._give_back_connection()
    assert done == kept


def test_a_plan_made_under_an_older_policy_or_for_other_types_is_not_taken(session: Session) -> None:
    text = "select 1"
    older = Guard().cached("select 2", ("public",))
    session.guard.cached = lambda *_: None  # type: ignore[method-assign] # never kept
    session.guard.plan = lambda *_, **__: "decided now"  # type: ignore[method-assign, assignment] # a fake
    for guard, types in ((Guard(), ()), (session.guard, (23,))):
        session._thread_plan = (guard, text, types, older)  # type: ignore[assignment] # a fake
        assert session._plan(text, ()) == "decided now"  # type: ignore[comparison-overlap] # a fake
    session._thread_plan = (session.guard, text, (), older)
    assert session._plan(text, ()) is older


def test_a_sync_that_the_server_ignores_while_it_takes_data_is_not_waited_for(session: Session) -> None:
    session.client(m.parse("", "copy in"), m.bind("", "", ()), m.execute(""), m.SYNC)
    session.server(m.PARSE_COMPLETE, m.frame(b"2", b""), m.frame(b"G", b"\0\0\0"))
    assert not session.expected or session.expected[-1].kind != 8
    assert session.client(m.SYNC) == b""
    assert session.client(m.frame(b"d", b"x"), m.frame(b"c", b""), m.SYNC).endswith(m.SYNC)
    session.server(m.command_complete("COPY 1"), READY)
    assert not session.expected
    assert not session.pool.is_lent
