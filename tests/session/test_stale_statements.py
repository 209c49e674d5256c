"""Statements whose result has changed since they were prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgfaucet.wire import messages as m

if TYPE_CHECKING:
    from tests.session.conftest import Session

pytestmark = pytest.mark.interpreted  # the fakes stand in the place of compiled classes
READY = m.ready_for_query(ord("I"))
CHANGED = m.response_from_fields(
    b"E",
    {
        "S": "ERROR",
        "V": "ERROR",
        "C": "0A000",
        "M": "cached plan must not change result type",
        "R": "RevalidateCachedQuery",
    },
)


def close(name: str) -> bytes:
    return m.close_statement(name.encode())


def test_a_statement_whose_result_has_changed_is_prepared_anew_when_the_client_does_so(session: Session) -> None:
    session.client(m.parse("s", "select 1"), m.SYNC)
    session.server(m.PARSE_COMPLETE + READY)
    session.client(m.bind("", "s", ()), m.execute(""), m.SYNC)
    assert session.server(CHANGED + READY) == CHANGED + READY
    sent = session.client(close("s"), m.parse("t", "select 1"), m.SYNC)
    assert sent == close("pgf_select 1") + m.parse("pgf_select 1", "select 1") + m.SYNC
    assert session.server(m.CLOSE_COMPLETE + m.PARSE_COMPLETE + READY) == m.CLOSE_COMPLETE + m.PARSE_COMPLETE + READY


def test_other_errors_leave_the_statement_as_it_is(session: Session) -> None:
    session.client(m.parse("s", "select 1"), m.SYNC)
    session.server(m.PARSE_COMPLETE + READY)
    session.client(m.bind("", "s", ()), m.execute(""), m.SYNC)
    session.server(m.response_from_fields(b"E", {"S": "ERROR", "V": "ERROR", "C": "22012", "M": "x"}) + READY)
    assert session.client(m.parse("t", "select 1"), m.SYNC) == b""  # answered without a connection
    assert session.transport.sent.endswith(m.PARSE_COMPLETE + m.ready_for_query(73))
