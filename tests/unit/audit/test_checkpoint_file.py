"""The file of checkpoints, as a journal uses it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.unit.audit.test_journal import all_hold, append, attest, opened, path, written

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["path"]  # a fixture


def test_a_checkpoint_with_a_hole_is_cut_off(path: Path):
    written(path, attested=True)
    checkpoints = path.with_name("audit.jsonl.checkpoints")
    whole = checkpoints.read_bytes()
    checkpoints.write_bytes(whole + b"\0" * 50 + whole[50:])
    journal = opened(path)
    assert checkpoints.read_bytes() == whole
    journal.close()


def test_a_torn_checkpoint_is_cut_off(path: Path):
    written(path, attested=True)
    checkpoints = path.with_name("audit.jsonl.checkpoints")
    whole = checkpoints.read_bytes()
    checkpoints.write_bytes(whole + whole[:100])
    journal = opened(path)
    assert checkpoints.read_bytes() == whole
    append(journal)
    attest(journal)
    assert len(checkpoints.read_bytes().splitlines()) == 2


def test_half_a_checkpoint_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = opened(path)
    append(journal)
    attest(journal)
    append(journal)
    checkpoints = path.with_name("audit.jsonl.checkpoints")
    whole, write = checkpoints.read_bytes(), os.write
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:9]))
        with pytest.raises(OSError, match="no room"):
            attest(journal)
    assert checkpoints.read_bytes() == whole


def test_checkpoints_that_somebody_changed_are_not_added_to(path: Path):
    journal = opened(path)
    append(journal)
    attest(journal)
    checkpoints = path.with_name("audit.jsonl.checkpoints")
    held = checkpoints.read_bytes()
    for changed in (held[:-1], held + b"x\n", b""):
        checkpoints.write_bytes(changed)
        append(journal)
        with pytest.raises(OSError, match="was changed by somebody else"):
            attest(journal)
        assert checkpoints.read_bytes() == changed
    checkpoints.write_bytes(held)
    attest(journal)
    journal.close()
    assert all_hold(path) == [4]
