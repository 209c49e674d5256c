from __future__ import annotations

import hmac
import struct

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.audit import record
from pgfaucet.audit.record import (
    MAX_CONTEXT,
    MAX_CONTEXT_VALUE,
    KeyedHash,
    RecordWriter,
    SessionFields,
    bound_parameters,
    readable,
    timestamp,
    to_json,
    unambiguous,
)
from pgfaucet.plan import StatementPlan

FIELDS = SessionFields("s1", "shop", "agent", "psql", "10.0.4.18", "abc", "agent:1", "desk", (("tenant", "42"),))
MEMBERS = [
    "event session token_id token_label role claims database user application_name client_ip decision reason verb tables",
    "query fingerprint params_hash row_count bytes duration_ms sqlstate context",
]


def plan(**changes: object) -> StatementPlan:
    values: dict[str, object] = {
        "verb": "SELECT",
        "tables": ("public.orders",),
        "query": "SELECT id FROM orders WHERE status = $1",
        "fingerprint": "a0ead580058af585",
        "literals": ("paid",),
        "context": (),
        "reasons": (),
        "sql": "SELECT 1",
    }
    return StatementPlan(**(values | changes))  # type: ignore[arg-type] # a builder


def statement(
    params: str = "hash", made: StatementPlan | None = None, bound: bytes = b"", key: bytes = b"key", **changes: object
) -> dict[str, object]:
    values: dict[str, object] = {
        "rows": 27,
        "sent": 1893,
        "seconds": 0.0041,
        "sqlstate": None,
        "decision": "allow",
        "reason": None,
        "context": (),
    }
    text = RecordWriter(params, key).statement("statement", FIELDS, made or plan(), bound, **(values | changes))  # type: ignore[arg-type] # a builder
    found = orjson.loads(f"{{{text}}}")
    assert isinstance(found, dict)
    return found


def bind(*values: bytes | None, formats: tuple[int, ...] = ()) -> bytes:
    parts = [struct.pack(f"!H{len(formats)}H", len(formats), *formats), struct.pack("!H", len(values))]
    parts += [struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values]
    return b"".join(parts) + b"\0\0"


def test_a_statement_has_the_members_of_the_contract_in_their_order():
    found = statement()
    assert list(found) == " ".join(MEMBERS).split()
    assert found["claims"] == {"tenant": "42"}
    assert found["duration_ms"] == 4.1
    assert found["tables"] == ["public.orders"]


def test_an_event_has_the_same_members():
    writer = RecordWriter("hash", b"key")
    for fields in (FIELDS, None):
        found = orjson.loads(f"{{{writer.event('session_opened', fields, None, 'why', None)}}}")
        assert list(found) == " ".join(MEMBERS).split()
        assert found["reason"] == "why"


def test_before_a_token_is_known_the_role_is_null():
    found = orjson.loads(f"{{{SessionFields('s', 'shop', 'u', '', '10.0.0.1').text}}}")
    assert (found["role"], found["token_id"], found["claims"]) == (None, None, {})


# -- values ------------------------------------------------------------------------------------------------------------------------


def test_only_params_full_tells_the_values():
    bound = bind(b"secret-value", None)
    for params in ("hash", "none"):
        assert "secret-value" not in str(statement(params, bound=bound))
        assert "paid" not in str(statement(params, bound=bound))
    assert statement("full", bound=bound)["params"] == ["paid", "secret-value", None]
    assert statement("none", bound=bound)["params_hash"] is None


def test_the_hash_is_keyed_and_stands_for_literals_and_parameters_in_order():
    def hashed(*values: bytes | None, key: bytes = b"key", **changes: object) -> object:
        return statement(made=plan(**changes), bound=bind(*values), key=key)["params_hash"]

    assert str(hashed(b"a")).startswith("hmac-sha256:")
    assert hashed(b"a", b"b") == hashed(b"a", b"b")
    different = [
        hashed(b"a", b"b"),
        hashed(b"b", b"a"),
        hashed(b"ab"),
        hashed(b"a", b"b", key=b"other"),
        hashed(b"a", b"b", literals=("x",)),
        hashed(b"a", None),
    ]
    assert len(set(different)) == len(different)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_the_keyed_hash_is_hmac_sha_256(key: bytes, message: bytes):
    assert KeyedHash(key).hexdigest(message) == hmac.digest(key, message, "sha256").hex()


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.0, 0.0), (0.0041, 4.1), (0.0409995, 41.0), (3601.0000004, 3601000.0)]
)
def test_the_duration_is_in_milliseconds_with_three_decimals(seconds: float, written: float):
    assert statement(seconds=seconds)["duration_ms"] == written


