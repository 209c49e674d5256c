from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgfaucet.audit import group_commit, sink
from pgfaucet.audit.keys import load_public_key
from pgfaucet.audit.sink import AuditLog
from pgfaucet.audit.verify import Verdict, in_order, verify_log, why_not_next
from pgfaucet.config import AuditConfig
from pgfaucet.errors import AuditUnavailable
from pgfaucet.plan import StatementPlan
from tests.kit.audit import FIELDS, PLAN, Rig, append, in_loop, outcome, until

if TYPE_CHECKING:
    from pgfaucet.errors import FaucetError


@pytest.fixture(params=["helper", "thread"])
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Rig:
    return Rig(tmp_path, monkeypatch, has_helper=request.param == "helper")


# -- a log from its beginning to its end -------------------------------------------------------------------------------------------


@in_loop
async def test_a_log_is_opened_written_and_closed(rig: Rig):
    log = rig.open()
    numbers = [append(log) for _ in range(3)]
    assert numbers == [2, 3, 4]
    assert await outcome(log, 4) is None
    assert (log.durable_sequence, log.lag, log.appended) == (4, 0, 4)
    log.close()
    records = rig.records()
    assert [record["event"] for record in records] == ["log_opened", *["statement"] * 3, "log_closed"]
    assert [record["seq"] for record in records] == [1, 2, 3, 4, 5]
    verdict = rig.verify()
    assert (verdict.records, verdict.attested, verdict.broken) == (5, 5, None)  # the checkpoint of its end is there


@in_loop
async def test_the_first_records_are_attested_at_once(rig: Rig):
    log = rig.open()
    await until(lambda: rig.checkpoints.exists() and rig.checkpoints.read_bytes().endswith(b"\n"))
    log.close()


@pytest.mark.interpreted
@pytest.mark.parametrize(("records", "seconds"), [(10, 60.0), (100_000, 0.0)])
@in_loop
async def test_checkpoints_come_after_some_records_or_some_time(rig: Rig, records: int, seconds: float):
    rig.monkeypatch.setattr(group_commit, "CHECKPOINT_RECORDS", records)
    rig.monkeypatch.setattr(group_commit, "CHECKPOINT_SECONDS", seconds)
    log = rig.open()
    for _ in range(5):
        for _ in range(10):
            last = append(log)
        assert await outcome(log, last) is None
    log.close()
    assert rig.verify().checkpoints >= 4  # as many as there were groups, or all but one


@in_loop
async def test_the_chain_goes_on_after_the_log_is_opened_again(rig: Rig):
    for _ in range(3):
        log = rig.open()
        append(log)
        log.close()
    assert rig.verify().records == 9
    assert rig.verify().broken is None
    assert [r["reason"] for r in rig.records()][::3] == ["a new chain", "continues record 3", "continues record 6"]


@in_loop
async def test_what_is_appended_holds_what_was_given(rig: Rig):
    log = rig.open("strict")
    log.append_event(FIELDS, "session_refused", "deny", "token is unknown", "28P01")
    log.append_statement(FIELDS, PLAN, b"", None, 0, 0.0, "42501", "no grant", ())
    log.append_statement(FIELDS, PLAN, b"", None, 0, 0.0, None, "would deny", (), decision="allow")
    log.append_intent(FIELDS, PLAN, b"", (("prompt_id", "7"),))
    log.close()
    shown = [(r["event"], r["decision"], r["reason"], r["sqlstate"], r["context"]) for r in rig.records()[1:-1]]
    assert shown == [
        ("session_refused", "deny", "token is unknown", "28P01", {}),
        ("statement", "deny", "no grant", "42501", {}),
        ("statement", "allow", "would deny", None, {}),
        ("intent", "allow", None, None, {"prompt_id": "7"}),
    ]


# -- durability --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["batch", "strict"])
@in_loop
async def test_nobody_is_told_before_the_record_is_on_disk(rig: Rig, durability: str):
    log = rig.open(durability)
    await until(lambda: log._attested == 1)
    rig.may_sync.clear()
    intent = log.append_intent(FIELDS, PLAN, b"", ())
    told: list[FaucetError | None] = []
    log.call_when_durable(intent, told.append)
    await asyncio.sleep(0.05)
    assert told == []
    assert not log.is_durable(intent)
    rig.may_sync.set()
    await until(lambda: told == [None])
    assert log.is_durable(intent)
    log.close()


