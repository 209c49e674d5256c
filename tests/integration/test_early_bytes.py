"""What a client sends before it is logged in is read as far as a login needs it, and no further."""

from __future__ import annotations

import socket

import pytest

from tests.kit.policies import SERVER
from tests.kit.proxy import Proxy
from tests.kit.wire import Wire, cstring, errors, message, query, startup_packet

FLOOD = query("select 1") * 50_000  # 900 KB at a time


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    server = SERVER.replace("size: 8, wait_timeout: 5s", "size: 1, wait_timeout: 30s")
    with Proxy(postgres, name, tmp_path_factory.mktemp("early"), server=server) as running:
        yield running
    postgres.drop_database(name)


def send_what_is_taken(client: Wire) -> int:
    client.socket.settimeout(0.5)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += client.socket.send(FLOOD[sent % len(FLOOD) :])
    except TimeoutError:
        return sent
    finally:
        client.socket.settimeout(10)
    return sent


def test_a_flood_behind_the_password_waits_in_the_network(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as holder, Wire(proxy.port) as client:
        holder.run("begin")
        assert errors(holder.run("select count(*) from notes")) == []
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        before = proxy.resident_kilobytes()
        client.send(startup_packet({"user": "agent", "database": "shop"}))
        assert client.receive().tag == "R"
        client.send(message("p", cstring(proxy.token())))  # the login waits for the only connection of the pool
        assert send_what_is_taken(client) < 32 << 20
        assert proxy.resident_kilobytes() - before < 8_000
        holder.run("rollback")
        assert client.until("Z")[-1].body == b"I"
        assert client.until("Z")[-1].body == b"I"  # and what came early is answered


def test_silent_sockets_do_not_keep_others_out(proxy):
    """As many as may wait, and more: the oldest are let go."""
    silent = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(400)]
    try:
        with Wire.logged_in(proxy.port, proxy.token()) as client:
            assert client.rows("select 1") == [["1"]]
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b""
        silent[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent[-1].recv(1)
    finally:
        for each in silent:
            each.close()
