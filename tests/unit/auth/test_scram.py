from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient, ScramException

from pgfaucet.auth.scram import MECHANISM, MECHANISM_PLUS, ScramServer, Verifier, make_verifier, mock_verifier
from pgfaucet.errors import FaucetError

PASSWORD = "fct_abcdefghijkl_" + "A" * 40
VERIFIER = make_verifier(PASSWORD.encode(), b"salt of 16 bytes")
BINDING = hashlib.sha256(b"a certificate").digest()


def converse(client: ScramClient, server: ScramServer, verifier: Verifier = VERIFIER) -> bool:
    """Let the two talk; the client checks the server's signature if its own proof was good."""
    server.client_first(client.get_client_first().encode())
    client.set_server_first(server.server_first(verifier).decode())
    is_proved = server.client_final(client.get_client_final().encode())
    if is_proved:
        client.set_server_final(server.server_final().decode())
    return is_proved


def test_the_example_of_rfc_7677():
    server = ScramServer(MECHANISM, None, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    server.client_first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    verifier = make_verifier(b"pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert server.server_first(verifier) == (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert server.client_final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert server.server_final() == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_client_of_scramp_proves_a_token_and_is_shown_a_proof():
    assert converse(ScramClient([MECHANISM], "fct_abcdefghijkl", PASSWORD), ScramServer(MECHANISM, None, "nonce"))


def test_the_client_of_scramp_binds_to_our_certificate():
    client = ScramClient([MECHANISM, MECHANISM_PLUS], "x", PASSWORD, channel_binding=("tls-server-end-point", BINDING))
    assert client.mechanism_name == MECHANISM_PLUS
    assert converse(client, ScramServer(MECHANISM_PLUS, BINDING, "nonce"))


def test_a_client_that_was_bound_to_another_certificate_is_refused():
    client = ScramClient([MECHANISM_PLUS], "x", PASSWORD, channel_binding=("tls-server-end-point", b"\0" * 32))
    with pytest.raises(FaucetError) as raised:
        converse(client, ScramServer(MECHANISM_PLUS, BINDING, "nonce"))
    assert raised.value.sqlstate == "28000"


def test_a_wrong_password_proves_nothing():
    assert not converse(ScramClient([MECHANISM], "x", PASSWORD[:-1] + "B"), ScramServer(MECHANISM, None, "nonce"))


def test_a_server_without_the_verifier_does_not_convince_the_client():
    client, server = ScramClient([MECHANISM], "x", PASSWORD), ScramServer(MECHANISM, None, "nonce")
    with pytest.raises(ScramException):
        assert converse(client, server, VERIFIER._replace(server_key=bytes(32)))


def test_no_password_fits_a_mock_verifier():
    mock = mock_verifier(b"secret", "fct_abcdefghijkl")
    assert not converse(ScramClient([MECHANISM], "x", PASSWORD), ScramServer(MECHANISM, None, "nonce"), mock)


def test_a_mock_looks_like_a_real_verifier_and_stays_the_same_for_a_name():
    mock = mock_verifier(b"secret", "a")
    assert mock == mock_verifier(b"secret", "a")
    assert mock.salt != mock_verifier(b"secret", "b").salt
    assert (len(mock.salt), mock.iterations) == (len(VERIFIER.salt), VERIFIER.iterations)


def test_libpq_sends_no_user_name_in_the_scram_message():
    server = ScramServer(MECHANISM, None, "server")
    server.client_first(b"n,,n=,r=client")
    assert server.server_first(VERIFIER).startswith(b"r=clientserver,s=")


@pytest.mark.parametrize(
    ("mechanism", "binding", "message", "sqlstate"),
    [
        (MECHANISM, None, b"n,a=root,n=,r=x", "0A000"),
        (MECHANISM, None, b"p=tls-server-end-point,,n=,r=x", "08P01"),
        (MECHANISM, BINDING, b"y,,n=,r=x", "28000"),  # a downgrade: we did offer PLUS
        (MECHANISM_PLUS, BINDING, b"n,,n=,r=x", "08P01"),
        (MECHANISM_PLUS, BINDING, b"p=tls-unique,,n=,r=x", "08P01"),
        (MECHANISM, None, b"n,,n=,r=" + b"x" * 257, "08P01"),
        (MECHANISM, None, b"n,,n=,r=" + b"x" * 5000, "08P01"),
        (MECHANISM, None, b"n,,m=must,n=,r=x", "08P01"),
        (MECHANISM, None, b"n,,n=,r=", "08P01"),
        (MECHANISM, None, b"n,,n=,r=x,", "08P01"),
        (MECHANISM, None, b"n,,n=,r=x y", "08P01"),
        (MECHANISM, None, b"n,,n=\xff,r=x", "08P01"),
        (MECHANISM, None, b"", "08P01"),
    ],
)
def test_a_first_message_that_is_not_right_is_refused(
    mechanism: str, binding: bytes | None, message: bytes, sqlstate: str
):
    with pytest.raises(FaucetError) as raised:
        ScramServer(mechanism, binding, "nonce").client_first(message)
    assert raised.value.sqlstate == sqlstate


def test_a_client_that_knows_no_binding_may_log_in_over_tls():
    assert converse(ScramClient([MECHANISM], "x", PASSWORD), ScramServer(MECHANISM, BINDING, "nonce"))


@pytest.mark.parametrize(
    ("message", "sqlstate"),
    [
        (b"c=biws,r=clientother,p=" + b"A" * 43 + b"=", "08P01"),
        (b"c=eSws,r=clientserver,p=" + b"A" * 43 + b"=", "28000"),
        (b"c=biws,r=clientserver,p=AAAA", "08P01"),
        (b"c=biws,r=clientserver,p=A", "08P01"),
        (b"c=biws,r=clientserver", "08P01"),
        (b"\xff", "08P01"),
    ],
)
def test_a_final_message_that_is_not_right_is_refused(message: bytes, sqlstate: str):
    server = ScramServer(MECHANISM, None, "server")
    server.client_first(b"n,,n=,r=client")
    server.server_first(VERIFIER)
    with pytest.raises(FaucetError) as raised:
        server.client_final(message)
    assert raised.value.sqlstate == sqlstate


def test_extensions_that_are_not_mandatory_are_part_of_what_is_signed():
    server = ScramServer(MECHANISM, None, "server")
    server.client_first(b"n,,n=,r=client,e=1")
    server.server_first(VERIFIER)
    assert not server.client_final(b"c=biws,r=clientserver,p=" + b"A" * 43 + b"=")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_of_a_client_are_a_proof_or_a_crash(first: bytes, final: bytes):
    server = ScramServer(MECHANISM, None, "server")
    try:
        server.client_first(first)
    except FaucetError:
        server = ScramServer(MECHANISM, None, "server")
        server.client_first(b"n,,n=,r=client")
    server.server_first(VERIFIER)
    try:
        assert not server.client_final(final)
    except FaucetError as error:
        assert error.sqlstate in ("08P01", "28000")  # noqa: PT017 - either is right
