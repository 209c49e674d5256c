from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Self

import aiohttp
import orjson
import pytest

from pgfaucet.audit.outlets import Outlet, Rejected, open_outlet
from pgfaucet.config import SinkConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LINES = [b'{"seq":1}\n', b'{"seq":2}\n']


def sent(to: str, *batches: Sequence[bytes], form: str = "json") -> None:
    """Send batches through one outlet and close it."""

    async def run() -> None:
        outlet: Outlet = open_outlet(SinkConfig(to, format=form), "audit.jsonl")
        try:
            for batch in batches or (LINES,):
                await outlet.send(batch)
        finally:
            await outlet.close()

    asyncio.run(run())


def test_a_file_is_appended_to(tmp_path: Path):
    path = tmp_path / "copy.jsonl"
    path.write_bytes(b"before\n")
    sent(f"file:{path}", LINES, [b"no newline"])
    assert path.read_bytes() == b"before\n" + b"".join(LINES) + b"no newline\n"


def test_standard_output_takes_lines(monkeypatch: pytest.MonkeyPatch):
    read, write = os.pipe()
    with os.fdopen(write, "wb") as out, os.fdopen(read, "rb") as pipe:
        monkeypatch.setattr(sys, "stdout", out)
        sent("stdout")
        out.close()
        assert pipe.read() == b"".join(LINES)


def test_syslog_over_a_socket_file(tmp_path: Path):
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        sent(f"syslog:{path}")
        for line in LINES:
            message = server.recv(4096)
            head = f"<109>1 - {socket.gethostname()} pgfaucet {os.getpid()} audit - ".encode()
            assert message == head + line.rstrip(b"\n")


def test_syslog_over_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        sent(f"syslog:udp://127.0.0.1:{server.getsockname()[1]}")
        assert [server.recv(4096).rpartition(b" ")[2] for _ in LINES] == [line.rstrip(b"\n") for line in LINES]


def test_syslog_over_tcp_counts_octets():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sent(f"syslog:tcp://127.0.0.1:{server.getsockname()[1]}")
        with server.accept()[0] as connection, connection.makefile("rb") as stream:
            for line in LINES:
                size = b""
                while not size.endswith(b" "):
                    size += stream.read(1)
                assert stream.read(int(size)).endswith(line.rstrip(b"\n"))


def test_a_syslog_that_is_not_there_fails_and_is_tried_anew(tmp_path: Path):
    path = tmp_path / "log"
    with pytest.raises(OSError, match="No such file"):
        sent(f"syslog:{path}")


class Collector:
    """An HTTP server that keeps what is posted; a context manager."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/in"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_http_takes_a_json_array():
    with Collector() as collector:
        sent(collector.address, LINES, LINES[:1])
    assert [orjson.loads(body) for body in collector.bodies] == [[{"seq": 1}, {"seq": 2}], [{"seq": 1}]]


@pytest.mark.parametrize(
    ("form", "members"),
    [("otlp", ("resourceLogs", "scopeLogs", "logRecords")), ("spans", ("resourceSpans", "scopeSpans", "spans"))],
)
def test_what_goes_to_opentelemetry_has_an_envelope(form: str, members: tuple[str, str, str]):
    with Collector() as collector:
        sent(collector.address, [b'{"a":1}', b'{"a":2}'], form=form)
    (body,) = map(orjson.loads, collector.bodies)
    (resource,) = body[members[0]]
    (scope,) = resource[members[1]]
    assert scope[members[2]] == [{"a": 1}, {"a": 2}]
    assert resource["resource"]["attributes"][0]["value"] == {"stringValue": "pgfaucet"}


def test_any_status_but_2xx_is_a_failure():
    with Collector(500) as collector, pytest.raises(aiohttp.ClientResponseError):
        sent(collector.address)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_status_that_says_that_it_is_the_lines_rejects_them(status: int):
    with Collector(status) as collector, pytest.raises(Rejected, match=str(status)):
        sent(collector.address)


def test_a_line_that_is_too_long_for_a_datagram_is_rejected():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with pytest.raises(Rejected, match="too long for a datagram"):
            sent(f"syslog:udp://127.0.0.1:{server.getsockname()[1]}", [b"x" * 70_000])


def test_what_a_failed_write_has_left_is_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "copy.jsonl"
    write = os.write
    results = iter([5, OSError(28, "No space left on device")])

    def partial(descriptor: int, data: bytes) -> int:
        result = next(results)
        if isinstance(result, OSError):
            raise result
        return write(descriptor, data[:result])

    async def run() -> None:
        outlet = open_outlet(SinkConfig(f"file:{path}"), "audit.jsonl")
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", partial)
            with pytest.raises(OSError, match="No space"):
                await outlet.send(LINES)
        await outlet.send(LINES)
        await outlet.send(LINES)

    asyncio.run(run())
    assert path.read_bytes() == LINES[0][:5] + b"\n" + b"".join(LINES) * 2


HANGING = """
import asyncio, os, sys
from pgfaucet.audit import outlets
from pgfaucet.config import SinkConfig
outlets.TIMEOUT_SECONDS = 0.2

async def run():
    outlet = outlets.open_outlet(SinkConfig("stdout"), "audit.jsonl")
    try:
        await outlet.send([b"x" * (1 << 20)])
    except TimeoutError:
        print("not taken", file=sys.stderr)

asyncio.run(run())
"""


def test_standard_output_that_nobody_reads_does_not_keep_a_process_from_its_end():
    with subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b"not taken\n"
