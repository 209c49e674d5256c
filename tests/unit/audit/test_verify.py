from __future__ import annotations

import itertools
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pgfaucet.audit import verify
from pgfaucet.audit.chain import GENESIS, Link, seal
from pgfaucet.audit.checkpoint import Checkpoint, sign
from pgfaucet.audit.keys import KeyUnusable, load_keys
from pgfaucet.audit.record import timestamp
from pgfaucet.audit.verify import Verdict, public_key_beside, verify_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
NOW = 1_800_000_000.0
EVENTS = ("log_opened", *["statement"] * 6, "log_closed")
ATTESTED = (1, 4, 8)


@dataclass(frozen=True)
class Sample:
    """A log and its checkpoints, line by line, in a directory of their own."""

    path: Path
    lines: list[bytes]
    checkpoints: list[bytes]
    written: dict[Path, bytes] = field(default_factory=dict)  # thousands of verdicts differ in one of the two

    def verdict(self, lines: Sequence[bytes] | None = None, checkpoints: Sequence[bytes] | None = None) -> Verdict:
        """Verify the sample, or what is given in its place."""
        beside = self.path.with_name(self.path.name + ".checkpoints")
        for path, given, own in ((self.path, lines, self.lines), (beside, checkpoints, self.checkpoints)):
            content = b"".join(own if given is None else given)
            if self.written.get(path) != content:
                path.write_bytes(content)
                self.written[path] = content
        return verify_log(self.path, KEY.public_key())

    def why(self, lines: Sequence[bytes] | None = None, checkpoints: Sequence[bytes] | None = None) -> str:
        broken = self.verdict(lines, checkpoints).broken
        assert broken is not None
        return broken.why


def sealed(
    events: Sequence[str] = EVENTS,
    attested: Sequence[int] = ATTESTED,
    at: Callable[[int], float] = lambda number: NOW + number,
) -> tuple[list[bytes], list[bytes]]:
    """Write a log as the sink would: lines and checkpoints."""
    lines, checkpoints, previous, before = [], [], GENESIS, 0
    for number, event in enumerate(events, 1):
        line, previous = seal(previous, timestamp(at(number)), number, f'"event":"{event}","query":"q{number}"')
        lines.append(line)
        if number in attested:
            size = sum(map(len, lines))
            checkpoints.append(sign(Checkpoint(Link(number, previous), size, before), timestamp(NOW), KEY))
            before = number
    return lines, checkpoints


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sample:
    monkeypatch.setattr(verify, "WRITING_SECONDS", 0.0)
    return Sample(tmp_path / "audit.jsonl", *sealed())


def test_a_log_that_nobody_touched_holds(sample: Sample):
    assert sample.verdict() == Verdict(8, 3, 8, None)


def changed_bytes(lines: Sequence[bytes], values: int) -> Iterator[list[bytes]]:
    """Change each byte, line ends too, to some of the values it may have instead."""
    whole, rng = b"".join(lines), random.Random(1)
    for place in range(len(whole)):
        for flipped in rng.sample([1, 2, 4, 8, 0x20, 0x80, rng.randrange(1, 256)], values):
            value = whole[place] ^ flipped
            yield [whole[:place], bytes([value]), whole[place + 1 :]]


def test_every_changed_byte_of_the_log_is_found(sample: Sample):
    for lines in changed_bytes(sample.lines, 1):
        assert sample.verdict(lines).broken is not None, lines[1:]


def test_every_changed_byte_of_the_checkpoints_is_found(sample: Sample):
    for checkpoints in changed_bytes(sample.checkpoints, 2):
        assert sample.verdict(checkpoints=checkpoints).broken is not None, checkpoints[1:]


def test_every_byte_put_in_or_taken_out_is_found(sample: Sample):
    whole = b"".join(sample.lines)
    for place in range(0, len(whole), 7):
        assert sample.verdict([whole[:place], whole[place + 1 :]]).broken is not None, place
        for extra in (b" ", b"\n", b"0"):
            assert sample.verdict([whole[:place], extra, whole[place:]]).broken is not None, (place, extra)


def test_every_cut_of_the_log_is_found(sample: Sample):
    whole = b"".join(sample.lines)
    for size in range(len(whole)):
        assert sample.verdict([whole[:size]]).broken is not None, size


def test_every_cut_of_the_checkpoints_is_found(sample: Sample):
    whole = b"".join(sample.checkpoints)
    for size in range(len(whole)):
        assert sample.verdict(checkpoints=[whole[:size]]).broken is not None, size


def test_every_removed_repeated_or_swapped_record_is_found(sample: Sample):
    lines = sample.lines
    for one in range(len(lines)):
        assert sample.verdict(lines[:one] + lines[one + 1 :]).broken is not None, one
        for place in range(len(lines) + 1):
            assert sample.verdict([*lines[:place], lines[one], *lines[place:]]).broken is not None, (one, place)
    for one, other in itertools.combinations(range(len(lines)), 2):
        swapped = list(lines)
        swapped[one], swapped[other] = lines[other], lines[one]
        assert sample.verdict(swapped).broken is not None, (one, other)


def test_every_repeated_or_swapped_checkpoint_is_found(sample: Sample):
    held = sample.checkpoints
    for one in range(len(held)):
        for place in range(len(held) + 1):
            assert sample.verdict(checkpoints=[*held[:place], held[one], *held[place:]]).broken is not None
    for order in itertools.permutations(held):
        assert (sample.verdict(checkpoints=order).broken is None) == (list(order) == held)


