from __future__ import annotations

import pytest

from pgfaucet.auth.principal import NO_TERMS, Principal, Terms, is_in, read_network


@pytest.mark.parametrize(
    ("address", "network", "is_inside"),
    [
        ("10.0.4.18", "10.0.0.0/8", True),
        ("11.0.4.18", "10.0.0.0/8", False),
        ("::ffff:10.0.4.18", "10.0.0.0/8", True),
        ("10.0.4.18", "::/0", False),
        ("fe80::1%eth0", "fe80::/10", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "0.0.0.0/0", False),
        ("local", "local", True),
        ("local", "0.0.0.0/0", False),
        ("127.0.0.1", "local", False),
    ],
)
def test_an_address_is_in_a_network_or_not(address: str, network: str, *, is_inside: bool):
    assert is_in(address, (network,)) is is_inside
    assert is_in(address, ("192.0.2.0/24", network)) is is_inside
    assert not is_in(address, ())


def test_a_network_is_kept_in_one_notation():
    assert [read_network(each) for each in ("10.0.4.18/8", "10.0.4.18", "2001:DB8::1/32", "local")] == [
        "10.0.0.0/8",
        "10.0.4.18/32",
        "2001:db8::/32",
        "local",
    ]


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "everywhere", "Local", "10.0.0.0/8,11.0.0.0/8"])
def test_what_is_no_network_is_refused(text: str):
    with pytest.raises(ValueError, match="does not appear to be"):
        read_network(text)


@pytest.mark.parametrize(
    "terms", [NO_TERMS, Terms(("10.0.0.0/8", "local")), Terms(max_connections=3), Terms((), None, is_one_time=True)]
)
def test_terms_come_back_as_they_were(terms: Terms):
    assert Terms.of(terms.as_dict()) == terms


@pytest.mark.parametrize(
    "written",
    [
        {"hours": "9-17"},
        {"networks": "10.0.0.0/8"},
        {"networks": ["x"]},
        {"max_connections": 0},
        {"max_connections": "3"},
        {"max_connections": True},
    ],
)
def test_terms_that_are_not_understood_are_an_error(written: dict[str, object]):
    with pytest.raises(ValueError, match=r"not understood|does not appear"):
        Terms.of(written)


def test_a_principal_is_named_as_people_see_it():
    assert Principal("0123456789ab", "r", "l", (), 1.0).public_name == "fct_0123456789ab"
    assert Principal("fcs_0123456789ab", "r", "l", (), 1.0, is_stored=False).public_name == "fcs_0123456789ab"
