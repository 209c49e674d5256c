"""Other forms of a record than the log's line. Pure.

OCSF: the Open Cybersecurity Schema Framework 1.3, classes Datastore Activity (6005), Authentication (3002) and Application Lifecycle (6002).
OTLP: one LogRecord of the OpenTelemetry protocol in its JSON encoding; or one Span, for a statement that came with a trace (W3C Trace Context).
"""

from __future__ import annotations

import re
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Record = dict[str, Any]


def _version() -> str:
    try:
        return version("pgfaucet")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


VERSION: Final = _version()
_ACTIVITIES: Final = {"SELECT": 1, "UPDATE": 2, "INSERT": 5, "MERGE": 5, "COPY": 1, "DELETE": 7}
_QUERY: Final = 4
_TRACE: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_SAMPLED: Final = 1
_KIND_CLIENT: Final = 3
_STATUS_ERROR: Final = 2
_LOGON, _LOGOFF, _OTHER = 1, 2, 99
_SESSION_EVENTS: Final = {"session_opened": _LOGON, "session_refused": _LOGON, "session_closed": _LOGOFF}


def as_json(line: bytes, _: str) -> bytes:
    """Return the line as it is in the log."""
    return line


def as_ocsf(line: bytes, source: str) -> bytes:
    """Return an OCSF event; a checkpoint stays as it is."""
    record: Record = orjson.loads(line)
    if "signature" in record:
        return line
    class_uid, category, activity = _class_of(record)
    is_denied = record["decision"] == "deny"
    made = {
        "class_uid": class_uid,
        "category_uid": category,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "severity_id": 3 if is_denied else 1,
        "status_id": 2 if is_denied or record["sqlstate"] else 1,
        "status_code": record["sqlstate"],
        "status_detail": record["reason"],
        "time": _milliseconds(record),
        "message": record["event"],
        "metadata": {
            "version": "1.3.0",
            "uid": f"{source}:{record['seq']}",
            "sequence": record["seq"],
            "product": {"name": "pgfaucet", "vendor_name": "pgfaucet", "version": VERSION},
        },
        "actor": {
            "user": {"name": record["token_label"] or record["user"], "uid": record["token_id"], "type_id": 99},
            "session": {"uid": record["session"]},
            "app_name": record["application_name"],
        },
        "user": {"name": record["user"], "uid": record["token_id"]},
        "src_endpoint": {"ip": record["client_ip"]},
        "database": {"name": record["database"], "type_id": 1},
        "query_info": {"query_string": record["query"], "uid": record["fingerprint"]},
        "unmapped": record,
    }
    return orjson.dumps(_without_empty(made)) + b"\n"


def _class_of(record: Record) -> tuple[int, int, int]:
    """Return class, category and activity."""
    event = record["event"]
    if event in ("statement", "intent"):
        return 6005, 6, _ACTIVITIES.get(record["verb"], _QUERY)
    if event in _SESSION_EVENTS:
        return 3002, 3, _SESSION_EVENTS[event]
    return 6002, 6, _OTHER


def as_otlp(line: bytes, source: str) -> bytes:
    """Return a LogRecord, without the envelope that several of them share."""
    record: Record = orjson.loads(line)
    context: Mapping[str, str] = record.get("context") or {}
    made: Record = {
        "timeUnixNano": str(_milliseconds(record) * 1_000_000),
        "severityNumber": 13 if record.get("decision") == "deny" else 9,
        "severityText": "WARN" if record.get("decision") == "deny" else "INFO",
        "body": {"stringValue": line.decode().rstrip("\n")},
        "attributes": _written(_attributes(record, source)),
    }
    trace = _TRACE.fullmatch(context.get("traceparent", ""))
    if trace is not None:
        made |= {"traceId": trace[1], "spanId": trace[2]}
    return orjson.dumps(made)


def as_span(line: bytes, source: str) -> bytes:
    """Return a Span, without the envelope; nothing for what is no statement of a trace that is sampled."""
    record: Record = orjson.loads(line)
    trace = _TRACE.fullmatch((record.get("context") or {}).get("traceparent", ""))
    if record.get("event") != "statement" or trace is None or not int(trace[3], 16) & _SAMPLED:
        return b""
    end = _milliseconds(record) * 1_000_000
    made: Record = {
        "traceId": trace[1],
        "spanId": record["hash"].removeprefix("sha256:")[:16],
        "parentSpanId": trace[2],
        "name": " ".join([record["verb"] or "statement", *record["tables"][:1]]),
        "kind": _KIND_CLIENT,
        "startTimeUnixNano": str(end - round((record["duration_ms"] or 0.0) * 1_000_000)),
        "endTimeUnixNano": str(end),
        "attributes": _written(_attributes(record, source) | {"db.response.returned_rows": record["row_count"]}),
        "status": {"code": _STATUS_ERROR, "message": record["sqlstate"]} if record["sqlstate"] else {},
    }
    return orjson.dumps(made)


def _written(attributes: Record) -> list[Record]:
    return [
        {"key": key, "value": {"intValue" if isinstance(value, int) else "stringValue": str(value)}}
        for key, value in attributes.items()
        if value is not None
    ]


def _attributes(record: Record, source: str) -> Record:
    """Return what is searched by, under OpenTelemetry's names where it has some."""
    found = {
        "event.name": f"pgfaucet.{record.get('event', 'checkpoint')}",
        "log.file.name": source,
        "db.system.name": "postgresql",
        "db.namespace": record.get("database"),
        "db.operation.name": record.get("verb"),
        "db.query.text": record.get("query"),
        "db.response.status_code": record.get("sqlstate"),
        "client.address": record.get("client_ip"),
        "pgfaucet.decision": record.get("decision"),
        "pgfaucet.role": record.get("role"),
        "pgfaucet.token_label": record.get("token_label"),
    }
    return {name: value for name, value in found.items() if value}


def _milliseconds(record: Record) -> int:
    return round(datetime.fromisoformat(record["ts"]).timestamp() * 1000)


def _without_empty(value: Record) -> Record:
    """Leave out what is not known; `unmapped` is the record itself and stays whole."""
    made: Record = {}
    for name, each in value.items():
        kept = _without_empty(each) if isinstance(each, dict) and name != "unmapped" else each
        if kept not in (None, "", {}):
            made[name] = kept
    return made


FORMATS: Final[dict[str, Callable[[bytes, str], bytes]]] = {
    "json": as_json,
    "ocsf": as_ocsf,
    "otlp": as_otlp,
    "spans": as_span,
}
