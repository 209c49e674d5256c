"""Power cuts, simulated: of what was written and not yet synced, any page may be lost, and any part of the file's growth."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from pgfaucet.audit.keys import load_public_key
from pgfaucet.audit.sink import AuditLog
from pgfaucet.audit.verify import in_order, verify_log
from pgfaucet.config import AuditConfig
from pgfaucet.errors import AuditUnavailable
from tests.kit.audit import FIELDS, PLAN, Rig, append, in_loop, outcome, until

PAGE = 4096


class Disk:
    """Watches writes and syncs in a directory, and keeps what a power cut at a random one of them could leave."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, cut_at: int, rng: random.Random) -> None:
        self.directory = directory
        self.told: list[int] = []  # records that somebody was told to be durable
        self.left: dict[str, bytes] | None = None
        self.told_then: list[int] = []
        self._rng = rng
        self._cut_at = cut_at
        self._synced: dict[str, bytes] = {}
        self._lock = threading.Lock()
        for name in ("pwrite", "write"):
            monkeypatch.setattr(os, name, self._writing(getattr(os, name)))
        for name in ("fdatasync", "fsync"):
            monkeypatch.setattr(os, name, self._syncing(getattr(os, name)))

    def _writing(self, real: Any) -> Any:
        def write(descriptor: int, *arguments: Any) -> int:
            self._step()
            written: int = real(descriptor, *arguments)
            self._step()
            return written

        return write

    def _syncing(self, real: Any) -> Any:
        def sync(descriptor: int) -> None:
            self._step()
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            held = path.read_bytes() if path.is_file() else b""
            real(descriptor)
            with self._lock:
                self._synced[path.name] = held
            self._step()

        return sync

    def _step(self) -> None:
        with self._lock:
            self._cut_at -= 1
            if self._cut_at == 0:
                self.told_then = list(self.told)
                self.left = {path.name: self._survivor(path) for path in self.directory.iterdir() if path.is_file()}

    def _survivor(self, path: Path) -> bytes:
        now = path.read_bytes()
        safe = self._synced.get(path.name, b"" if ".jsonl" in path.name else now)
        size = self._rng.randint(min(len(safe), len(now)), len(now))
        left = bytearray(now[:size])
        for start in range(len(safe) // PAGE * PAGE, size, PAGE):
            if self._rng.random() < 0.5:
                lost = range(max(start, len(safe)), min(start + PAGE, size))
                left[lost.start : lost.stop] = bytes(len(lost))
        return bytes(left)


@pytest.mark.parametrize("has_helper", [True, False], ids=["helper", "thread"])
@pytest.mark.parametrize("seed", range(30))
@in_loop
async def test_what_somebody_was_told_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, *, has_helper: bool
):
    rng = random.Random(seed)
    directory = tmp_path / "before"
    directory.mkdir()
    rig = Rig(directory, monkeypatch, has_helper=has_helper)
    disk = Disk(directory, monkeypatch, rng.randint(6, 80), rng)
    log = rig.open(rng.choice(["batch", "strict"]))
    while disk.left is None:
        for _ in range(rng.randint(1, 12)):
            kept = log.append_intent(FIELDS, PLAN, b"x" * rng.randint(0, 9), ()) if rng.random() < 0.3 else append(log)
            log.call_when_durable(kept, lambda error, kept=kept: disk.told.append(kept) if error is None else None)
        await asyncio.sleep(rng.choice([0, 0.0005, 0.003]))
    log.close()
    whole = rig.path.read_bytes().splitlines()
    monkeypatch.undo()

    after = tmp_path / "after"
    after.mkdir()
    for name, content in disk.left.items():
        (after / name).write_bytes(content)
    shutil.copy(directory / "audit.key", after)
    rig.path = after / "audit.jsonl"
    again = AuditLog.open(AuditConfig(rig.path, after / "audit.key"), asyncio.get_running_loop())  # needs no hand
    again.close()
    assert rig.verify().broken is None
    there = rig.path.read_bytes().splitlines()
    survived = [line for line in there if line in set(whole)]
    assert survived == whole[: len(survived)]
    assert len(survived) >= max(disk.told_then, default=0)
    assert [orjson.loads(line)["event"] for line in there[len(survived) :]] == ["log_opened", "log_closed"]


@pytest.mark.parametrize("has_helper", [True, False], ids=["helper", "thread"])
@in_loop
async def test_a_log_that_comes_back_when_a_new_file_is_due_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_helper: bool
):
    rig = Rig(tmp_path, monkeypatch, has_helper=has_helper)
    log = rig.open(rotate_bytes=10_000_000)
    await until(lambda: log._attested == 1)
    moved = rig.path.rename(rig.path.with_name("moved"))
    assert isinstance(await outcome(log, append(log)), AuditUnavailable)
    log._rotate_bytes = 1
    await asyncio.sleep(0.05)
    moved.rename(rig.path)
    await until(lambda: log.is_healthy)
    assert log._writer_thread.is_alive()
    assert await outcome(log, append(log)) is None
    log.close()
    files = in_order(rig.path.parent.glob("audit.jsonl*"))
    assert len(files) > 1
    key = load_public_key(rig.path.with_name("audit.key.pub"))
    assert all(verify_log(file, key).broken is None for file in files)
