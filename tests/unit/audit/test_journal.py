from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pgfaucet.audit import journal as journal_module
from pgfaucet.audit.chain import START, Link, seal
from pgfaucet.audit.journal import AuditUnusable, Journal
from pgfaucet.audit.verify import in_order, verify_log, why_not_next

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
TS = "2026-05-05T14:32:18.412Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.jsonl"


def opened(path: Path) -> Journal:
    return Journal(path, KEY, TS)


def append(journal: Journal, text: str = "x") -> bytes:
    line, digest = seal(journal.link.hash, TS, journal.link.sequence + 1, f'"event":"{text}"')
    journal.write(line)
    journal.advance(Link(journal.link.sequence + 1, digest), len(line))
    return line


def attest(journal: Journal) -> None:
    journal.attest(TS)


def written(path: Path, records: int = 3, *, attested: bool = False) -> list[bytes]:
    """Write a log and close it."""
    journal = opened(path)
    lines = [append(journal) for _ in range(records)]
    if attested:
        attest(journal)
    journal.close()
    return lines


def opened_after(journal: Journal, path: Path) -> Journal:
    journal.close()
    return opened(path)


def test_a_new_log_is_made_readable_for_its_group_at_most(path: Path):
    journal = opened(path)
    assert (journal.link, journal.offset) == (START, 0)
    append(journal)
    attest(journal)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & ~0o640 == 0


@pytest.mark.parametrize("attested", [True, False])
def test_a_log_goes_on_where_it_ended(path: Path, attested: bool):
    lines = written(path, 3, attested=attested)
    journal = opened(path)
    assert journal.link.sequence == 3
    assert journal.offset == len(b"".join(lines))
    lines.append(append(journal))
    assert path.read_bytes() == b"".join(lines)


def test_two_writers_of_one_file_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "LOCK_SECONDS", 0.05)
    journal = opened(path)
    with pytest.raises(AuditUnusable, match="another process writes this log"):
        opened(path)
    journal.close()
    opened(path).close()


OPENER = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pgfaucet.audit.journal import AuditUnusable, Journal
try:
    Journal(Path(sys.argv[1]), Ed25519PrivateKey.from_private_bytes(b"\\1" * 32), "2026-05-05T14:32:18.412Z")
except AuditUnusable as problem:
    print(problem)
