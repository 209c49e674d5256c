from __future__ import annotations

import hashlib
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramException, ScramMechanism

from pgfaucet.errors import FaucetError
from pgfaucet.upstream.authenticate import Authentication
from tests.kit.certificates import write_certificate

USER, PASSWORD = "faucet_svc", "pencil"
OK, CLEARTEXT, MD5, GSS = (code.to_bytes(4) for code in (0, 3, 5, 7))
PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """The client's end of a TLS connection, and the binding that its server knows."""
    certificate, key = write_certificate(tmp_path_factory.mktemp("tls"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [near, far]
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    der = near.getpeercert(binary_form=True)
    return near, ("tls-server-end-point", hashlib.sha256(der).digest())


def authentication(password: str | None = PASSWORD, *, channel_binding="prefer", tls=None, is_private=True):
    return Authentication(USER, password, channel_binding=channel_binding, tls=tls, is_private=is_private)


def sasl(*mechanisms: str) -> bytes:
    return (10).to_bytes(4) + b"".join(name.encode() + b"\0" for name in mechanisms) + b"\0"


def sasl_continue(text: str) -> bytes:
    return (11).to_bytes(4) + text.encode()


def sasl_final(text: str) -> bytes:
    return (12).to_bytes(4) + text.encode()


class Server:
    """The server's side of a SCRAM exchange, by the library's server half."""

    def __init__(self, mechanism: str = PLAIN, password: str = PASSWORD, binding=None) -> None:
        scram = ScramMechanism(mechanism)
        stored = scram.make_auth_info(password)
        self.mechanism = mechanism
        self._scram = scram.make_server(lambda _: stored, channel_binding=binding)

    def first(self, answer: bytes) -> bytes:
        """Take SASLInitialResponse."""
        assert answer[:1] == b"p"
        chosen, _, rest = answer[5:].partition(b"\0")
        assert chosen.decode() == self.mechanism
        assert int.from_bytes(rest[:4]) == len(rest) - 4
        self._scram.set_client_first(rest[4:].decode())
        return sasl_continue(self._scram.get_server_first())

    def final(self, answer: bytes) -> bytes:
        """Take SASLResponse."""
        assert answer[:1] == b"p"
        self._scram.set_client_final(answer[5:].decode())
        return sasl_final(self._scram.get_server_final())


def reason(client: Authentication, body: bytes) -> str:
    """Why a message of the server ends the login; the client itself is told nothing but that."""
    with pytest.raises(FaucetError) as raised:
        client.answer(body)
    assert raised.value.sqlstate == "08006"
    assert raised.value.message == "could not log in to the server"
    assert not client.is_done
    assert PASSWORD not in str(raised.value.reason)
    return raised.value.reason


# -- each method -------------------------------------------------------------------------------------------------------------------


def test_a_server_that_asks_for_nothing_is_sent_nothing():
    client = authentication(None)
    assert client.answer(OK) == b""
    assert client.is_done


def test_the_password_is_sent_in_clear_when_nobody_can_listen():
    client = authentication()
    assert client.answer(CLEARTEXT) == b"p\0\0\0\x0bpencil\0"
    assert not client.is_done
    client.answer(OK)
    assert client.is_done


def test_the_password_is_not_sent_in_clear_over_a_network():
    assert "without TLS" in reason(authentication(is_private=False), CLEARTEXT)


def test_md5_is_answered_as_the_manual_says():
    salt = b"\x01\xff\0s"
    inner = hashlib.md5(f"{PASSWORD}{USER}".encode()).hexdigest()
    expected = b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode() + b"\0"
    client = authentication(is_private=False)
    assert client.answer(MD5 + salt)[5:] == expected
    client.answer(OK)
    assert client.is_done


@pytest.mark.parametrize("password", [PASSWORD, "pässwörd ☃", "x" * 500], ids=["ascii", "unicode", "long"])
def test_scram_proves_the_password_to_both_sides(password):
    client, server = authentication(password), Server(password=password)
    first = server.first(client.answer(sasl(PLAIN)))
    final = server.final(client.answer(first))
    assert client.answer(final) == b""
    assert not client.is_done
    assert client.answer(OK) == b""
    assert client.is_done


def test_scram_never_shows_the_password():
    client, server = authentication(is_private=False), Server()
    sent = client.answer(sasl(PLAIN))
    sent += client.answer(server.first(sent))
    assert PASSWORD.encode() not in sent


@pytest.mark.parametrize("body", [CLEARTEXT, MD5 + b"salt", sasl(PLAIN)], ids=["clear", "md5", "scram"])
def test_a_server_that_wants_a_password_where_there_is_none_is_left(body):
    assert "none is configured" in reason(authentication(None), body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (GSS, "method 7"),
        ((2).to_bytes(4), "method 2"),
        ((2**32 - 1).to_bytes(4), "method 4294967295"),
        (sasl("OAUTHBEARER"), "offers only OAUTHBEARER"),
        (sasl("SCRAM-SHA-1"), "offers only SCRAM-SHA-1"),
        (sasl(), "offers only nothing"),
        (b"", "without a method"),
        (b"\0\0\0", "without a method"),
    ],
)
def test_another_method_is_refused_by_name(body, why):
    assert why in reason(authentication(), body)


# -- channel binding ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["prefer", "require"])
def test_scram_is_bound_to_the_channel_where_the_server_offers_it(tls, wanted):
    near, binding = tls
    client, server = authentication(channel_binding=wanted, tls=near), Server(PLUS, binding=binding)
    first = server.first(client.answer(sasl(PLUS, PLAIN)))
    client.answer(server.final(client.answer(first)))
    client.answer(OK)
    assert client.is_done


def test_scram_is_not_bound_where_that_is_switched_off(tls):
    client, server = authentication(channel_binding="disable", tls=tls[0]), Server(PLAIN)
    first = server.first(client.answer(sasl(PLUS, PLAIN)))
    client.answer(server.final(client.answer(first)))
    client.answer(OK)
    assert client.is_done


def test_a_server_behind_another_certificate_does_not_accept_the_binding(tls):
    client, server = authentication(tls=tls[0]), Server(PLUS, binding=("tls-server-end-point", b"another" * 4))
    first = server.first(client.answer(sasl(PLUS)))
    with pytest.raises(ScramException, match="channel binding"):
        server.final(client.answer(first))


@pytest.mark.parametrize(
    "body",
    [CLEARTEXT, MD5 + b"salt", sasl(PLAIN), OK],
    ids=["clear", "md5", "scram without binding", "trust"],
)
def test_required_binding_keeps_the_password_from_a_server_that_does_not_offer_it(tls, body):
    assert "channel binding is required" in reason(authentication(channel_binding="require", tls=tls[0]), body)


def test_required_binding_is_not_had_without_tls():
    client = authentication(channel_binding="require")
    assert "channel binding is required" in reason(client, sasl(PLUS, PLAIN))


def test_binding_alone_is_no_login_without_tls():
    assert "offers only" in reason(authentication(), sasl(PLUS))


# -- a server that is not what it says ---------------------------------------------------------------------------------------------


def begun() -> tuple[Authentication, Server, bytes]:
    client, server = authentication(), Server()
    return client, server, client.answer(sasl(PLAIN))


def test_a_server_that_skips_its_proof_is_refused():
    client, server, sent = begun()
    server.final(client.answer(server.first(sent)))
    assert "did not prove" in reason(client, OK)


def test_a_server_that_lets_us_in_before_the_exchange_is_over_is_refused():
    client, server, sent = begun()
    assert "did not prove" in reason(client, OK)
    client, server, sent = begun()
    client.answer(server.first(sent))
    assert "did not prove" in reason(client, OK)


@pytest.mark.parametrize("said", ["v=AAAA", f"v={'A' * 43}=", "v=", "e=other-error", "", "x"])
def test_a_server_with_a_wrong_proof_is_refused(said):
    client, server, sent = begun()
    client.answer(server.first(sent))
    assert "SCRAM exchange failed" in reason(client, sasl_final(said))
    assert "did not prove" in reason(client, OK)


def test_a_server_that_knows_another_password_does_not_let_us_in():
    client, other = authentication(), Server(password="another")
    answer = client.answer(other.first(client.answer(sasl(PLAIN))))
    with pytest.raises(ScramException, match="proof"):
        other.final(answer)


@pytest.mark.parametrize("text", ["i=0", "i=1000001", "i=99999999999999999999", "i=-1", "i=x", "i=", "r=x,s=y", ""])
def test_a_server_cannot_make_us_compute_for_hours(text):
    client, _, _ = begun()
    assert "iteration count" in reason(client, sasl_continue(text))


def test_a_server_that_does_not_repeat_our_nonce_is_refused():
    client, server, sent = begun()
    foreign = server.first(sent).replace(b"r=", b"r=x", 1)
    assert "SCRAM exchange failed" in reason(client, foreign)


@pytest.mark.parametrize("make", [sasl_continue, sasl_final])
def test_sasl_messages_out_of_order_or_without_bound_are_refused(make):
    assert "unexpected SASL" in reason(authentication(), make("r=x"))
    client, _, _ = begun()
    assert "unexpected SASL" in reason(client, make("x" * 20_000))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.tuples(st.sampled_from([0, 3, 5, 10, 11, 12]), st.binary(max_size=60))))
def test_whatever_a_server_says_is_answered_or_refused(said):
    client = authentication()
    for item in said:
        body = item if isinstance(item, bytes) else item[0].to_bytes(4) + item[1]
        try:
            assert isinstance(client.answer(body), bytes)
        except FaucetError as error:
            assert error.sqlstate == "08006"  # noqa: PT017 - anything else raised fails the test


@settings(max_examples=100, deadline=None)
@given(st.text("rsiemvn=,+/A0ü", max_size=40))
def test_whatever_a_server_says_within_scram_is_refused(text):
    client, _, _ = begun()
    assert reason(client, sasl_continue(f"{text},i=4096"))
    client, server, sent = begun()
    client.answer(server.first(sent))
    assert reason(client, sasl_final(text))
