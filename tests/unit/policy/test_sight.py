from __future__ import annotations

from dataclasses import replace

from pgfaucet.policy.compile import compile_world
from pgfaucet.policy.function_grants import grant_functions
from pgfaucet.policy.sight import Sight
from pgfaucet.sql.catalog import CatalogSnapshot, Constraint, Index, QualifiedName, Trigger
from tests.kit.catalog import catalog, relation, shop
from tests.kit.policy_files import agent, orders, role_of

INDEXED = relation(
    20_000,
    "orders",
    {"id": "int4", "note": "text", "secret": "text"},
    indexes=(
        Index(20_002, "orders_pkey", True, True, (1,), frozenset({1})),
        Index(20_003, "orders_secret_idx", False, False, (3,), frozenset({3})),
    ),
    constraints=(
        Constraint(20_004, "orders_pkey", "p", frozenset({1}), 0, frozenset(), 20_002),
        Constraint(20_005, "secret_check", "c", frozenset({3}), 0, frozenset(), 0),
        Constraint(20_006, "owner_fkey", "f", frozenset({1}), 20_020, frozenset({1}), 0),
    ),
    triggers=(Trigger(20_007, "on_note", frozenset({2}), 0, 0), Trigger(20_008, "on_secret", frozenset({3}), 0, 0)),
    toast=(20_009, 20_010),
)
SEQUENCE = relation(20_030, "orders_id_seq", {}, kind="S", owned_by=(20_000, 1))
HIDDEN_SEQUENCE = relation(20_040, "orders_secret_seq", {}, kind="S", owned_by=(20_000, 3))
SNAPSHOT = catalog((INDEXED, relation(20_020, "people", {"id": "int4"}), SEQUENCE, HIDDEN_SEQUENCE))


def sight(text: str, snapshot: CatalogSnapshot = SNAPSHOT, *, is_open: bool = False) -> Sight:
    role = role_of(text)
    made, _ = compile_world(role, snapshot, {}, "agent")
    granted = [
        made.relations[name] for name in made.relations if name in snapshot.relations and made.relations[name].columns
    ]
    return Sight(snapshot, granted, grant_functions(role, snapshot), role.search_path, is_open=is_open)


PART = orders("select: [id, note]")
WHOLE = orders("select: true")


def test_a_relation_that_is_not_granted_is_not_in_sight():
    found = sight(PART)
    assert found.sees(20_000)
    assert not found.sees(20_020)
    assert 20_020 in found.hidden_relations


def test_what_initdb_made_is_common_knowledge():
    assert sight(agent("")).sees(1259)


def test_a_hidden_column_is_not_in_sight():
    found = sight(PART)
    assert found.sees(20_000, [1, 2])
    assert not found.sees(20_000, [3])
    assert found.partial == {20_000}
    assert found.partial_columns == {20_000 << 16 | 1, 20_000 << 16 | 2}


def test_whatever_speaks_of_a_hidden_column_is_hidden():
    found = sight(PART)
    assert found.indexes == {20_002}
    assert found.constraints == {20_004}
    assert found.triggers == {20_007}


def test_who_sees_the_whole_table_sees_what_belongs_to_it():
    found = sight(WHOLE)
    assert found.indexes == {20_002, 20_003}
    assert found.triggers == {20_007, 20_008}
    assert {20_009, 20_010} <= found.relations


def test_a_foreign_key_to_a_hidden_table_is_hidden():
    assert 20_006 not in sight(WHOLE).constraints
    both = agent("tables: {orders: {select: true}, people: {select: true}}")
    assert 20_006 in sight(both).constraints


def test_the_sequence_of_a_column_in_sight_is_known_by_name_and_no_more():
    found = sight(PART)
    assert set(found.named_relations) == {QualifiedName("public", "orders_id_seq")}
    named = found.named_relations[QualifiedName("public", "orders_id_seq")]
    assert (named.can_select, named.columns) == (False, {})


def test_the_row_type_of_a_table_with_hidden_columns_cannot_be_named():
    assert INDEXED.row_type not in sight(PART).usable_types
    assert INDEXED.row_type in sight(WHOLE).usable_types


def test_a_function_is_in_sight_only_when_it_is_granted():
    snapshot = replace(shop(), version=2)
    assert sight(agent("functions: [order_total]"), snapshot).functions == {22_000}
    assert sight(agent(""), snapshot).functions == frozenset()


def test_only_schemas_that_hold_something_in_sight_are_known():
    assert sight(agent("search_path: []\ntables: {hr.salaries: {select: true}}"), shop()).schema_names == {"hr"}
    assert "hr" not in sight(agent(""), shop()).schema_names


def test_seen_and_hidden_objects_of_a_kind_do_not_overlap():
    found = sight(PART)
    for kind in ("relations", "constraints", "triggers", "defaults", "types", "functions", "schemas", "collations"):
        seen, hidden = found.listed(kind)
        assert not seen & hidden, kind
    assert found.listed("constraints")[1] == {20_005, 20_006}