@in_loop
async def test_async_waits_for_the_system_only(rig: Rig):
    log = rig.open("async")
    await until(lambda: log._attested == 1)
    rig.disk.clear()
    assert await outcome(log, append(log)) is None
    assert rig.disk == ["write"]
    log.close()
    assert rig.verify().broken is None


@in_loop
async def test_many_records_share_a_sync_and_their_waiters_are_told_in_order(rig: Rig):
    log = rig.open()
    await until(lambda: log._attested == 1)
    rig.may_sync.clear()
    rig.syncing.clear()
    told: list[int] = []
    first = append(log)
    log.call_when_durable(first, lambda _: told.append(first))
    await until(rig.syncing.is_set)
    rig.disk.clear()
    numbers = [append(log) for _ in range(500)]
    for number in numbers:
        log.call_when_durable(number, lambda _, number=number: told.append(number))  # type: ignore[misc] # a default binds
    rig.may_sync.set()
    await until(lambda: len(told) == 501)
    assert told == [first, *numbers]
    assert rig.disk.count("sync") <= 3  # the first record's, one for all others, and a checkpoint's
    log.close()
    assert rig.verify().broken is None


@in_loop
async def test_a_waiter_for_a_record_that_is_on_disk_is_called_back_later_not_at_once(rig: Rig):
    log = rig.open()
    number = append(log)
    assert await outcome(log, number) is None
    told: list[FaucetError | None] = []
    log.call_when_durable(number, told.append)
    assert told == []
    await until(lambda: told == [None])
    log.close()


@in_loop
async def test_a_waiter_that_fails_does_not_keep_others_waiting(rig: Rig, caplog: pytest.LogCaptureFixture):
    def fail(_: FaucetError | None) -> None:
        raise RuntimeError("no")

    log = rig.open()
    rig.may_sync.clear()
    number = append(log)
    log.call_when_durable(number, fail)
    waiting = asyncio.get_running_loop().create_task(outcome(log, number))
    await asyncio.sleep(0.02)
    rig.may_sync.set()
    assert await waiting is None
    log.close()
    assert "a session that waited for its audit record failed" in caplog.text


@in_loop
async def test_sleeping_writers_miss_no_record(rig: Rig):
    """The race between a writer that falls asleep and a loop that appends; CHECKPOINT_SECONDS would pass if it were lost."""
    log = rig.open("batch")
    rig.monkeypatch.setattr(os, "fdatasync", lambda _: None)
    for number in range(1500):
        assert await outcome(log, append(log)) is None
        if number % 3:
            await asyncio.sleep(0)
    log.close()
    assert rig.verify().broken is None


# -- errors ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["async", "batch", "strict"])
@in_loop
async def test_a_full_disk_tells_the_waiters_stops_statements_and_leaves_no_gap(rig: Rig, durability: str):
    log = rig.open(durability)
    assert await outcome(log, append(log)) is None
    rig.full.set()
    lost = append(log)
    assert isinstance(await outcome(log, lost), AuditUnavailable)
    assert not log.is_healthy
    assert isinstance(await outcome(log, append(log)), AuditUnavailable)  # who comes later is told at once
    assert log.lag == 2
    rig.full.clear()
    await until(lambda: log.is_healthy)
    assert await outcome(log, append(log)) is None
    log.close()
    assert rig.verify().broken is None
    assert [record["seq"] for record in rig.records()] == [1, 2, 3, 4, 5, 6]


@in_loop
async def test_a_failed_sync_is_a_failed_write_and_written_again(rig: Rig):
    log = rig.open()
    await until(lambda: log._attested == 1)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with rig.monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        assert isinstance(await outcome(log, append(log)), AuditUnavailable)
        assert not log.is_healthy
        rig.disk.clear()
    await until(lambda: log.is_healthy)
    assert rig.disk[:2] == ["write", "sync"]  # the kernel may have dropped what it could not write
    log.close()
    assert rig.verify().broken is None


@in_loop
async def test_an_outage_is_reported_once_and_so_is_its_end(rig: Rig, caplog: pytest.LogCaptureFixture):
    log = rig.open()
    rig.full.set()
    append(log)
    await asyncio.sleep(0.1)
    rig.full.clear()
    await until(lambda: log.is_healthy and log.lag == 0)
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no statement runs: the audit log cannot be written: [Errno 28] No space left on device",
        "the audit log can be written again",
    ]


