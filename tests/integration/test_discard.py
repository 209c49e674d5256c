"""DISCARD ALL: the session begins anew, under the same policy."""

from __future__ import annotations

import pytest

from tests.kit import wire
from tests.kit.policies import ROLES
from tests.kit.proxy import Proxy
from tests.kit.wire import Wire, errors

BOUNDED = (
    ROLES
    + """\
  bounded:
    database: shop
    tables: {notes: {select: [id, body]}}
    settings: {statement_timeout: 3s}
"""
)


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    with Proxy(postgres, name, tmp_path_factory.mktemp("discard"), roles=BOUNDED) as running:
        yield running
    postgres.drop_database(name)


@pytest.mark.parametrize("before", ["select 1", "set timezone = 'Asia/Tokyo'", "set application_name = 'x'"])
def test_what_the_policy_fixes_holds_after_discard_all(proxy, before):
    """A setting that the server reports as changed must not make the others count as put back."""
    with Wire.logged_in(proxy.port, proxy.token("bounded")) as session:
        assert session.rows("show statement_timeout") == [["3s"]]
        zone = session.rows("show timezone")
        for statement in (before, "discard all"):
            assert errors(session.run(statement)) == []
        assert session.rows("show statement_timeout") == [["3s"]]
        assert session.rows("show timezone") == zone
        assert session.rows("show search_path") == [["public"]]


def test_nothing_runs_in_a_batch_between_discard_all_and_what_the_policy_fixes(proxy):
    with Wire.logged_in(proxy.port, proxy.token("bounded")) as session:
        discard = (wire.parse("discard all"), wire.bind(), wire.execute())
        show = (wire.parse("show statement_timeout"), wire.bind(), wire.execute())
        session.send(*discard, *show, wire.message("S"))
        assert [code for code, _ in errors(session.until("Z"))] == ["0A000"]
        session.send(*discard, wire.message("S"), *show, wire.message("S"))
        assert errors(session.until("Z") + session.until("Z")) == []
        assert session.rows("show statement_timeout") == [["3s"]]
