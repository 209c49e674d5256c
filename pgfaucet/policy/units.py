"""Numbers with units, as policy files write them: 64KB, 5s, 50/s, 1e6."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"(\d{1,15})\s*(B|kB|KB|MB|GB|TB)", re.ASCII)
_BYTES: Final = {
    "B": 1,
    "kB": 1 << 10,
    "KB": 1 << 10,
    "MB": 1 << 20,
    "GB": 1 << 30,
    "TB": 1 << 40,
}  # as in postgresql.conf

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|min|m|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}

_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*/\s*(s|min|m|h)", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,15})?(?:[eE]\+?\d{1,2})?", re.ASCII)
_INTEGER: Final = re.compile(r"\d{1,18}", re.ASCII)


def parse_size(text: str) -> int:
    """Return bytes. Raises ValueError."""
    found = _SIZE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise ValueError(text)
    return int(found[1]) * _BYTES[found[2]]


def parse_duration(text: str) -> float:
    """Return seconds, more than none. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise ValueError(text)
    return float(found[1]) * _SECONDS[found[2]]


def parse_rate(text: str) -> float:
    """Return how many a second. Raises ValueError."""
    found = _RATE.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise ValueError(text)
    return float(found[1]) / _SECONDS[found[2]]


def parse_number(text: str) -> float:
    """Return a positive number. Raises ValueError."""
    if _NUMBER.fullmatch(text) is None or float(text) == 0:
        raise ValueError(text)
    return float(text)


def parse_integer(text: str) -> int:
    """Return a whole number, 0 or more. Raises ValueError."""
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)