@in_loop
async def test_what_a_writer_does_not_expect_stops_statements_for_good(rig: Rig, caplog: pytest.LogCaptureFixture):
    def broken(descriptor: int, data: bytes, offset: int) -> int:
        raise RuntimeError("a bug")

    log = rig.open()
    await until(lambda: log._attested == 1)
    with rig.monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", broken)
        assert isinstance(await outcome(log, append(log)), AuditUnavailable)
        await until(lambda: not log._writer_thread.is_alive())
    assert not log.is_healthy
    assert isinstance(await outcome(log, append(log)), AuditUnavailable)
    log.close()
    assert "the audit log's writer has failed" in caplog.text


@pytest.mark.interpreted
@in_loop
async def test_while_no_checkpoint_can_be_written_no_statement_starts(rig: Rig, caplog: pytest.LogCaptureFixture):
    rig.monkeypatch.setattr(group_commit, "CHECKPOINT_RECORDS", 1)
    log = rig.open()
    await until(lambda: log._attested == 1)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    write = os.write
    with rig.monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda to, data: full(to, data) if b"signature" in data else write(to, data))
        assert await outcome(log, append(log)) is None  # the record itself is on disk
        await until(lambda: not log.is_healthy)
        size = rig.checkpoints.stat().st_size
    await until(lambda: log.is_healthy)  # tried again without another record
    assert rig.checkpoints.stat().st_size > size
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no statement runs: the audit log's checkpoints cannot be written: [Errno 28] No space left on device",
        "the audit log's checkpoints can be written again",
    ]
    assert rig.verify().broken is None


@in_loop
async def test_closing_does_not_wait_for_a_disk_that_stays_full(rig: Rig, caplog: pytest.LogCaptureFixture):
    log = rig.open()
    await until(lambda: log._attested == 1)
    rig.full.set()
    assert isinstance(await outcome(log, append(log)), AuditUnavailable)
    started = time.monotonic()
    log.close()
    assert time.monotonic() - started < 5
    assert "2 audit records could not be written" in caplog.text
    rig.full.clear()
    assert len(rig.path.read_bytes().splitlines()[-1]) == 20

    rig.open().close()
    assert rig.verify().broken is None


@pytest.mark.interpreted
@in_loop
async def test_closing_leaves_the_file_to_a_writer_that_hangs(rig: Rig, caplog: pytest.LogCaptureFixture):
    rig.monkeypatch.setattr(group_commit, "CLOSE_SECONDS", 0.05)
    log = rig.open()
    await until(lambda: log._attested == 1)
    rig.may_sync.clear()
    append(log)
    log.close()
    assert log._journal._file >= 0  # a number that was closed might be another file's by the time it is used
    rig.may_sync.set()
    if not log._lending.is_lent:
        log._writer_thread.join(5)
    log._journal.close()
    assert "could not be written" in caplog.text


@in_loop
async def test_a_log_that_was_moved_away_is_not_written_until_it_is_back(rig: Rig):
    log = rig.open()
    await until(lambda: log._attested == 1)
    moved = rig.path.rename(rig.path.with_name("moved.jsonl"))
    assert isinstance(await outcome(log, append(log)), AuditUnavailable)
    assert not rig.path.exists()
    moved.rename(rig.path)
    await until(lambda: log.is_healthy)
    log.close()
    assert rig.verify().broken is None


@in_loop
async def test_more_than_fits_in_memory_is_not_taken(rig: Rig):
    rig.monkeypatch.setattr(sink, "CONGESTED_BYTES", 2000)
    rig.monkeypatch.setattr(sink, "FULL_BYTES", 4000)
    log = rig.open()
    await until(lambda: log._attested == 1)
    assert log.is_healthy
    assert not log.is_congested
    rig.may_sync.clear()
    while not log.is_congested:
        append(log)
    assert log.is_healthy
    while log.is_healthy:
        append(log)
    rig.may_sync.set()
    await until(lambda: log.is_healthy and not log.is_congested)
    log.close()
    assert rig.verify().broken is None