def test_every_removed_checkpoint_is_found(sample: Sample):
    for one in range(len(sample.checkpoints)):
        fewer = sample.checkpoints[:one] + sample.checkpoints[one + 1 :]
        assert "missing" in sample.why(checkpoints=fewer)


def test_a_record_that_was_changed_with_all_hashes_after_it_is_found(sample: Sample):
    """Whoever edits the log can compute hashes, but no signatures."""
    for changed in range(1, 9):
        lines, _ = sealed(at=lambda number, changed=changed: NOW + number + (number == changed))  # type: ignore[misc] # a default binds
        assert "replaced" in sample.why(lines), changed


def test_a_record_that_was_put_in_with_all_hashes_after_it_is_found(sample: Sample):
    assert "replaced" in sample.why(sealed((*EVENTS[:5], "statement", *EVENTS[5:]))[0])


def test_a_log_signed_by_another_key_does_not_hold(sample: Sample):
    sample.verdict()
    broken = verify_log(sample.path, Ed25519PrivateKey.generate().public_key()).broken
    assert broken is not None
    assert "another key" in broken.why


def test_the_first_record_that_does_not_hold_is_named(sample: Sample):
    lines = [*sample.lines[:4], sample.lines[4].replace(b"q5", b"qq"), *sample.lines[5:]]
    verdict = sample.verdict(lines)
    assert (verdict.records, verdict.attested) == (4, 4)
    assert verdict.broken is not None
    assert (verdict.broken.line, verdict.broken.sequence) == (5, 5)


def test_a_log_without_checkpoints_does_not_hold(sample: Sample):
    assert "holds no signed checkpoint" in sample.why(checkpoints=[])
    sample.path.with_name("audit.jsonl.checkpoints").unlink()
    broken = verify_log(sample.path, KEY.public_key()).broken
    assert broken is not None
    assert "is missing" in broken.why


@pytest.mark.parametrize("checkpoints", [[], [b"x\n"], [b"{"]])
def test_an_emptied_log_does_not_hold_whatever_is_beside_it(sample: Sample, checkpoints: list[bytes]):
    assert sample.verdict([], checkpoints).broken is not None
    assert "cut off" in sample.why([], sample.checkpoints[:1])


# -- the end that no checkpoint stands for -----------------------------------------------------------------------------------------


def test_a_crash_leaves_some_seconds_that_the_chain_alone_holds(sample: Sample):
    lines, checkpoints = sealed(EVENTS[:-1], (1, 4))
    assert sample.verdict(lines, checkpoints) == Verdict(7, 2, 4, None)


def test_a_longer_end_without_checkpoints_does_not_hold(sample: Sample):
    lines, checkpoints = sealed(EVENTS[:-1], (1, 4), lambda number: NOW + 40 * number)
    assert sample.why(lines, checkpoints).startswith("no signed checkpoint stands for its last 80 s")


def test_a_log_that_was_closed_ends_with_a_checkpoint(sample: Sample):
    assert sample.why(checkpoints=sample.checkpoints[:-1]).startswith("the signed checkpoint of its end is missing")


def test_a_log_that_was_closed_and_opened_again_may_grow(sample: Sample):
    lines, checkpoints = sealed((*EVENTS, "log_opened", "statement"), (*ATTESTED, 9))
    assert sample.verdict(lines, checkpoints) == Verdict(10, 4, 9, None)


def test_log_and_checkpoints_cut_back_to_one_moment_look_like_a_crash(sample: Sample):
    """What can't be found without a copy of the checkpoints: docs/references/audit.md says so."""
    assert sample.verdict(sample.lines[:4], sample.checkpoints[:2]) == Verdict(4, 2, 4, None)


def test_an_end_whose_times_cannot_be_read_does_not_hold(sample: Sample):
    line, _ = seal(sample.lines[3][-67:-3].decode(), "someday", 5, '"event":"statement"')
    assert "have no time" in sample.why([*sample.lines[:4], line], sample.checkpoints[:2])


# -- a log that is being written ---------------------------------------------------------------------------------------------------


def test_a_line_that_is_just_being_written_is_waited_for(sample: Sample, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verify, "WRITING_SECONDS", 0.3)
    lines, checkpoints = sealed(EVENTS[:-1], (1, 4))
    sample.verdict([*lines[:-1], lines[-1][:50]], checkpoints)

    def write_on() -> None:
        time.sleep(0.1)
        with sample.path.open("ab") as file:
            file.write(lines[-1][50:] + b"what is written later is not looked at")

    writer = threading.Thread(target=write_on)
    writer.start()
    assert verify_log(sample.path, KEY.public_key()) == Verdict(7, 2, 4, None)
    writer.join()


def test_a_log_that_cannot_be_read_is_no_verdict(tmp_path: Path):
    with pytest.raises(OSError, match="No such file"):
        verify_log(tmp_path / "audit.jsonl", KEY.public_key())


# -- the key -----------------------------------------------------------------------------------------------------------------------


def test_the_key_beside_a_log_is_found_by_itself(tmp_path: Path):
    log = tmp_path / "audit.jsonl"
    with pytest.raises(KeyUnusable, match="no public key beside it"):
        public_key_beside(log)
    load_keys(tmp_path / "one.key")
    assert public_key_beside(log) == tmp_path / "one.key.pub"
    load_keys(tmp_path / "two.key")
    with pytest.raises(KeyUnusable, match="there are 2 public keys"):
        public_key_beside(log)
    load_keys(tmp_path / "audit.key")
    assert public_key_beside(log) == tmp_path / "audit.key.pub"
