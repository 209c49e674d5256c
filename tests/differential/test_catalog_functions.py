"""Every function that data/catalogs.yaml describes can be called on this server, and none that it doesn't."""

from __future__ import annotations

import re

import pytest

from pgfaucet.policy.catalog_policy import catalogs
from pgfaucet.policy.descriptions import KINDS
from tests.kit import wire
from tests.kit.wire import Wire, errors

SIGNATURES = [signature for kind in KINDS for signature in catalogs()[kind]]
CASTS = list(catalogs()["registered"])


@pytest.fixture
def session(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as opened:
        yield opened


@pytest.mark.parametrize("signature", SIGNATURES)
def test_a_described_function_answers(session, signature):
    name, arguments = re.match(r"(\w+)\((.*)\)", signature).groups()
    types = [argument.split()[1].replace("column", "text") for argument in arguments.split(",") if argument]
    nulls = [
        f"null::{kind}" if kind != "pg_node_tree" else "(select conbin from pg_constraint limit 1)" for kind in types
    ]
    call = f"{name}({', '.join(nulls)})"
    assert errors(session.run(f"select {call}")) == []
    session.send(wire.parse(f"select {call} from tenants where name = 'x'"), wire.describe("S"), wire.SYNC)
    assert errors(session.until("Z")) == []


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_answers(session, name):
    for value in ("1247", "'1247'", "null", "oid", "relname::text" if name == "regclass" else "oid::int8"):
        assert (
            errors(session.run(f"select {value}::{name}, ({value}::{name})::text from pg_class where oid = 1247")) == []
        )


@pytest.mark.parametrize(
    "call",
    ["pg_relation_size(1)", "pg_get_object_address('table', '{a}', '{}')", "pg_input_is_valid('tenants', 'regclass')"],
)
def test_another_function_that_tells_of_objects_is_refused(session, call):
    assert errors(session.run(f"select {call}"))[0][0] == "42501"
