"""Writes to disk without holding up the event loop: the waiting is done by a process of its own.

Not by a thread: one that waits for the disk wakes up thousands of times a second, and each time fights the event loop for the interpreter.
Measured on two cores, that cost every statement 40 us of the loop's CPU; the process costs 5.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgfaucet.audit import disk_process
from pgfaucet.audit.disk_process import ANSWER, HEADER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

CLOSE_SECONDS: Final = 10.0
BUFFER_BYTES: Final = 4 << 20


class DiskHelper:
    """One write at a time. `use` and `close` may be called from any thread while no write is under way, all else from the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[OSError | None], None]) -> None:
        """Start the process; raises OSError. `done` is called in the loop when a write is on disk, or with why it is not."""
        self._loop = loop
        self._done = done
        self._rest = memoryview(b"")
        self._answer = b""
        self._is_reading = False
        ours, theirs = socket.socketpair()
        with theirs:
            program = str(Path(disk_process.__file__))
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", program, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                )
            except OSError:
                ours.close()
                raise
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        ours.setblocking(False)
        self._channel = ours

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def use(self, descriptor: int | None) -> None:
        """Write to this file from now on, or to none. Raises OSError if the process is gone."""
        socket.send_fds(self._channel, [HEADER.pack(0, 0)], [] if descriptor is None else [descriptor])

    def write(self, offset: int, data: bytes) -> None:
        """Write `data`, which is not empty, at an offset; `done` tells the end, never before this returns."""
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._channel, self._read)
        self._rest = memoryview(HEADER.pack(offset, len(data)) + data)
        self._send()
        if self._rest:
            self._loop.add_writer(self._channel, self._send_more)

    def _send(self) -> None:
        try:
            self._rest = self._rest[self._channel.send(self._rest) :]
        except BlockingIOError:
            pass
        except OSError:  # the reader is told that the process is gone
            self._rest = memoryview(b"")

    def _send_more(self) -> None:
        self._send()
        if not self._rest:
            self._loop.remove_writer(self._channel)

    def _read(self) -> None:
        try:
            part = self._channel.recv(ANSWER.size - len(self._answer))
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._stop_reading()
            self._done(ConnectionError("the process that writes it has ended"))
            return
        self._answer += part
        if len(self._answer) == ANSWER.size:
            (number,) = ANSWER.unpack(self._answer)
            self._answer = b""
            self._done(OSError(number, os.strerror(number)) if number else None)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._channel)
            self._loop.remove_writer(self._channel)

    def close(self) -> bool:
        """End the process once it has done what it was told; False if it hangs. After this `done` is not called any more."""
        with suppress(OSError):  # it is gone already
            self._channel.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._let_go)
        return True

    def _let_go(self) -> None:
        self._stop_reading()
        self._channel.close()