"""


def test_two_processes_on_one_file_are_refused(path: Path):
    journal = opened(path)
    append(journal)

    def output() -> str:
        return subprocess.run(
            [sys.executable, "-c", OPENER, path], check=True, capture_output=True, text=True, timeout=60
        ).stdout

    assert "another process writes this log; give each proxy a file of its own" in output()
    journal.close()
    assert output() == ""


def test_a_directory_is_no_log(tmp_path: Path):
    with pytest.raises(AuditUnusable, match="no file"):
        opened(tmp_path)


# -- after a crash -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attested", [True, False])
@pytest.mark.parametrize("torn", [b"{", b'{"ts":"2026', b"\0" * 100, b"{\0\n", b"\0\n\0"])
def test_a_torn_end_is_set_aside_and_the_chain_goes_on(path: Path, torn: bytes, attested: bool):
    lines = written(path, attested=attested)
    with path.open("ab") as file:
        file.write(torn)
    journal = opened(path)
    assert journal.torn_bytes == len(torn)
    assert path.with_name("audit.jsonl.torn").read_bytes() == torn
    lines.append(append(journal))
    assert path.read_bytes() == b"".join(lines)


def test_a_record_torn_anywhere_is_set_aside(path: Path):
    lines = written(path, 2)
    whole = path.read_bytes()
    for size in range(len(lines[0]) + 1, len(whole)):
        path.write_bytes(whole[:size])
        journal = opened(path)
        journal.close()
        assert (journal.link.sequence, journal.torn_bytes) == (1, size - len(lines[0]))
        assert path.read_bytes() == lines[0]


# -- a chain that is broken --------------------------------------------------------------------------------------------------------


def test_a_log_that_was_edited_behind_its_last_checkpoint_is_not_continued(path: Path):
    lines = written(path)
    path.write_bytes(lines[0] + lines[1].replace(b"x", b"y", 1) + lines[2])
    with pytest.raises(AuditUnusable, match=r"record 2: changed: .*keep it as evidence"):
        opened(path)


def test_a_log_that_lost_its_attested_end_is_not_continued(path: Path):
    lines = written(path, attested=True)
    path.write_bytes(lines[0])
    with pytest.raises(AuditUnusable, match="cut off: record 3, that a signed checkpoint stands for"):
        opened(path)


def test_a_log_whose_attested_record_is_another_is_not_continued(path: Path):
    written(path, attested=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + b"0" * 37 + whole[-3:])
    with pytest.raises(AuditUnusable, match="record 3 is not the one"):
        opened(path)


def test_a_checkpoint_of_another_key_is_not_believed(path: Path):
    written(path, attested=True)
    with pytest.raises(AuditUnusable, match="signed with another key"):
        Journal(path, Ed25519PrivateKey.generate(), TS)


def test_a_log_that_is_refused_is_let_go(path: Path):
    lines = written(path, attested=True)
    whole = path.read_bytes()
    path.write_bytes(lines[0])
    with pytest.raises(AuditUnusable):
        opened(path)
    path.write_bytes(whole)
    opened(path).close()


# -- errors ------------------------------------------------------------------------------------------------------------------------


def test_a_write_that_failed_half_way_is_made_again_at_the_same_place(path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = opened(path)
    first = append(journal)
    line, _ = seal(journal.link.hash, TS, 2, '"event":"x"')
    pwrite = os.pwrite
    results = iter([10, OSError(28, "No space left on device")])

    def partial(descriptor: int, data: bytes, offset: int) -> int:
        result = next(results)
        if isinstance(result, OSError):
            raise result
        return pwrite(descriptor, data[:result], offset)

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", partial)
        with pytest.raises(OSError, match="No space"):
            journal.write(line)
    assert path.read_bytes() == first + line[:10]
    journal.reopen()
    journal.write(line)
    assert path.read_bytes() == first + line


@pytest.mark.parametrize("harm", ["moved", "replaced", "cut off"])
def test_a_file_that_is_not_the_one_any_more_is_not_written(path: Path, harm: str):
    journal = opened(path)
    append(journal)
    if harm == "cut off":
        os.truncate(path, 10)
    else:
        path.rename(path.with_name("moved.jsonl"))
    if harm == "replaced":
        path.touch()
    with pytest.raises(OSError, match=harm):
        append(journal)


def test_an_opened_anew_log_is_still_locked(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "LOCK_SECONDS", 0.05)
    journal = opened(path)
    journal.reopen()
    with pytest.raises(AuditUnusable, match="another process"):
        opened(path)


@pytest.mark.parametrize("records", [0, 1, 2, 5])
def test_another_log_in_its_place_is_not_opened_anew(path: Path, records: int):
    journal = opened(path)
    append(journal), append(journal)
    mine = path.rename(path.with_name("moved.jsonl"))
    other = opened(path)
    for _ in range(records):
        append(other, "y")
    other.close()
    there = path.read_bytes()
    for _ in range(2):
        with pytest.raises(AuditUnusable, match="record 2"):
            journal.reopen()
    assert path.read_bytes() == there
    opened(path).close()  # it is not kept locked
    mine.rename(path)
    journal.reopen()
    append(journal)
    assert opened_after(journal, path).link.sequence == 3


def test_a_device_in_its_place_is_not_opened_anew(path: Path):
    journal = opened(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="replaced by a device"):
        journal.reopen()


def test_a_copy_in_its_place_is_opened_anew(path: Path):
    journal = opened(path)
    append(journal)
    path.write_bytes(path.rename(path.with_name("moved.jsonl")).read_bytes())
    journal.reopen()
    append(journal)
    assert opened_after(journal, path).link.sequence == 2


def test_a_device_takes_records_and_has_no_checkpoints():
    journal = opened(Path(os.devnull))
    append(journal)
    assert journal.attest(TS) == b""
    assert journal.link.sequence == 1
    assert not Path(f"{os.devnull}.checkpoints").exists()


def test_another_file_in_its_place_is_not_written_on(path: Path):
    written(path, 3)
    journal = opened(path)
    changed = path.read_bytes().replace(b'"event":"x"', b'"event":"y"', 1)
    path.unlink()
    path.write_bytes(changed[:-70] + changed[-70:].replace(changed[-10:-4], b"abcdef"))
    with pytest.raises(AuditUnusable, match="record 3 is not the one that was written"):
        journal.reopen()
    path.write_bytes(changed[: len(changed) // 2])
    with pytest.raises(AuditUnusable, match="cut off: record 3, that was written, is not there"):
        journal.reopen()


# -- rotation ----------------------------------------------------------------------------------------------------------------------


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def all_hold(path: Path) -> list[int]:
    """Verify every file of a log, and that each goes on where the one before it ends; return how many records each has."""
    before, counts = None, []
    for file in in_order(path.parent.iterdir()):
        verdict = verify_log(file, KEY.public_key())
        assert verdict.broken is None, (file, verdict)
        assert why_not_next(before, verdict) is None
        before = verdict
        counts.append(verdict.records)
    return counts


def rotated(path: Path) -> Journal:
    """Write a log of three files."""
    journal = opened(path)
    for count in (3, 2):
        for _ in range(count):
            append(journal)
        journal.rotate(TS)
    append(journal)
    attest(journal)
    return journal


def test_a_full_file_is_named_for_its_first_record_and_the_chain_goes_on(path: Path):
    journal = rotated(path)
    assert names(path) == [
        "audit.jsonl",
        "audit.jsonl.000000000001",
        "audit.jsonl.000000000001.checkpoints",
        "audit.jsonl.000000000004",
        "audit.jsonl.000000000004.checkpoints",
        "audit.jsonl.checkpoints",
    ]
    assert all_hold(path) == [3, 2, 1]
    assert opened_after(journal, path).link.sequence == 6


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("records", [0, 1])
def test_a_crash_after_a_rotation_is_mended(path: Path, records: int, removed: bool):
    journal = opened(path)
    append(journal)
    journal.rotate(TS)
    for _ in range(records):
        append(journal)
    journal.close()
    if removed:  # the old file was put into an archive
        for suffix in ("", ".checkpoints"):
            path.with_name(f"audit.jsonl.000000000001{suffix}").unlink()
    journal = opened(path)
    append(journal)
    attest(journal)
    journal.close()
    assert all_hold(path) == [*([] if removed else [1]), records + 1]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_crash_in_the_middle_of_a_rotation_is_mended(path: Path, steps: int):
    written(path, 3, attested=True)
    checkpoints = path.with_name("audit.jsonl.checkpoints")
    path.rename(path.with_name("audit.jsonl.000000000001"))
    if steps > 1:
        checkpoints.rename(path.with_name("audit.jsonl.000000000001.checkpoints"))
    if steps > 2:
        checkpoints.write_bytes(b"{")
    journal = opened(path)
    assert (journal.link.sequence, journal.offset) == (3, 0)
    append(journal)
    attest(journal)
    journal.close()
    assert all_hold(path) == [3, 1]


@pytest.mark.parametrize("operation", ["rename", "write", "open"])
def test_a_rotation_that_failed_half_way_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch, operation: str):
    journal = opened(path)
    append(journal)
    attest(journal)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path if operation == "rename" else os, operation, fail)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                journal.rotate(TS)
    journal.rotate(TS)
    append(journal)
    attest(journal)
    journal.close()
    assert all_hold(path) == [1, 1]


def test_a_log_that_is_missing_though_it_has_checkpoints_is_not_begun_anew(path: Path):
    rotated(path).close()
    path.unlink()
    with pytest.raises(AuditUnusable, match="cut off: record 6"):
        opened(path)


@pytest.mark.parametrize("harm", ["checkpoints", "end"])
def test_a_rotated_file_that_was_harmed_is_not_continued(path: Path, harm: str):
    journal = opened(path)
    append(journal)
    journal.rotate(TS)
    journal.close()
    path.unlink()
    path.with_name("audit.jsonl.checkpoints").unlink()
    old = path.with_name("audit.jsonl.000000000001")
    if harm == "end":
        old.write_bytes(old.read_bytes()[:-1])
    else:
        old.with_name(old.name + ".checkpoints").write_bytes(b"x\n")
    with pytest.raises(AuditUnusable, match="does not end with a signed checkpoint"):
        opened(path)


def test_a_file_that_is_there_is_not_written_over(path: Path):
    journal = opened(path)
    append(journal)
    path.with_name("audit.jsonl.000000000001").write_text("mine")
    with pytest.raises(OSError, match=r"audit\.jsonl\.000000000001 exists"):
        journal.rotate(TS)
    assert path.with_name("audit.jsonl.000000000001").read_text() == "mine"
    append(journal)


def test_what_a_failed_write_has_left_does_not_go_into_a_rotated_file(path: Path):
    journal = opened(path)
    whole = append(journal)
    attest(journal)
    with path.open("ab") as file:
        file.write(b'{"ts":"2026')  # no record: nobody was told of it
    journal.rotate(TS)
    line = append(journal)
    (rotated,) = path.parent.glob("audit.jsonl.0*[0-9]")
    assert rotated.read_bytes() == whole
    assert path.read_bytes() == line
    opened_after(journal, path).close()


def test_pages_that_could_not_be_synced_are_written_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    """After an error of fdatasync the kernel takes the pages for written: the next one succeeds, whatever is on disk."""
    journal = opened(path)
    first = append(journal)
    journal.sync()
    lines = [append(journal), append(journal)]
    written: list[tuple[int, bytes]] = []
    pwrite, fdatasync = os.pwrite, os.fdatasync
    results = iter([OSError(5, "Input/output error"), None])

    def sync(descriptor: int) -> None:
        result = next(results)
        if result is not None:
            raise result
        fdatasync(descriptor)

    def write(descriptor: int, data: bytes, offset: int) -> int:
        written.append((offset, bytes(data)))
        return pwrite(descriptor, data, offset)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", sync)
        broken.setattr(os, "pwrite", write)
        with pytest.raises(OSError, match="Input/output"):
            journal.sync()
        journal.sync()
    assert written == [(len(first), b"".join(lines))]
    journal.close()
    with pytest.raises(OSError, match="not open"):
        journal.sync()
