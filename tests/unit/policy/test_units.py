from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgfaucet.policy.units import parse_duration, parse_integer, parse_number, parse_rate, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("64KB", 65_536), ("64kB", 65_536), ("64 MB", 64 << 20), ("2GB", 2 << 30), ("1TB", 1 << 40)],
)
def test_sizes_count_in_1024_as_in_postgresql_conf(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("1.5m", 90), ("10min", 600), ("2h", 7_200), ("7d", 604_800), ("5 s", 5)],
)
def test_durations_are_seconds(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "rate"), [("50/s", 50), ("600/m", 10), ("600 / min", 10), ("3600/h", 1), ("0.5/s", 0.5)]
)
def test_rates_are_a_second(text: str, rate: float):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("1e6", 1_000_000), ("2.5E+2", 250)])
def test_numbers_may_have_an_exponent(text: str, number: float):
    assert parse_number(text) == number


def test_whole_numbers_may_be_nothing():
    assert parse_integer("0") == 0
    assert parse_integer("042") == 42


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_size, text) for text in ("64", "64K", "64mb", "0KB", "-1B", "1.5MB", "MB", "1KB\n", "\u0661KB")),
        *((parse_duration, text) for text in ("5", "0s", "-5s", "5sec", "5S", "1h30m", "", "5s ", "1_0s")),
        *((parse_rate, text) for text in ("50", "50/", "0/s", "/s", "50/d", "50s")),
        *((parse_number, text) for text in ("0", "-1", "1e", "nan", "inf", "1e-3", "1,000", "0x10", "1e400")),
        *((parse_integer, text) for text in ("-1", "1.0", "1e3", "", " 1", "1_000", "9" * 19)),
    ],
)
def test_nothing_is_guessed(parse: Callable[[str], object], text: str):
    with pytest.raises(ValueError):
        parse(text)
