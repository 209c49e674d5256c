"""Every function that data/catalogs.yaml describes can be called on this server, and none that it doesn't."""

from __future__ import annotations

import pytest

from pgfaucet.policy.catalog_policy import catalogs
from pgfaucet.policy.descriptions import KINDS
from tests.kit import wire
from tests.kit.wire import Wire, errors

SIGNATURES = [signature for kind in KINDS for signature in catalogs()[kind]]
CASTS = {"regclass", "regtype", "regnamespace", "regproc", "regprocedure"}


@pytest.fixture
def session(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as opened:
        yield opened


@pytest.mark.parametrize("signature", SIGNATURES)
def test_a_described_function_answers(session, signature):
    name, _, arguments = signature.rstrip(")").partition("(")
    types = [argument.split()[1] for argument in arguments.split(",") if argument]
    name = name.removeprefix("text_to_")
    nulls = [
        f"null::{kind}" if kind != "pg_node_tree" else "(select conbin from pg_constraint limit 1)" for kind in types
    ]
    call = f"{nulls[0]}::{name}" if name in CASTS else f"{name}({', '.join(nulls)})"
    assert errors(session.run(f"select {call}")) == []
    session.send(wire.parse(f"select {call} from tenants where name = 'x'"), wire.describe("S"), wire.SYNC)
    assert errors(session.until("Z")) == []


@pytest.mark.parametrize(
    "call", ["pg_relation_size(1)", "has_table_privilege(1, 'select')", "pg_describe_object(1, 1, 1)"]
)
def test_another_function_that_tells_of_objects_is_refused(session, call):
    assert errors(session.run(f"select {call}"))[0][0] == "42501"
