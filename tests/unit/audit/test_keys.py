from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pgfaucet.audit.keys import KeyUnusable, load_keys, load_public_key

if TYPE_CHECKING:
    from pathlib import Path


def test_keys_are_made_on_first_use_and_stay(tmp_path: Path):
    made = load_keys(tmp_path / "state" / "audit.key")
    again = load_keys(tmp_path / "state" / "audit.key")
    assert made.params == again.params
    assert made.signing.private_bytes_raw() == again.signing.private_bytes_raw()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["audit.key", "audit.key.pub"]


def test_the_public_key_is_the_half_of_the_private_one(tmp_path: Path):
    keys = load_keys(tmp_path / "audit.key")
    public = load_public_key(tmp_path / "audit.key.pub")
    public.verify(keys.signing.sign(b"text"), b"text")


def test_the_secrets_are_their_owners_alone_and_in_no_repr(tmp_path: Path):
    keys = load_keys(tmp_path / "audit.key")
    assert stat.S_IMODE((tmp_path / "audit.key").stat().st_mode) == 0o600
    assert repr(keys) == "AuditKeys()"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int):
    load_keys(tmp_path / "audit.key")
    (tmp_path / "audit.key").chmod(mode)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        load_keys(tmp_path / "audit.key")


@pytest.mark.parametrize("text", ["", "{}", "[]", "x", '{"params": "00", "signing": "00"}', '{"params": 1}'])
def test_a_file_that_is_no_key_is_refused_and_kept(tmp_path: Path, text: str):
    path = tmp_path / "audit.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="no audit key"):
        load_keys(path)
    assert path.read_text() == text


def test_a_public_key_of_another_pair_is_refused(tmp_path: Path):
    load_keys(tmp_path / "audit.key")
    load_keys(tmp_path / "other.key")
    (tmp_path / "other.key.pub").replace(tmp_path / "audit.key.pub")
    with pytest.raises(KeyUnusable, match="does not belong"):
        load_keys(tmp_path / "audit.key")


def test_a_lost_public_key_is_written_again(tmp_path: Path):
    load_keys(tmp_path / "audit.key")
    text = (tmp_path / "audit.key.pub").read_text()
    (tmp_path / "audit.key.pub").unlink()
    load_keys(tmp_path / "audit.key")
    assert (tmp_path / "audit.key.pub").read_text() == text


def test_a_public_key_must_be_there_and_of_the_right_kind(tmp_path: Path):
    path = tmp_path / "some.pub"
    with pytest.raises(KeyUnusable, match="--public-key"):
        load_public_key(path)
    path.write_text("no key")
    with pytest.raises(KeyUnusable, match="PEM"):
        load_public_key(path)
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(elliptic.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyUnusable, match="Ed25519"):
        load_public_key(path)


def test_a_directory_that_cannot_be_written_is_told_of(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(KeyUnusable, match="cannot be used"):
        load_keys(tmp_path / "file" / "audit.key")


LOADER = """
import sys
from pathlib import Path
from pgfaucet.audit.keys import load_keys
print(load_keys(Path(sys.argv[1])).params.hex())
"""


def test_processes_that_make_the_key_at_once_agree(tmp_path: Path):
    running = [
        subprocess.Popen([sys.executable, "-c", LOADER, tmp_path / "audit.key"], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    printed = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    assert len(printed) == 1
