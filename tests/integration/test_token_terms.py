"""What a token asks beyond its secret, tokens that are proved by a signature, and addresses that fail too often."""

from __future__ import annotations

import threading
import time

import pytest

from tests.integration.test_tokens import end_of
from tests.kit.policies import SERVER
from tests.kit.proxy import wait_until
from tests.kit.wire import Wire, errors


def log_in(proxy, token, source=None):
    """Log in and leave again; return the SQLSTATE of a refusal, or None."""
    with Wire(proxy.port, source=source) as connection:
        last = connection.log_in(token)
        return None if last.tag == "Z" else last.fields["C"]


def reasons(proxy):
    return [each["reason"] for each in proxy.audit(event="session_refused")]


def test_a_token_opens_sessions_from_its_networks_only(start_proxy):
    proxy = start_proxy()
    token = proxy.mint("desk", "--network", "127.0.0.2", "--network", "10.0.0.0/8", tenant=42).text
    assert log_in(proxy, token, "127.0.0.2") is None
    assert log_in(proxy, token, "127.0.0.3") == "28P01"
    wait_until(lambda: reasons(proxy), 5, "the refusal is recorded")
    assert reasons(proxy)[-1].endswith("it is not for clients at this address")


def test_a_token_has_so_many_sessions_at_once(start_proxy):
    proxy = start_proxy()
    token = proxy.mint("desk", "--max-connections", "2", tenant=42).text
    first, second = Wire.logged_in(proxy.port, token), Wire.logged_in(proxy.port, token)
    assert log_in(proxy, token) == "53300"
    assert log_in(proxy, proxy.token()) is None
    first.socket.close()
    wait_until(lambda: log_in(proxy, token) is None, 5, "a place is free")
    second.socket.close()


def test_a_one_time_token_opens_one_session(start_proxy):
    proxy = start_proxy()
    token = proxy.mint("desk", "--one-time", tenant=42)
    with Wire.logged_in(proxy.port, token.text) as session:
        assert log_in(proxy, token.text) == "28P01"
        assert errors(session.run("select 1")) == []
        time.sleep(0.5)
        assert errors(session.run("select 1")) == []
        proxy.revoke(token.id)
        answers, _ = end_of(session)
        assert answers[-1].fields["C"] == "57P01"
    wait_until(lambda: reasons(proxy), 5, "the refusal is recorded")
    assert "is used" in reasons(proxy)[0]


def test_of_many_who_come_at_once_with_a_one_time_token_one_gets_in(start_proxy):
    proxy = start_proxy(server=SERVER.replace("workers: 1", "workers: 2"))
    token = proxy.mint("desk", "--one-time", tenant=42).text
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(log_in(proxy, token))) for _ in range(12)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert sorted(map(str, answers)) == ["28P01"] * 11 + ["None"]


def test_a_login_that_fails_does_not_spend_a_one_time_token(start_proxy):
    proxy = start_proxy()
    token = proxy.mint("desk", "--one-time", "--network", "127.0.0.2", tenant=42).text
    assert log_in(proxy, token[:-1] + ("A" if token[-1] != "A" else "B"), "127.0.0.2") == "28P01"
    assert log_in(proxy, token, "127.0.0.3") == "28P01"
    assert log_in(proxy, token, "127.0.0.2") is None


@pytest.fixture
def signing(start_proxy, tmp_path):
    """A proxy that trusts a key, and the file of that key."""
    key = tmp_path / "signing.key"
    server = SERVER.replace("max_ttl: 24h", f'max_ttl: 24h, signed_by: ["{key}.pub"]')
    assert server != SERVER
    directory = tmp_path / "maker"
    directory.mkdir()
    from pgfaucet.cli.main import main

    assert main(["token", "keygen", str(key)]) == 0
    return start_proxy(server=server), str(key)


def test_a_signed_token_is_a_password(signing):
    proxy, key = signing
    token = proxy.mint("desk", "--sign", key, "--network", "127.0.0.0/30", "--max-connections", "1", tenant=42)
    with Wire.logged_in(proxy.port, token.text) as session:
        assert session.rows("select distinct tenant_id from orders") == [["42"]]
        assert log_in(proxy, token.text) == "53300"
        assert log_in(proxy, token.text, "127.0.0.9") == "28P01"
        proxy.revoke(token.id)
        answers, _ = end_of(session)
        assert answers[-1].fields["C"] == "57P01"
    assert log_in(proxy, token.text) == "28P01"
    (opened,) = proxy.audit(event="session_opened")
    assert (opened["token_id"], opened["claims"], opened["role"]) == (token.id, {"tenant": "42"}, "desk")
    proxy.verify_audit()


def test_a_token_signed_with_another_key_is_none(signing, tmp_path):
    from pgfaucet.cli.main import main

    proxy, _ = signing
    other = str(tmp_path / "other.key")
    assert main(["token", "keygen", other]) == 0
    assert log_in(proxy, proxy.mint("desk", "--sign", other, tenant=42).text) == "28P01"
    wait_until(lambda: reasons(proxy), 5, "the refusal is recorded")
    assert reasons(proxy) == ["signed token: signed with a key that is not known"]


def test_a_public_key_that_is_none_keeps_the_proxy_from_starting(start_proxy, tmp_path):
    (tmp_path / "bad.pub").write_text("no key")
    server = SERVER.replace("max_ttl: 24h", f'max_ttl: 24h, signed_by: ["{tmp_path}/bad.pub"]')
    with pytest.raises(Exception, match=r"bad\.pub: this is no Ed25519 public key"):
        start_proxy(server=server)


def test_an_address_that_fails_too_often_has_to_wait(start_proxy):
    throttle = '  throttle: {failures: 3, period: 6s, spared: ["127.0.0.3"]}\ndatabases:\n'
    proxy = start_proxy(server=SERVER.replace("databases:\n", throttle))
    good, bad = proxy.token(), "fct_000000000000_" + "0" * 40
    assert [log_in(proxy, bad, "127.0.0.2") for _ in range(4)] == ["28P01"] * 3 + ["28000"]
    with Wire(proxy.port, source="127.0.0.2") as connection:
        refused = connection.log_in(good).fields
    assert (refused["S"], refused["C"], refused["M"]) == ("FATAL", "28000", "too many failed logins from this address")
    assert refused["H"] in ("Try again in 1 s.", "Try again in 2 s.")
    assert log_in(proxy, good, "127.0.0.1") is None
    assert [log_in(proxy, bad, "127.0.0.3") for _ in range(5)] == ["28P01"] * 5
    wait_until(lambda: log_in(proxy, good, "127.0.0.2") is None, 4, "the address may try again")
    assert "server.throttle" in reasons(proxy)
