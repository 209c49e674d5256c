"""Audit records in other places too: in a table, in a file; and what copies of checkpoints are good for."""

from __future__ import annotations

import json

from tests.kit.policies import SERVER
from tests.kit.proxy import wait_until
from tests.kit.wire import Wire, errors
from tests.unit.audit.test_outlets import Collector

SINKS = """\
sinks: [
    {{to: "postgresql://postgres@127.0.0.1:{port}/{database}"}},
    {{to: "file:${{PGFAUCET_STATE}}/elsewhere.jsonl", what: checkpoints}},
    {{to: "http://127.0.0.1:1/", format: otlp}}], durability"""


def test_every_record_reaches_the_table_and_checkpoints_their_copy(start_proxy, postgres, database):
    proxy = start_proxy(server=SERVER.replace("durability", SINKS.format(port=postgres.port, database=database), 1))
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        for number in range(50):
            assert errors(session.run(f"select {number}")) == []
    wait_until(
        lambda: proxy.metric('pgfaucet_audit_sink_up{sink="http://127.0.0.1:1/"}') == 0, 10, "it is seen to be dead"
    )
    wait_until(
        lambda: (
            proxy.metric(
                f'pgfaucet_audit_sink_lines_total{{result="sent",sink="postgresql://127.0.0.1:{postgres.port}/{database}"}}'
            )
            > 50
        ),
        10,
        "they arrive",
    )
    assert proxy.stop() == 0
    lines = proxy.audit_file.read_text().splitlines()
    rows = postgres.rows(
        database, "select seq, line from pgfaucet_audit where kind = 'record' and source = 'audit.jsonl' order by seq"
    )
    assert [int(row[0]) for row in rows] == list(range(1, len(lines) + 1))
    assert [row[1] for row in rows] == lines
    copies = proxy.state / "elsewhere.jsonl"
    assert copies.read_bytes() == (proxy.state / "audit.jsonl.checkpoints").read_bytes()
    counted = postgres.value(database, "select count(*) from pgfaucet_audit where kind = 'checkpoint'")
    assert int(counted) == len(copies.read_bytes().splitlines())

    def verify(*more: str) -> int:
        return proxy.run_command("audit", "verify", str(proxy.audit_file), *more).returncode

    assert verify("--checkpoints", str(copies)) == 0
    checkpoints = proxy.state / "audit.jsonl.checkpoints"
    first = checkpoints.read_bytes().splitlines(keepends=True)[0]
    checkpoints.write_bytes(first)
    proxy.audit_file.write_bytes(proxy.audit_file.read_bytes()[: json.loads(first)["offset"]])
    assert verify() == 0  # log and checkpoints were both cut back: nothing here shows it
    assert verify("--checkpoints", str(copies)) == 1


def test_a_statement_of_a_trace_becomes_a_span(start_proxy):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with Collector() as collector:
        sink = f'sinks: [{{to: "{collector.address}", format: spans, what: records}}], durability'
        proxy = start_proxy(server=SERVER.replace("durability", sink, 1))
        with Wire.logged_in(proxy.port, proxy.token()) as session:
            assert errors(session.run("select 1")) == []
            assert errors(session.run(f"select count(*) from notes /*traceparent='{trace}'*/")) == []
        wait_until(lambda: collector.bodies, 5, "the span arrives")
        assert proxy.stop() == 0
    (body,) = collector.bodies
    (span,) = json.loads(body)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (span["traceId"], span["parentSpanId"]) == tuple(trace.split("-")[1:3])
    assert span["name"] == "SELECT public.notes"
