"""The process that waits for the disk, on its own and behind a log."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pgfaucet.audit.disk import DiskHelper
from pgfaucet.audit.keys import load_public_key
from pgfaucet.audit.verify import in_order, verify_log
from tests.kit.audit import Rig, append, in_loop, outcome, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig(tmp_path, monkeypatch, has_helper=False)
    monkeypatch.undo()  # nothing of this process writes
    return made


class Told:
    """What a helper has told."""

    def __init__(self) -> None:
        self.seen: list[OSError | None] = []

    def __call__(self, problem: OSError | None) -> None:
        self.seen.append(problem)


@pytest.fixture
def file(tmp_path: Path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@in_loop
async def test_what_is_written_is_in_the_file_when_it_is_told(tmp_path: Path, file: int):
    told = Told()
    helper = DiskHelper(asyncio.get_running_loop(), told)
    helper.use(file)
    large = os.urandom(6 << 20)  # more than a socket takes at once
    for number, (offset, data) in enumerate([(0, b"one"), (3, b"two"), (6, large), (0, b"ONE")], 1):
        helper.write(offset, data)
        await until(lambda number=number: len(told.seen) == number)
        assert os.pread(file, len(data), offset) == data
    assert told.seen == [None] * 4
    assert (tmp_path / "file").read_bytes() == b"ONEtwo" + large
    pid = helper.pid
    assert helper.close()
    assert has_ended(pid)


@in_loop
async def test_another_file_may_take_the_place(tmp_path: Path, file: int):
    told = Told()
    helper = DiskHelper(asyncio.get_running_loop(), told)
    helper.use(file)
    helper.write(0, b"one")
    await until(lambda: told.seen == [None])
    with (tmp_path / "other").open("wb") as other:
        helper.use(other.fileno())
        helper.write(2, b"two")
        await until(lambda: told.seen == [None, None])
    assert (tmp_path / "file").read_bytes() == b"one"
    assert (tmp_path / "other").read_bytes() == b"\0\0two"
    helper.close()


@in_loop
async def test_an_error_of_the_disk_is_told_with_its_number(tmp_path: Path):
    told = Told()
    helper = DiskHelper(asyncio.get_running_loop(), told)
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as only_to_read:
        helper.use(only_to_read.fileno())
    helper.write(0, b"one")
    await until(lambda: len(told.seen) == 1)
    assert isinstance(told.seen[0], OSError)
    assert told.seen[0].errno == 9
    helper.close()


@in_loop
async def test_the_end_of_the_process_is_told(file: int):
    told = Told()
    helper = DiskHelper(asyncio.get_running_loop(), told)
    helper.use(file)
    helper.write(0, b"one")
    await until(lambda: told.seen == [None])
    os.kill(helper.pid, signal.SIGKILL)
    helper.write(3, b"two")
    await until(lambda: len(told.seen) == 2)
    assert isinstance(told.seen[1], ConnectionError)
    assert helper.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
@in_loop
async def test_signals_for_the_proxy_do_not_end_it(file: int, number: signal.Signals):
    told = Told()
    helper = DiskHelper(asyncio.get_running_loop(), told)
    helper.use(file)
    helper.write(0, b"one")
    await until(lambda: told.seen == [None])
    os.kill(helper.pid, number)
    helper.write(3, b"two")
    await until(lambda: told.seen == [None, None])
    helper.close()


@in_loop
async def test_a_log_goes_on_without_its_helper(rig: Rig, caplog: pytest.LogCaptureFixture):
    log = rig.open()
    await until(lambda: log._lending.is_lent)
    assert await outcome(log, append(log)) is None
    assert log._lending.disk is not None
    os.kill(log._lending.disk.pid, signal.SIGKILL)
    for _ in range(3):
        assert await outcome(log, append(log)) is None
    assert log.is_healthy
    assert not log._lending.is_lent
    log.close()
    verdict = rig.verify()
    assert (verdict.records, verdict.broken) == (6, None)
    assert "the process that writes it has ended; a thread goes on" in caplog.text


@in_loop
async def test_a_full_disk_stops_statements_until_there_is_room(rig: Rig):
    log = rig.open()
    await until(lambda: log._lending.is_lent)
    assert await outcome(log, append(log)) is None
    assert log._lending.disk is not None
    size = rig.path.stat().st_size + 10
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.prlimit(log._lending.disk.pid, resource.RLIMIT_FSIZE, (size, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        assert await outcome(log, append(log)) is not None
        assert not log.is_healthy
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        resource.prlimit(log._lending.disk.pid, resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    await until(lambda: log.is_healthy and log._lending.is_lent)
    assert await outcome(log, append(log)) is None
    log.close()
    verdict = rig.verify()
    assert (verdict.records, verdict.broken) == (5, None)


@in_loop
async def test_records_that_come_together_share_a_write(rig: Rig):
    log = rig.open()
    await until(lambda: log._lending.is_lent)
    log.running = 40  # so many statements are under way
    log._lending.target = 1000.0
    began = rig.path.stat().st_size
    last = [append(log) for _ in range(20)][-1]
    assert rig.path.stat().st_size == began
    assert not log.is_durable(last)
    assert await outcome(log, last) is None  # a moment later, although 20 are still to come
    assert log._lending.target == pytest.approx(20.0, abs=0.1)
    log.running = 0
    assert await outcome(log, append(log)) is None
    log.close()
    assert rig.verify().broken is None


@in_loop
async def test_new_files_are_begun_without_a_pause(rig: Rig):
    log = rig.open(rotate_bytes=20_000)
    await until(lambda: log._lending.is_lent)
    began = time.monotonic()
    for _ in range(200):
        assert await outcome(log, append(log)) is None
    assert time.monotonic() - began < 4.0
    await until(lambda: log._lending.is_lent)
    log.close()
    files = in_order(rig.path.parent.glob("audit.jsonl*"))
    assert len(files) > 5
    key = load_public_key(rig.path.with_name("audit.key.pub"))
    verdicts = [verify_log(file, key) for file in files]
    assert [verdict.broken for verdict in verdicts] == [None] * len(files)
    assert sum(verdict.records for verdict in verdicts) == 202
