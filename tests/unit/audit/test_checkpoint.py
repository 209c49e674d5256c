from __future__ import annotations

import base64

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pgfaucet.audit.chain import Link
from pgfaucet.audit.checkpoint import Checkpoint, read, sign

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
TS = "2026-05-05T14:32:18.412Z"


def checkpoint(sequence: int, after: int = 0, offset: int | None = None) -> Checkpoint:
    return Checkpoint(Link(sequence, f"{sequence:064x}"), sequence * 100 if offset is None else offset, after)


def line(sequence: int, after: int = 0, offset: int | None = None, key: Ed25519PrivateKey = KEY) -> bytes:
    return sign(checkpoint(sequence, after, offset), TS, key)


def why(*lines: bytes) -> tuple[int, int, str]:
    """Return how many hold, and the line that does not, and why."""
    found, bad = read(lines, KEY.public_key())
    assert bad is not None
    return len(found), bad.line, bad.why


def test_a_checkpoint_is_a_json_object_that_is_read_back():
    assert orjson.loads(line(7))["seq"] == 7
    assert read([line(7), line(9, 7)], KEY.public_key()) == ([checkpoint(7), checkpoint(9, 7)], None)
    assert read([], KEY.public_key()) == ([], None)


def test_a_signature_of_another_key_does_not_hold():
    assert why(line(1), line(2, key=OTHER))[:2] == (1, 2)


def test_a_signature_made_for_something_else_is_no_checkpoint():
    body = line(7).partition(b',"signature":')[0]
    forged = b'%b,"signature":"ed25519:%b"}\n' % (body, base64.b64encode(KEY.sign(body)))
    assert "signature does not hold" in why(forged)[2]


def test_checkpoints_stand_in_order():
    assert why(line(2), line(1)) == (1, 2, "out of place: it is not later than the one before it")
    assert why(line(2), line(2, 2)) == (1, 2, "out of place: it is not later than the one before it")
    assert why(line(2, 0, 200), line(3, 2, 200)) == (1, 2, "out of place: it is not later than the one before it")


def test_a_checkpoint_that_was_taken_out_is_missed():
    assert why(line(2), line(9, 5)) == (1, 2, "out of place: the one before it, for record 5, is missing")
    assert why(line(9, 5)) == (0, 1, "out of place: the one before it, for record 5, is missing")


def test_a_file_that_continues_another_has_a_checkpoint_for_its_beginning():
    beginning = [checkpoint(7, 7, 0), checkpoint(9, 7)]
    assert beginning[0].is_beginning
    assert not beginning[1].is_beginning
    assert read([line(7, 7, 0), line(9, 7)], KEY.public_key()) == (beginning, None)
    assert why(line(7, 5, 0)) == (0, 1, "out of place: the one before it, for record 5, is missing")


def test_a_torn_line_is_told_apart_from_a_changed_one():
    assert why(line(1), line(2)[:-1])[2] == "torn: the line is not whole"
    assert why(b"{}\n")[2] == "changed: it is not a checkpoint"


@pytest.mark.parametrize("flipped", [1, 2, 0x20, 0x80])
def test_every_changed_byte_is_found(flipped: int):
    whole = line(7)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= flipped
        assert read([bytes(changed)], KEY.public_key())[1] is not None, place


def test_a_signature_can_not_be_written_in_another_way():
    whole = line(7)
    signature = whole[-92:-3]
    assert signature.endswith(b"==")
    spare = {  # the last character before == has four bits that decoding ignores
        whole.replace(signature, signature[:-3] + bytes([character]) + b"==")
        for character in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    }
    assert [one for one in spare if read([one], KEY.public_key())[1] is None] == [whole]