@pytest.mark.interpreted
@in_loop
async def test_a_record_longer_than_a_line_may_be_is_cut_and_says_so(rig: Rig):
    rig.monkeypatch.setattr(sink, "MAX_LINE_BYTES", 20_000)
    huge = StatementPlan("SELECT", ("public.orders",), "é" * 30_000, "f", ("x" * 30_000,), (), (), "SELECT 1")
    log = rig.open(params="full")
    append(log)
    log.append_statement(FIELDS, huge, b"", 1, 10, 0.001, None, None, ())
    append(log)
    log.close()
    assert rig.verify().broken is None
    _, before, cut, after, _ = rig.records()
    assert cut.pop("is_cut") is True
    assert list(cut) == [name for name in before if name != "params"] == [name for name in after if name != "params"]
    assert cut["query"] == "é" * sink.CUT_TEXT
    assert str(cut["params_hash"]).startswith("hmac-sha256:")


# -- crashes -----------------------------------------------------------------------------------------------------------------------


@in_loop
async def test_a_torn_last_line_is_set_aside_and_told_of(rig: Rig, caplog: pytest.LogCaptureFixture):
    for torn in (b'{"ts":"2026-05-05T14', b""):
        log = rig.open()
        append(log)
        log.close()
        with rig.path.open("ab") as file:
            file.write(torn)
    assert rig.records()[3]["reason"] == "continues record 3; a torn end of 20 bytes was moved to audit.jsonl.torn"
    assert rig.path.with_name("audit.jsonl.torn").read_bytes() == b'{"ts":"2026-05-05T14'
    assert "its 20 bytes were set aside" in caplog.text
    assert rig.verify().broken is None


CRASHER = """
import asyncio, sys
from pathlib import Path
from pgfaucet.audit.sink import AuditLog
from pgfaucet.config import AuditConfig
path = Path(sys.argv[1])

async def main():
    log = AuditLog.open(AuditConfig(path, path.with_name("audit.key"), "batch"), asyncio.get_running_loop())
    while True:
        for _ in range(20):
            number = log.append_event(None, "statement", "allow", "x" * 300, None)
        told = asyncio.get_running_loop().create_future()
        log.call_when_durable(number, told.set_result)
        await told
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("round_trips", [1, 20])
@in_loop
async def test_what_was_told_to_be_durable_outlives_a_kill(rig: Rig, round_trips: int):
    command = [sys.executable, "-c", CRASHER, rig.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220 - nothing else runs
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(round_trips)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    rig.open().close()
    assert rig.verify().broken is None
    assert len(rig.records()) >= told[-1] + 2


# -- rotation ----------------------------------------------------------------------------------------------------------------------


def all_files(rig: Rig) -> list[Verdict]:
    """Verify every file of the log, and that each goes on where the one before it ends."""
    verdicts: list[Verdict] = []
    for file in in_order(rig.path.parent.glob("audit.jsonl*")):
        verdicts.append(verify_log(file, load_public_key(rig.path.with_name("audit.key.pub"))))
        assert verdicts[-1].broken is None, (file, verdicts[-1])
        assert why_not_next(verdicts[-2] if len(verdicts) > 1 else None, verdicts[-1]) is None
    return verdicts


@in_loop
async def test_a_new_file_is_begun_before_one_grows_too_large(rig: Rig):
    for _ in range(2):
        log = rig.open(rotate_bytes=4_000)
        for _ in range(20):
            assert await outcome(log, append(log)) is None
        log.close()
    verdicts = all_files(rig)
    assert len(verdicts) > 5
    assert sum(verdict.records for verdict in verdicts) == 44
    assert max(path.stat().st_size for path in rig.path.parent.glob("audit.jsonl*")) <= 4_000


@in_loop
async def test_a_new_file_is_begun_when_one_is_old_though_the_proxy_was_restarted(rig: Rig):
    log = rig.open()
    log.close()
    config = AuditConfig(rig.path, rig.path.with_name("audit.key"), rotate_seconds=86_400.0)
    log = AuditLog.open(config, asyncio.get_running_loop(), clock=lambda: time.time() + 86_401)
    assert await outcome(log, append(log)) is None
    log.close()
    assert [verdict.records for verdict in all_files(rig)] == [2, 3]


@in_loop
async def test_while_no_new_file_can_be_begun_no_statement_starts(rig: Rig, caplog: pytest.LogCaptureFixture):
    log = rig.open(rotate_bytes=4_000)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with rig.monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        for _ in range(20):
            told = await outcome(log, append(log))
            if told is not None:
                break
        assert isinstance(told, AuditUnavailable)
        assert not log.is_healthy
    await until(lambda: log.is_healthy)
    log.close()
    assert len(all_files(rig)) == 2
    assert "the audit log can be written again" in caplog.text