def test_a_statement_without_values_has_no_hash():
    assert statement(made=plan(literals=()))["params_hash"] is None
    assert statement(made=plan(literals=()), bound=bind())["params_hash"] is None


@pytest.mark.parametrize(
    ("bound", "parameters"),
    [
        (b"", []),
        (bind(b"a", None), [(0, b"a"), (0, None)]),
        (bind(b"a", b"b", formats=(1,)), [(1, b"a"), (1, b"b")]),
        (bind(b"a", b"b", formats=(0, 1)), [(0, b"a"), (1, b"b")]),
    ],
)
def test_parameters_are_read_from_a_bind_message(bound: bytes, parameters: list[tuple[int, bytes | None]]):
    assert bound_parameters(bound) == parameters


@given(st.binary(max_size=60))
def test_no_bind_message_keeps_a_statement_from_being_recorded(bound: bytes):
    for params in ("hash", "full", "none"):
        assert statement(params, bound=bound)["verb"] == "SELECT"


VALUES = st.lists(st.tuples(st.sampled_from([0, 1]), st.none() | st.binary(max_size=8)), max_size=4)


@given(st.lists(st.text(max_size=5), max_size=3), VALUES, st.lists(st.text(max_size=5), max_size=3), VALUES)
def test_no_two_lists_of_values_are_hashed_as_the_same_bytes(
    literals: list[str],
    parameters: list[tuple[int, bytes | None]],
    other_literals: list[str],
    other_parameters: list[tuple[int, bytes | None]],
):
    def key(literals: list[str], parameters: list[tuple[int, bytes | None]]) -> object:
        return literals, [(form if value is not None else 0, value) for form, value in parameters]

    are_same = unambiguous(literals, parameters) == unambiguous(other_literals, other_parameters)
    assert are_same == (key(literals, parameters) == key(other_literals, other_parameters))


def test_binary_parameters_are_shown_as_bytea():
    assert readable(["a"], [(1, b"\0\xff"), (0, b"\xff"), (0, None)]) == ["a", "\\x00ff", "\ufffd", None]


# -- context -----------------------------------------------------------------------------------------------------------------------


def test_a_statements_own_context_comes_before_the_sessions():
    made = plan(context=(("traceparent", "own"),))
    found = statement(made=made, context=(("traceparent", "session"), ("prompt_id", "7")))
    assert found["context"] == {"prompt_id": "7", "traceparent": "own"}


def test_the_context_is_bounded():
    found = statement(context=tuple((f"{number:03}" + "n" * 9999, "v" * 9999) for number in range(99)))["context"]
    assert isinstance(found, dict)
    assert len(found) == MAX_CONTEXT
    assert {len(text) for pair in found.items() for text in pair} == {MAX_CONTEXT_VALUE}


# -- text --------------------------------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(codec=None)))
def test_text_of_any_kind_is_written_on_one_line(text: str):
    written = to_json({"a": [text], text: (text,)})
    assert "\n" not in written
    assert orjson.loads(written)


def test_a_plan_is_serialised_once_and_never_mistaken_for_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(record, "PLANS_KEPT", 2)
    writer = RecordWriter("none", b"key")
    for number in range(50):  # plans that are gone give their identity to others
        text = writer.statement(
            "statement", FIELDS, plan(query=f"q{number}"), b"", None, 0, 0.0, None, "allow", None, ()
        )
        assert f'"query":"q{number}"' in text


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_777_991_538.5, "2026-05-05T14:32:18.500Z"),
        (1_777_991_538.999_9, "2026-05-05T14:32:18.999Z"),
    ],
)
def test_times_are_utc_with_milliseconds(now: float, text: str):
    assert timestamp(now) == text
    assert RecordWriter("hash", b"key").timestamp(now) == text


@given(st.lists(st.floats(0, 4e9), max_size=5))
def test_a_writer_remembers_the_second_and_tells_the_same_time(times: list[float]):
    writer = RecordWriter("hash", b"key")
    assert [writer.timestamp(now) for now in times] == [timestamp(now) for now in times]
