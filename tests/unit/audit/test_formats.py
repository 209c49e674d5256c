from __future__ import annotations

from typing import Any

import orjson
import pytest

from pgfaucet.audit.chain import GENESIS, seal
from pgfaucet.audit.formats import FORMATS, as_json, as_ocsf, as_otlp, as_span
from pgfaucet.audit.record import RecordWriter, SessionFields
from pgfaucet.plan import StatementPlan

TS = "2026-05-05T14:32:18.412Z"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FIELDS = SessionFields("s1", "shop", "ann", "psql", "10.0.4.18", "fct_abc", "agent:1", "desk", (("tenant", "42"),))
WRITER = RecordWriter("hash", b"k" * 32)


def line(members: str) -> bytes:
    return seal(GENESIS, TS, 7, members)[0]


def statement(verb: str = "SELECT", decision: str = "allow", context: tuple[tuple[str, str], ...] = ()) -> bytes:
    plan = StatementPlan(verb, ("public.orders",), "SELECT $1", "f1", ("1",), (), (), "SELECT 1")
    reason, sqlstate = (None, None) if decision == "allow" else ("not granted", "42501")
    return line(WRITER.statement("statement", FIELDS, plan, b"", 3, 10, 0.001, sqlstate, decision, reason, context))


def event(name: str) -> bytes:
    return line(WRITER.event(name, FIELDS, None, None, None))


def ocsf(record: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(as_ocsf(record, "audit.jsonl"))
    return found


def test_json_is_the_line_itself():
    assert as_json(statement(), "audit.jsonl") == statement()
    assert set(FORMATS) == {"json", "ocsf", "otlp", "spans"}


def test_a_statement_is_datastore_activity():
    made = ocsf(statement())
    assert (made["class_uid"], made["category_uid"], made["activity_id"], made["type_uid"]) == (6005, 6, 1, 600501)
    assert (made["severity_id"], made["status_id"]) == (1, 1)
    assert made["time"] == 1777991538412
    assert made["metadata"]["uid"] == "audit.jsonl:7"
    assert made["metadata"]["version"] == "1.3.0"
    assert made["actor"]["user"] == {"name": "agent:1", "uid": "fct_abc", "type_id": 99}
    assert made["src_endpoint"] == {"ip": "10.0.4.18"}
    assert made["query_info"] == {"query_string": "SELECT $1", "uid": "f1"}
    assert made["unmapped"] == orjson.loads(statement())
    assert "status_code" not in made
    assert [ocsf(statement(verb))["activity_id"] for verb in ("INSERT", "UPDATE", "DELETE", "SHOW")] == [5, 2, 7, 4]


def test_a_refusal_is_a_failure_of_medium_severity():
    made = ocsf(statement(decision="deny"))
    assert (made["severity_id"], made["status_id"]) == (3, 2)
    assert (made["status_code"], made["status_detail"]) == ("42501", "not granted")


def test_a_session_is_authentication_and_the_rest_application_lifecycle():
    names = ("session_opened", "session_refused", "session_closed", "log_opened")
    assert [ocsf(event(name))["type_uid"] for name in names] == [300201, 300201, 300202, 600299]


def test_a_checkpoint_stays_as_it_is():
    signed = b'{"ts":"x","seq":1,"signature":"ed25519:x"}\n'
    assert as_ocsf(signed, "audit.jsonl") == signed


def test_an_otlp_record_carries_the_line_and_the_trace():
    made = orjson.loads(as_otlp(statement(context=(("traceparent", TRACE),)), "audit.jsonl"))
    assert made["body"] == {"stringValue": statement(context=(("traceparent", TRACE),)).decode().rstrip("\n")}
    assert (made["traceId"], made["spanId"]) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    assert (made["timeUnixNano"], made["severityText"]) == ("1777991538412000000", "INFO")
    attributes = {each["key"]: each["value"]["stringValue"] for each in made["attributes"]}
    assert attributes["db.query.text"] == "SELECT $1"
    assert attributes["event.name"] == "pgfaucet.statement"
    assert orjson.loads(as_otlp(statement(decision="deny"), "x"))["severityNumber"] == 13
    assert "traceId" not in orjson.loads(as_otlp(statement(context=(("traceparent", "x"),)), "x"))


def traced(traceparent: str, decision: str = "allow") -> bytes:
    return statement(decision=decision, context=(("traceparent", traceparent),))


def test_a_statement_of_a_trace_is_a_span():
    record = traced(TRACE)
    made = orjson.loads(as_span(record, "audit.jsonl"))
    assert made["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert made["parentSpanId"] == "00f067aa0ba902b7"
    assert made["spanId"] == orjson.loads(record)["hash"][7:23]
    assert (made["name"], made["kind"], made["status"]) == ("SELECT public.orders", 3, {})
    assert (made["startTimeUnixNano"], made["endTimeUnixNano"]) == ("1777991538411000000", "1777991538412000000")
    attributes = {each["key"]: each["value"] for each in made["attributes"]}
    assert attributes["db.query.text"] == {"stringValue": "SELECT $1"}
    assert attributes["db.response.returned_rows"] == {"intValue": "3"}


def test_a_refusal_is_a_span_that_failed():
    assert orjson.loads(as_span(traced(TRACE, "deny"), "x"))["status"] == {"code": 2, "message": "42501"}


@pytest.mark.parametrize(
    "record",
    [
        statement(),
        event("session_opened"),
        traced(TRACE[:-2] + "00"),  # not sampled
        traced("00-" + "0" * 32 + TRACE[35:]),
        traced(TRACE[:36] + "0" * 16 + "-01"),
        traced(TRACE.upper()),
        traced(TRACE + "-01"),
        traced("ff" + TRACE[2:]),
        b'{"ts":"x","seq":1,"signature":"ed25519:x"}\n',
    ],
)
def test_anything_else_is_no_span(record: bytes):
    assert as_span(record, "audit.jsonl") == b""
