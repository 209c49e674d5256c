"""Bytes to the client, in order, held back until the audit records they depend on are on disk.

The rule of `durability: batch` and `strict` (CONTRACT section 3): a client never sees a statement's completion whose record could
still be lost. Bytes that follow held bytes wait behind them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from pgfaucet.audit.sink import AuditLog
    from pgfaucet.errors import FaucetError

HELD_BYTES_HIGH: Final = 1 << 20


class ClientOutput:
    """The one way to a client's socket."""

    def __init__(self, transport: asyncio.Transport, log: AuditLog, on_lost: Callable[[FaucetError], None]) -> None:
        """`on_lost` is called when records that bytes wait for can't be made durable: those bytes are never sent."""
        self.transport = transport
        self.held_bytes = 0
        self.bytes_sent = 0
        self._log = log
        self._on_lost = on_lost
        self._held: deque[tuple[int, bytes]] = deque()
        self._closes_when_durable = False

    @property
    def is_holding(self) -> bool:
        """Whether bytes wait for the audit log."""
        return bool(self._held)

    def write(self, data: bytes, sequence: int = 0) -> None:
        """Send bytes once the audit record `sequence` is durable; 0 = they depend on none."""
        if not self._held and (sequence == 0 or self._log.is_durable(sequence)):
            self._send(data)
            return
        if sequence == 0:
            sequence = self._held[-1][0]
        else:
            self._log.call_when_durable(sequence, self._durable)
        self._held.append((sequence, data))
        self.held_bytes += len(data)

    def close(self) -> None:
        """Close behind what was written; bytes that still wait for the log go first."""
        if self._held:
            self._closes_when_durable = True
        else:
            self.transport.close()

    def _send(self, data: bytes) -> None:
        if not self.transport.is_closing():  # a client that is gone misses nothing
            self.bytes_sent += len(data)
            self.transport.write(data)

    def _durable(self, error: FaucetError | None) -> None:
        if error is not None:
            self._held.clear()
            self.held_bytes = 0
            self._on_lost(error)
            self.transport.close()
            return
        ready: list[bytes] = []
        while self._held and self._log.is_durable(self._held[0][0]):
            data = self._held.popleft()[1]
            self.held_bytes -= len(data)
            ready.append(data)
        if ready:
            self._send(ready[0] if len(ready) == 1 else b"".join(ready))
        if self._closes_when_durable and not self._held:
            self.transport.close()
