from __future__ import annotations

from pgfaucet.policy.compile import compile_world
from pgfaucet.policy.rights import rights_of
from tests.kit.catalog import shop
from tests.kit.policy_files import agent, role_of

KEYS = """
tables:
  orders: {select: [id, note], insert: [note], update: [note], delete: true}
  customers: {select: true, insert: true}
  tenants: {insert: [name]}
"""
ORDERS, CUSTOMERS, TENANTS = 20_020, 20_010, 20_000


def test_what_is_granted_is_told_by_oid():
    made, _ = compile_world(role_of(agent(KEYS)), shop(), {}, "agent")
    rights = rights_of([each for name, each in made.relations.items() if name.schema == "public"])
    assert rights.relations["select"] == {ORDERS, CUSTOMERS}  # of the columns in sight
    assert rights.relations["insert"] == {CUSTOMERS, TENANTS}
    assert rights.relations["insert_some"] == {ORDERS, CUSTOMERS, TENANTS}
    assert rights.relations["delete"] == {ORDERS}
    assert rights.relations["truncate"] == set()
    assert rights.columns["insert"] == {ORDERS << 16 | 6}
    assert rights.columns["select"] == set()
