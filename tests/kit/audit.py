"""A log on a disk that can be filled, slowed and watched."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from typing import TYPE_CHECKING

import orjson

from pgfaucet.audit import group_commit
from pgfaucet.audit.keys import load_public_key
from pgfaucet.audit.record import SessionFields
from pgfaucet.audit.sink import AuditLog
from pgfaucet.audit.verify import Verdict, verify_log
from pgfaucet.config import AuditConfig
from pgfaucet.plan import StatementPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    import pytest

    from pgfaucet.errors import FaucetError

FIELDS = SessionFields("s1", "shop", "agent", "psql", "10.0.4.18")
PLAN = StatementPlan("SELECT", ("public.orders",), "SELECT $1", "f", ("1",), (), (), "SELECT 1")


class Helper:
    """Does what `disk.DiskHelper` does, in a thread, through the rig."""

    def __init__(self, rig: Rig, loop: asyncio.AbstractEventLoop, done: Callable[[OSError | None], None]) -> None:
        self._rig = rig
        self._loop = loop
        self._done = done
        self._file = -1
        self._threads: list[threading.Thread] = []

    def use(self, descriptor: int | None) -> None:
        self._file = -1 if descriptor is None else descriptor

    def write(self, offset: int, data: bytes) -> None:
        self.close()
        thread = threading.Thread(target=self._write, args=(offset, data))
        self._threads = [thread]
        thread.start()

    def _write(self, offset: int, data: bytes) -> None:
        problem: OSError | None = None
        try:
            os.pwrite(self._file, data, offset)
            os.fdatasync(self._file)
        except OSError as caught:
            problem = caught
        except RuntimeError:
            problem = ConnectionError("the process that writes it has ended")
        self._rig.groups += 1
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._done, problem)

    def close(self) -> bool:
        for thread in self._threads:
            thread.join(group_commit.CLOSE_SECONDS)
        return not any(thread.is_alive() for thread in self._threads)


class Rig:
    """A directory with a log that can be opened, broken, closed and verified."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, *, has_helper: bool) -> None:
        self.path = directory / "audit.jsonl"
        self.checkpoints = directory / "audit.jsonl.checkpoints"
        self.monkeypatch = monkeypatch
        self.disk: list[str] = []  # what was done to it, in order
        self.groups = 0  # that went through the helper
        self.full = threading.Event()
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.syncing = threading.Event()
        self._pwrite, self._fdatasync = os.pwrite, os.fdatasync
        monkeypatch.setattr(group_commit, "RETRY_SECONDS", 0.01)
        monkeypatch.setattr(group_commit, "DiskHelper", self.helper if has_helper else lambda *_: None)
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.full.is_set():
            self._pwrite(descriptor, data[:20], offset)  # some of it fits
            raise OSError(28, "No space left on device")
        self.disk.append("write")
        return self._pwrite(descriptor, data, offset)

    def fdatasync(self, descriptor: int) -> None:
        self.syncing.set()
        assert self.may_sync.wait(5)
        self.disk.append("sync")
        self._fdatasync(descriptor)

    def helper(self, loop: asyncio.AbstractEventLoop, done: Callable[[OSError | None], None]) -> Helper:
        return Helper(self, loop, done)

    def open(self, durability: str = "batch", params: str = "hash", rotate_bytes: int | None = None) -> AuditLog:
        config = AuditConfig(self.path, self.path.with_name("audit.key"), durability, params, rotate_bytes)
        return AuditLog.open(config, asyncio.get_running_loop())

    def verify(self) -> Verdict:
        return verify_log(self.path, load_public_key(self.path.with_name("audit.key.pub")))

    def records(self) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self.path.read_bytes().splitlines()]


def append(log: AuditLog, bound: bytes = b"") -> int:
    return log.append_statement(FIELDS, PLAN, bound, 1, 10, 0.001, None, None, ())


async def outcome(log: AuditLog, sequence: int) -> FaucetError | None:
    """Wait until a record is durable, or known not to be."""
    told: asyncio.Future[FaucetError | None] = asyncio.get_running_loop().create_future()
    log.call_when_durable(sequence, told.set_result)
    return await asyncio.wait_for(told, 5)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the writer is a thread
            await asyncio.sleep(0.002)


def in_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Make a test of a coroutine."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(test(**fixtures))

    return run
