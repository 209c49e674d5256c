"""Slows down who guesses: an address that failed to log in too often is sent away before it may try again. Pure: time is an argument.

A bucket for each address that holds `failures` failures and runs empty in `period` seconds. IPv6 addresses count by /64, which is what one customer
has. The number of buckets is bounded: who failed least recently is forgotten first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from pgfaucet.auth.principal import LOCAL, is_in

if TYPE_CHECKING:
    from pgfaucet.config import ThrottleConfig

MAX_ADDRESSES: Final = 10_000


class Throttle:
    """The failed logins of one process, by address."""

    def __init__(self, config: ThrottleConfig) -> None:
        self._most = config.failures
        self._rate = config.failures / config.period  # failures forgotten in a second
        self._spared = config.spared
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level and when it was so, the latest last

    def seconds_left(self, address: str, now: float) -> float:
        """Return how long an address has to wait; 0.0 if it may try. `now` is monotonic."""
        over = self._level(_group(address), now) - (self._most - 1)
        return max(0.0, over / self._rate) if over > 0 else 0.0

    def failed(self, address: str, now: float) -> None:
        """Count a failure."""
        if is_in(address, self._spared):
            return
        group = _group(address)
        level = self._level(group, now)
        self._levels[group] = (min(level + 1.0, float(self._most)), now)
        self._levels.move_to_end(group)
        if len(self._levels) > MAX_ADDRESSES:
            self._levels.popitem(last=False)

    def _level(self, group: str, now: float) -> float:
        level, at = self._levels.get(group, (0.0, now))
        return max(0.0, level - (now - at) * self._rate)


def _group(address: str) -> str:
    if address == LOCAL:
        return LOCAL
    ip = ipaddress.ip_address(address.partition("%")[0])
    plain = getattr(ip, "ipv4_mapped", None) or ip
    return str(plain if plain.version == 4 else ipaddress.ip_network((plain, 64), strict=False))
