from __future__ import annotations

from pathlib import Path

import pytest

from pgfaucet.config import (
    AuditConfig,
    Config,
    DatabaseConfig,
    PoolConfig,
    ServerConfig,
    TcpAddress,
    TlsConfig,
    TokensConfig,
    UnixAddress,
    parse_address,
    parse_tcp_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6432", TcpAddress("127.0.0.1", 6432)),
        ("[::1]:1", TcpAddress("::1", 1)),
        ("db.example:65535", TcpAddress("db.example", 65_535)),
        ("0.0.0.0:6432", TcpAddress("0.0.0.0", 6432)),
        ("unix:/run/pgfaucet", UnixAddress(Path("/run/pgfaucet"), 6432)),
        ("unix:/run/pgfaucet:5432", UnixAddress(Path("/run/pgfaucet"), 5432)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: TcpAddress | UnixAddress):
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("127.0.0.1", '"127.0.0.1" is not an address; write HOST:PORT, as in 127.0.0.1:6432'),
        ("h:0", '"h:0" is not an address; write HOST:PORT, as in 127.0.0.1:6432'),
        ("h:65536", '"h:65536" is not an address; write HOST:PORT, as in 127.0.0.1:6432'),
        ("h:-1", '"h:-1" is not an address; write HOST:PORT, as in 127.0.0.1:6432'),
        ("h:\u0661", '"h:\u0661" is not an address; write HOST:PORT, as in 127.0.0.1:6432'),
        (":6432", '":6432" names no host; write 0.0.0.0:6432 for every IPv4 address, [::]:6432 for every address'),
        ("*:1", '"*:1" names no host; write 0.0.0.0:1 for every IPv4 address, [::]:1 for every address'),
        ("::1:6432", '"::1:6432" is not an address; write HOST:PORT, an IPv6 address in brackets: [::1]:6432'),
        ("[h]:1", '"[h]:1" is not an address; write HOST:PORT, an IPv6 address in brackets: [::1]:6432'),
        ("tcp://h:1", '"tcp://h:1" is not an address; write HOST:PORT, an IPv6 address in brackets: [::1]:6432'),
        ("a b:1", '"a b:1" is not an address; write HOST:PORT, an IPv6 address in brackets: [::1]:6432'),
        ("unix:run", '"unix:run" is not a socket directory; write its absolute path, as in unix:/run/pgfaucet'),
        ("unix:", '"unix:" is not a socket directory; write its absolute path, as in unix:/run/pgfaucet'),
        ("unix:/run:x", '"unix:/run:x" is not a socket directory; write its absolute path, as in unix:/run/pgfaucet'),
    ],
)
def test_what_is_no_address_says_what_to_write(text: str, said: str):
    with pytest.raises(ValueError) as raised:
        parse_address(text)
    assert str(raised.value) == said


def test_a_socket_path_must_fit_into_the_systems_limit():
    assert parse_address(f"unix:/{'x' * 92}")
    with pytest.raises(ValueError, match="too long for a socket; write a path of at most 91 bytes"):
        parse_address(f"unix:/{'x' * 93}")


def test_where_tcp_is_meant_a_socket_is_none():
    with pytest.raises(ValueError, match="write HOST:PORT"):
        parse_tcp_address("unix:/run")


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "LocalHost:1", "unix:/run"])
def test_these_reach_this_machine_only(text: str):
    assert parse_address(text).is_loopback


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost.example:1", "db:1", "127.1:1"])
def test_all_others_are_taken_for_reachable(text: str):
    assert not parse_address(text).is_loopback


def test_a_socket_is_where_libpq_looks_for_it():
    assert UnixAddress(Path("/run/pgfaucet"), 6432).path == Path("/run/pgfaucet/.s.PGSQL.6432")


def test_no_repr_shows_a_secret():
    database = DatabaseConfig("shop", "postgresql://svc:hunter2@h/shop", "hunter3")
    assert "hunter" not in repr(database)
    server = ServerConfig(TokensConfig("sqlite:/t"), AuditConfig(Path("/a"), Path("/k")))
    assert "hunter" not in repr(Config(server, {"shop": database}))


def test_the_path_of_a_store_is_its_file():
    assert TokensConfig("sqlite:/var/lib/tokens.db").path == Path("/var/lib/tokens.db")


def test_the_defaults_are_those_of_the_contract():
    server = ServerConfig(TokensConfig("sqlite:/t"), AuditConfig(Path("/a"), Path("/k")))
    assert server.listen == (TcpAddress("127.0.0.1", 6432),)
    assert (server.workers, server.tls, server.admin) == (1, None, None)
    assert server.tokens.max_ttl == 24 * 3600
    assert (server.audit.durability, server.audit.params) == ("batch", "hash")
    assert TlsConfig(Path("/c"), Path("/k")).required is True
    assert PoolConfig() == PoolConfig(
        "transaction", size=20, min=0, idle_timeout=300, max_lifetime=3600, wait_timeout=10
    )
