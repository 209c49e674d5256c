from __future__ import annotations

import pytest

from pgfaucet.auth import throttle
from pgfaucet.auth.throttle import Throttle
from pgfaucet.config import ThrottleConfig

CONFIG = ThrottleConfig(failures=3, period=30.0, spared=("127.0.0.0/8", "local"))


def failed(made: Throttle, address: str, times: int, now: float = 100.0) -> None:
    for _ in range(times):
        made.failed(address, now)


def test_an_address_may_fail_so_often_and_then_once_in_each_part_of_the_period():
    made = Throttle(CONFIG)
    failed(made, "192.0.2.1", 2)
    assert made.seconds_left("192.0.2.1", 100.0) == 0.0
    failed(made, "192.0.2.1", 1)
    assert made.seconds_left("192.0.2.1", 100.0) == pytest.approx(10.0)
    assert made.seconds_left("192.0.2.1", 104.0) == pytest.approx(6.0)
    assert made.seconds_left("192.0.2.1", 110.0) == 0.0
    failed(made, "192.0.2.1", 1, 110.0)
    assert made.seconds_left("192.0.2.1", 110.0) == pytest.approx(10.0)


def test_failures_beyond_the_bound_do_not_make_the_wait_longer():
    made = Throttle(CONFIG)
    failed(made, "192.0.2.1", 500)
    assert made.seconds_left("192.0.2.1", 100.0) == pytest.approx(10.0)
    assert made.seconds_left("192.0.2.1", 130.0) == 0.0


def test_others_do_not_wait():
    made = Throttle(CONFIG)
    failed(made, "192.0.2.1", 9)
    assert made.seconds_left("192.0.2.2", 100.0) == 0.0


@pytest.mark.parametrize("address", ["127.0.0.1", "local", "::ffff:127.0.0.1"])
def test_who_is_spared_never_waits(address: str):
    made = Throttle(CONFIG)
    failed(made, address, 99)
    assert made.seconds_left(address, 100.0) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_addresses_count_by_who_has_them(one: str, other: str, *, is_same: bool):
    made = Throttle(CONFIG)
    failed(made, one, 3)
    assert (made.seconds_left(other, 100.0) > 0) is is_same


def test_a_socket_counts_where_it_is_not_spared():
    made = Throttle(ThrottleConfig(failures=1, period=10.0, spared=()))
    failed(made, "local", 1)
    assert made.seconds_left("local", 100.0) == pytest.approx(10.0)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(throttle, "MAX_ADDRESSES", 2)
    made = Throttle(CONFIG)
    for address in ("192.0.2.1", "192.0.2.2"):
        failed(made, address, 3)
    failed(made, "192.0.2.1", 1, 101.0)
    failed(made, "192.0.2.3", 3, 102.0)
    assert [made.seconds_left(f"192.0.2.{last}", 102.0) > 0 for last in (1, 2, 3)] == [True, False, True]
