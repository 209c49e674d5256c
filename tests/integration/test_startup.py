"""From the first byte to ReadyForQuery: encryption requests, versions, authentication methods, TLS, cancel."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time

import asyncpg
import psycopg
import pytest
from psycopg import pq

from tests.kit import wire
from tests.kit.certificates import write_certificate
from tests.kit.policies import SERVER
from tests.kit.proxy import Proxy, wait_until
from tests.kit.wire import GSSENC_REQUEST, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, Wire, errors, query

ENDLESS = "select count(*) from generate_series(1, 20000000000)"


def asked_for(connection, code):
    connection.send(struct.pack(">ii", 8, code))
    return connection.socket.recv(1)


def test_encryption_that_is_not_offered_is_declined_and_the_login_goes_on(proxy):
    with Wire(proxy.port) as connection:
        assert asked_for(connection, GSSENC_REQUEST) == b"N"
        assert asked_for(connection, SSL_REQUEST) == b"N"
        assert connection.log_in(proxy.token()).tag == "Z"


@pytest.mark.parametrize(
    ("asked", "told", "key_length"),
    [(PROTOCOL_3_0, None, 4), (PROTOCOL_3_2, None, 32), (196608 + 9999, 2, 32)],
    ids=["3.0", "3.2", "3.9999"],
)
def test_the_protocol_version_is_negotiated(proxy, asked, told, key_length):
    token = proxy.token()
    with Wire(proxy.port) as connection:
        connection.send(wire.startup_packet({"user": "agent", "database": "shop"}, asked))
        seen = [connection.receive()]
        if told is not None:
            assert seen[0].tag == "v"
            assert struct.unpack(">ii", seen[0].body[:8])[0] & 0xFFFF == told
            seen = [connection.receive()]
        assert seen[0].body == b"\0\0\0\3"
        connection.send(wire.message("p", wire.cstring(token)))
        answers = connection.until("Z")
        key = next(item for item in answers if item.tag == "K")
        assert len(key.body) - 4 == key_length


def test_an_unknown_protocol_option_is_named_and_ignored(proxy):
    with Wire(proxy.port) as connection:
        connection.send(wire.startup_packet({"user": "agent", "database": "shop", "_pq_.unheard_of": "1"}))
        answer = connection.receive()
        assert answer.tag == "v"
        assert b"_pq_.unheard_of\0" in answer.body


def test_an_unsupported_major_version_is_refused(proxy):
    with Wire(proxy.port) as connection:
        connection.send(wire.startup_packet({"user": "agent"}, 4 << 16))
        assert connection.receive().fields["C"] == "0A000"
        assert connection.is_closed()


def test_parameters_are_reported_as_the_server_does(proxy):
    with Wire.logged_in(proxy.port, proxy.token(), application_name="tests", DateStyle="ISO, DMY") as session:
        expected = {
            "server_version",
            "client_encoding",
            "standard_conforming_strings",
            "DateStyle",
            "TimeZone",
            "integer_datetimes",
        }
        assert expected <= set(session.parameters)
        assert session.parameters["application_name"] == "tests"
        assert session.parameters["DateStyle"] == "ISO, DMY"
        assert session.parameters["server_version"].startswith("18")
        assert session.rows("show datestyle") == [["ISO, DMY"]]


def test_a_setting_that_is_not_allowed_is_refused_at_start(proxy):
    with Wire(proxy.port) as connection:
        answer = connection.log_in(proxy.token(), options="-c session_preload_libraries=x")
        assert answer.tag == "E"
        assert answer.fields["S"] == "FATAL"


def test_replication_connections_are_refused(proxy):
    with Wire(proxy.port) as connection:
        assert connection.log_in(proxy.token(), replication="database").tag == "E"


def test_a_client_that_insists_on_scram_logs_in_with_the_tokens_id_as_user(proxy):
    token = proxy.token()
    user = token.rpartition("_")[0]
    with psycopg.connect(proxy.dsn(token, user=user) + "?require_auth=scram-sha-256") as connection:
        assert connection.execute("select distinct tenant_id from notes").fetchall() == [(42,)]
        assert not connection.pgconn.used_password or connection.info.status == pq.ConnStatus.OK


def test_scram_with_a_wrong_secret_is_the_same_refusal(proxy):
    token = proxy.token()
    public = token.rpartition("_")[0]
    for user in (public, "fct_doesnotexist"):
        with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
            psycopg.connect(proxy.dsn(public + "_" + "x" * 43, user=user))


def test_cancel_reaches_its_own_statement_only(proxy):
    with (
        Wire.logged_in(proxy.port, proxy.token()) as one,
        Wire.logged_in(proxy.port, proxy.token(), version=PROTOCOL_3_2) as other,
    ):
        one.send(query(ENDLESS))
        other.send(query(ENDLESS))
        time.sleep(0.3)
        other.cancel(proxy.port)
        assert errors(other.until("Z"))[0][0] == "57014"
        one.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.receive()
        one.socket.settimeout(5)
        one.cancel(proxy.port)
        assert errors(one.until("Z"))[0][0] == "57014"
        assert one.rows("select 1") == [["1"]]


def test_a_cancel_with_a_wrong_key_does_nothing(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        pid, key = session.key
        session.send(query(ENDLESS))
        time.sleep(0.2)
        for wrong in (bytes(len(key)), key[:-1], b""):
            session.key = pid, wrong
            session.cancel(proxy.port)
        session.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            session.receive()
        session.socket.settimeout(5)
        session.key = pid, key
        session.cancel(proxy.port)
        assert errors(session.until("Z"))[0][0] == "57014"


def test_a_client_that_leaves_in_the_middle_frees_its_upstream_connection(proxy):
    for _ in range(12):  # more than the pool holds
        with Wire.logged_in(proxy.port, proxy.token()) as session:
            session.send(query(ENDLESS))
            time.sleep(0.05)
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        assert session.rows("select 1") == [["1"]]
    sql = f"select count(*) from pg_stat_activity where datname = '{proxy.database}' and state = 'active' and query like '%20000000000%'"
    wait_until(lambda: proxy.postgres.value("postgres", sql) == "0", 5, "no statement of a client that left still runs")


@pytest.mark.parametrize("sql", ["select * from api_keys", "select 1"])
def test_a_connection_left_in_the_middle_of_a_batch_serves_nobody_else(proxy, sql):
    for _ in range(12):  # more than the pool holds
        with Wire.logged_in(proxy.port, proxy.token()) as session:
            session.send(wire.parse("select 1"), wire.parse(sql, "s"), wire.FLUSH)
            session.until("E" if "api_keys" in sql else "1")
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        assert session.rows("select count(*) from notes") == [["2"]]


def test_a_client_that_closes_its_half_still_gets_the_answers_in_flight(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        session.send(query("select count(*) from generate_series(1, 300000)"), query("select 2"))
        session.socket.shutdown(socket.SHUT_WR)
        answers = session.receive_until_closed()
        assert [answer.values for answer in answers if answer.tag == "D"] == [["300000"], ["2"]]


def test_more_clients_than_upstream_connections_take_turns(proxy):
    token = proxy.token()
    failures = []

    def work():
        try:
            with Wire.logged_in(proxy.port, token) as session:
                for _ in range(10):
                    assert session.rows("select count(*) from notes") == [["2"]]
        except Exception as problem:  # noqa: BLE001 - reported by the assertion below
            failures.append(repr(problem))

    threads = [threading.Thread(target=work) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    sql = (
        f"select count(*) from pg_stat_activity where datname = '{proxy.database}' and backend_type = 'client backend'"
    )
    assert int(proxy.postgres.value("postgres", sql)) <= 8 + 2  # the pool, the catalog reader, psql


# -- TLS ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_proxy(postgres, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = write_certificate(directory)
    server = SERVER.replace(
        "  workers: 1\n", f"  workers: 1\n  tls: {{cert: {certificate}, key: {key}, required: true}}\n"
    )
    name = postgres.new_database()
    with Proxy(postgres, name, directory, server=server) as running:
        running.certificate = certificate
        yield running
    postgres.drop_database(name)


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_tls_clients_verify_the_certificate(tls_proxy, negotiation):
    if negotiation == "direct" and pq.version() < 170000:
        pytest.skip("this libpq is older than direct TLS")
    options = f"?sslmode=verify-full&sslrootcert={tls_proxy.certificate}&sslnegotiation={negotiation}"
    dsn = tls_proxy.dsn().replace("127.0.0.1", "localhost")
    with psycopg.connect(dsn + options) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("select count(*) from notes").fetchone() == (2,)


def test_scram_over_tls_binds_the_channel(tls_proxy):
    token = tls_proxy.token()
    dsn = tls_proxy.dsn(token, user=token.rpartition("_")[0])
    with psycopg.connect(dsn + "?sslmode=require&channel_binding=require") as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_asyncpg_connects_with_tls(tls_proxy):
    import asyncio

    async def main():
        context = ssl.create_default_context(cafile=str(tls_proxy.certificate))
        connection = await asyncpg.connect(tls_proxy.dsn(), ssl=context)
        try:
            assert await connection.fetchval("select count(*) from notes") == 2
        finally:
            await connection.close()

    asyncio.run(main())


def test_direct_tls_without_alpn_is_refused(tls_proxy):
    context = ssl.create_default_context(cafile=str(tls_proxy.certificate))
    with socket.create_connection(("127.0.0.1", tls_proxy.port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
                encrypted.sendall(wire.startup_packet({"user": "agent", "database": "shop"}))
                received = encrypted.recv(100)
        except OSError:
            received = b""
    assert not received.startswith(b"R")


def test_bytes_sent_behind_an_ssl_request_in_clear_are_never_taken_as_decrypted(tls_proxy):
    with Wire(tls_proxy.port) as connection:
        connection.send(struct.pack(">ii", 8, SSL_REQUEST) + wire.startup_packet({"user": "agent", "database": "shop"}))
        received = connection.socket.recv(1)
        assert received in (b"S", b"")
        context = ssl.create_default_context(cafile=str(tls_proxy.certificate))
        with pytest.raises(OSError):
            context.wrap_socket(connection.socket, server_hostname="localhost").recv(1)


def test_an_exposed_listener_without_tls_is_a_configuration_error(proxy, tmp_path):
    policies = tmp_path / "exposed"
    policies.mkdir()
    (policies / "server.yaml").write_text(SERVER.replace("${PGFAUCET_LISTEN}", "0.0.0.0:6432"))
    (policies / "roles.yaml").write_text(proxy.roles_file.read_text())
    checked = proxy.run_command("check", "-c", str(policies))
    assert checked.returncode == 1
    assert "tls" in checked.stderr.lower() + checked.stdout.lower()
