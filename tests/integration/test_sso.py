"""A token of an identity provider as the password: who gets in, who does not, and what each of them is told."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.test_tokens import end_of
from tests.kit.issuer import Issuer
from tests.kit.policies import SERVER
from tests.kit.proxy import wait_until
from tests.kit.wire import Wire, errors, query

SSO = """\
  sso:
    - issuer: {address}
      audience: pgfaucet
      jwks: {address}/jwks.json
      roles: {{support: desk}}
      claims: {{tenant: org_id}}
      leeway: 1ms
databases:
"""


@pytest.fixture
def issuer():
    with Issuer() as running:
        yield running


@pytest.fixture
def sso_proxy(start_proxy, issuer):
    server = SERVER.replace("databases:\n", SSO.format(address=issuer.address))
    assert server != SERVER
    return start_proxy(server=server)


def test_a_token_of_the_provider_opens_the_role_that_its_groups_have(sso_proxy, issuer):
    with psycopg.connect(sso_proxy.dsn(issuer.token()), autocommit=True) as connection:
        tenants = connection.execute("select distinct tenant_id from orders").fetchall()
    assert tenants == [(42,)]
    (opened,) = sso_proxy.audit(event="session_opened")
    assert (opened["token_label"], opened["role"], opened["claims"]) == ("sso:ann", "desk", {"tenant": "42"})
    assert opened["token_id"].startswith("jwt_")
    sso_proxy.verify_audit()


def test_every_token_that_proves_nothing_gets_the_same_answer_and_the_audit_the_reason(sso_proxy, issuer):
    reasons = {
        issuer.token(key=ec.generate_private_key(ec.SECP256R1())): "its signature does not hold",
        issuer.token(key="x" * 32, algorithm="HS256"): "signed with an algorithm that is not allowed for its key",
        issuer.token(key="", algorithm="none")
        + "AAAAAAAAAA": "signed with an algorithm that is not allowed for its key",
        issuer.token(aud="another"): "it is for another audience",
        issuer.token(ttl=-5): "expired",
        issuer.token(nbf=time.time() + 60): "not valid yet",
        issuer.token(exp=None): "it has no exp",
        issuer.token(groups=["strangers"]): "no role here belongs to its groups",
        issuer.token(iss="https://evil.example"): "SSO token of an issuer that is not configured",
    }
    for number, (token, reason) in enumerate(reasons.items()):
        with Wire(sso_proxy.port) as connection:
            refused = connection.log_in(token).fields
        assert (refused["S"], refused["C"]) == ("FATAL", "28P01")
        assert refused["M"] == 'password authentication failed for user "agent"'
        wait_until(lambda number=number: len(sso_proxy.audit(event="session_refused")) > number, 5, "it is recorded")
        assert sso_proxy.audit(event="session_refused")[number]["reason"].endswith(reason)
    text = sso_proxy.read_log() + sso_proxy.audit_file.read_text()
    assert not any(token in text for token in reasons)


def test_a_new_key_of_the_provider_is_fetched_and_an_old_one_serves_no_more(sso_proxy, issuer):
    old = issuer.token()
    with Wire.logged_in(sso_proxy.port, old) as session:
        assert errors(session.run("select 1")) == []
    issuer.rotate("second")

    def is_let_in():
        with Wire(sso_proxy.port) as connection:
            return connection.log_in(issuer.token()).tag != "E"

    wait_until(is_let_in, 10, "the new key is fetched")
    with Wire(sso_proxy.port) as connection:
        assert connection.log_in(old).fields["C"] == "28P01"
    assert issuer.requests == 2


def test_a_session_ends_when_its_token_expires(sso_proxy, issuer):
    token = issuer.token(ttl=2)
    began = time.time()
    with Wire.logged_in(sso_proxy.port, token) as session:
        session.send(query("select count(*) from generate_series(1, 20000000000)"))
        answers, _ = end_of(session)
        assert answers[-1].fields["C"] == "57P01"
    assert time.time() - began <= 3.0


@pytest.mark.parametrize("by", ["--all", "--label", "id"])
def test_it_can_be_revoked(sso_proxy, issuer, by):
    token = issuer.token()
    with Wire.logged_in(sso_proxy.port, token) as session:
        assert errors(session.run("select 1")) == []
        (opened,) = sso_proxy.audit(event="session_opened")
        sso_proxy.revoke(*{"--all": ["--all"], "--label": ["--label", "sso:a*"], "id": [opened["token_id"]]}[by])
        began = time.monotonic()
        answers, _ = end_of(session)
        assert time.monotonic() - began < 1.0
        assert answers[-1].fields["C"] == "57P01"
    with Wire(sso_proxy.port) as connection:
        assert connection.log_in(token).fields["C"] == "28P01"
    wait_until(lambda: sso_proxy.audit(event="session_refused"), 5, "the refusal is recorded")
    assert sso_proxy.audit(event="session_refused")[-1]["reason"].endswith("it is revoked")
    if by == "id":
        Wire.logged_in(sso_proxy.port, issuer.token()).socket.close()


def test_a_revocation_of_others_does_not_end_it(sso_proxy, issuer):
    with Wire.logged_in(sso_proxy.port, issuer.token()) as session:
        sso_proxy.revoke("--label", "agent:*")
        sso_proxy.revoke("--role", "reader")
        sso_proxy.revoke("jwt_" + "0" * 24)
        time.sleep(0.6)
        assert errors(session.run("select 1")) == []


@pytest.fixture
def oauth_proxy(start_proxy, issuer):
    sso = SSO.replace("leeway", 'oauth: {{users: ["*@example.com"], scope: "openid groups"}}\n      leeway')
    return start_proxy(server=SERVER.replace("databases:\n", sso.format(address=issuer.address)))


def connect_with_libpq(proxy, issuer, token):
    """Connect as a program with libpq 18 does that can get bearer tokens; return what it printed."""
    libpq = proxy.postgres.program("psql").parent.parent / "lib" / "libpq.so.5"
    script = Path(__file__).parent / "clients" / "libpq_oauth.py"
    where = f"host=127.0.0.1 port={proxy.port} dbname=shop user=ann@example.com"
    conninfo = f"{where} require_auth=oauth oauth_issuer={issuer.address} oauth_client_id=pgfaucet-test"
    done = subprocess.run(
        [sys.executable, str(script), str(libpq), conninfo, token],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={"PGOAUTHDEBUG": "UNSAFE"},  # the issuer of the tests has no TLS
    )
    return done.stdout.splitlines()


def test_libpq_is_told_where_to_get_a_bearer_token_and_gets_in_with_it(oauth_proxy, issuer):
    told, tenant = connect_with_libpq(oauth_proxy, issuer, issuer.token())
    assert told == f"{issuer.address}/.well-known/openid-configuration openid groups"
    assert tenant == "42"
    (opened,) = oauth_proxy.audit(event="session_opened")
    assert (opened["token_label"], opened["user"]) == ("sso:ann", "ann@example.com")


def test_libpq_is_refused_with_a_bearer_token_that_proves_nothing(oauth_proxy, issuer):
    printed = connect_with_libpq(oauth_proxy, issuer, issuer.token(aud="another"))
    assert 'FATAL:  password authentication failed for user "ann@example.com"' in printed[-2], printed
    wait_until(lambda: len(oauth_proxy.audit(event="session_refused")) > 1, 5, "it is recorded")
    refused = [each["reason"] for each in oauth_proxy.audit(event="session_refused")]
    assert refused[0] == "asked where to get a bearer token"
    assert refused[-1].endswith("it is for another audience")


def test_who_is_not_among_the_users_is_asked_for_a_password(oauth_proxy, issuer):
    with Wire.logged_in(oauth_proxy.port, issuer.token()) as session:
        assert errors(session.run("select 1")) == []
