"""The audit keys: the secret behind `params_hash` and the Ed25519 key that signs checkpoints. Made on first use, kept in files.

`audit.key` (mode 0600) holds both secrets, `audit.key.pub` the public half in PEM, for `audit verify`.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC_SUFFIX: Final = ".pub"


class KeyUnusable(Exception):
    """A key file cannot be read or made. The text says what is wrong; what to do."""


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The secrets of one audit log."""

    params: bytes = field(repr=False)  # of the HMAC over literals and parameters
    signing: Ed25519PrivateKey = field(repr=False)


def load_keys(path: Path) -> AuditKeys:
    """Read the key file; make it, and the public key beside it, if it is missing. Raises KeyUnusable."""
    try:
        try:
            raw = _read_private(path)
        except FileNotFoundError:
            raw = _make(path)
        keys = _parse(raw)
        _write_public(path.with_name(path.name + PUBLIC_SUFFIX), keys.signing.public_key())
    except OSError as problem:
        raise KeyUnusable(f"{path}: {problem.strerror or problem}; the audit key cannot be used") from problem
    except (ValueError, KeyError, TypeError):
        raise KeyUnusable(
            f"{path}: this is no audit key; restore it, or move it and the log away to begin anew"
        ) from None
    return keys


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key in PEM. Raises KeyUnusable."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as problem:
        raise KeyUnusable(f"{path}: {problem.strerror or problem}; name the public key with --public-key") from problem
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"{path}: this is no public key in PEM; name the right one with --public-key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{path}: this is no Ed25519 key; name the right one with --public-key")
    return key


def _read_private(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        if os.fstat(descriptor).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyUnusable(f"{path}: others than its owner may read it; run chmod 600 on it")
        return file.read(65_536)


def _make(path: Path) -> bytes:
    """Make new secrets. Of two processes that try at once one wins, and both use what it made."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = {"params": secrets.token_hex(32), "signing": Ed25519PrivateKey.generate().private_bytes_raw().hex()}
    _write_once(path, orjson.dumps(made) + b"\n", 0o600)
    return _read_private(path)


def _parse(raw: bytes) -> AuditKeys:
    held = orjson.loads(raw)
    params, signing = bytes.fromhex(held["params"]), bytes.fromhex(held["signing"])
    if len(params) < 32:
        raise ValueError("the secret is too short")
    return AuditKeys(params, Ed25519PrivateKey.from_private_bytes(signing))


def _write_public(path: Path, key: Ed25519PublicKey) -> None:
    text = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if not path.exists():
        _write_once(path, text, 0o644)
    if path.read_bytes() != text:
        raise KeyUnusable(
            f"{path}: it does not belong to the private key beside it; restore the one, or remove the other"
        )


def _write_once(path: Path, content: bytes, mode: int) -> None:
    """Make a file that appears with its whole content; one that is there already stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    _write_new(draft, content, mode)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
        file.flush()
        os.fsync(descriptor)
