"""The process behind `disk.DiskHelper`: writes what it is told to, waits until it is on disk, and says so. Needs the standard library alone.

A request is 8 bytes offset and 4 bytes length, then the data; the answer is 4 bytes, an errno or 0. A length of 0 comes with a file descriptor:
that file is written from then on, or none if there is no descriptor, and there is no answer. At the end of the stream the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
import sys

HEADER = struct.Struct("!QI")
ANSWER = struct.Struct("!i")


def serve(channel: socket.socket) -> None:
    """Serve until the other side is gone."""
    file = -1
    while True:
        header, descriptors = _header(channel)
        if len(header) < HEADER.size:
            return
        offset, length = HEADER.unpack(header)
        if length == 0:
            if file >= 0:
                os.close(file)
            file = descriptors[0] if descriptors else -1
            continue
        data = bytearray(length)
        if not _fill(channel, memoryview(data)):
            return
        channel.sendall(ANSWER.pack(_write(file, memoryview(data), offset)))


def _header(channel: socket.socket) -> tuple[bytes, list[int]]:
    header, descriptors = b"", []
    while len(header) < HEADER.size:
        part, received, _, _ = socket.recv_fds(channel, HEADER.size - len(header), 1)
        descriptors += received
        if not part:
            break
        header += part
    return header, descriptors


def _fill(channel: socket.socket, room: memoryview) -> bool:
    while room:
        received = channel.recv_into(room)
        if not received:
            return False
        room = room[received:]
    return True


def _write(file: int, data: memoryview, offset: int) -> int:
    try:
        while data:
            written = os.pwrite(file, data, offset)
            data = data[written:]
            offset += written
        os.fdatasync(file)
    except OSError as problem:
        return problem.errno or errno.EIO
    return 0


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # it ends when its proxy does, and not before
    with contextlib.suppress(ConnectionError), socket.socket(fileno=int(sys.argv[1])) as connected:
        serve(connected)
