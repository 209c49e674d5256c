from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgfaucet.auth import jwks
from pgfaucet.auth.jwks import AGAIN_SECONDS, KEEP_SECONDS, STALE_SECONDS, KeySource, SsoVerifier
from pgfaucet.auth.principal import Principal
from pgfaucet.auth.tokens import Refusal
from tests.unit.auth.test_sso import CONFIG, EC, ED, NOW, jwk, key_set, token

if TYPE_CHECKING:
    from pathlib import Path

    from pgfaucet.config import SsoConfig


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """A file of keys, and how often it was read."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.clock = Clock()
        self.reads = 0
        self.write(jwk(EC, "ES256"))
        self.config: SsoConfig = replace(CONFIG, jwks=path)
        self.source = KeySource(self.config, self.clock)
        fetch = KeySource._fetch

        async def counted(source: KeySource) -> bytes:
            self.reads += 1
            return await fetch(source)

        monkeypatch.setattr(KeySource, "_fetch", counted)

    def write(self, *keys: dict[str, object]) -> None:
        self.path.write_bytes(key_set(*keys))

    def keys(self, key_id: str | None = "ES256") -> list[str | None]:
        return list(asyncio.run(self.source.keys_for(key_id)))


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path / "jwks.json", monkeypatch)


def test_keys_are_read_once_and_again_when_they_are_old(rig: Rig):
    for _ in range(3):
        assert rig.keys() == ["ES256"]
    assert rig.reads == 1
    rig.clock.now += KEEP_SECONDS + 1
    rig.write(jwk(ED, "EdDSA"))
    assert rig.keys("EdDSA") == ["EdDSA"]  # a key that was withdrawn is gone
    assert rig.reads == 2


def test_a_new_key_is_found_when_a_token_names_it(rig: Rig):
    rig.keys()
    rig.write(jwk(EC, "ES256"), jwk(ED, "EdDSA"))
    assert rig.keys() == ["ES256"]
    rig.clock.now += AGAIN_SECONDS
    assert rig.keys("EdDSA") == ["ES256", "EdDSA"]


def test_naming_unknown_keys_does_not_make_us_ask_again_and_again(rig: Rig):
    for number in range(50):
        rig.keys(f"unknown{number}")
    assert rig.reads == 1
    rig.clock.now += AGAIN_SECONDS
    rig.keys("unknown")
    assert rig.reads == 2


def test_old_keys_serve_while_the_provider_cannot_be_reached(rig: Rig, caplog: pytest.LogCaptureFixture):
    rig.keys()
    rig.path.unlink()
    rig.clock.now += KEEP_SECONDS + 1
    assert rig.keys() == ["ES256"]
    assert "the keys of https://idp/ cannot be read" in caplog.text
    rig.clock.now += STALE_SECONDS
    assert rig.keys() == []


def test_what_is_no_key_set_changes_nothing(rig: Rig, caplog: pytest.LogCaptureFixture):
    rig.keys()
    rig.path.write_bytes(b"<html>")
    rig.clock.now += KEEP_SECONDS + 1
    assert rig.keys() == ["ES256"]
    assert "no JSON Web Key Set" in caplog.text


def test_each_issuer_has_keys_of_its_own(rig: Rig):
    verifier = SsoVerifier({rig.config.issuer: rig.config}, now=lambda: NOW, clock=rig.clock)

    def verdict(password: bytes) -> Principal | Refusal:
        return asyncio.run(verifier.verify(password, lambda _: True))

    assert isinstance(verdict(token()), Principal)
    for password, reason in (
        (token(iss="https://evil/"), "SSO token of an issuer that is not configured"),
        (token(iss=None), "SSO token is malformed"),
        (b"AAAAAAAAAAA.BBBBBBBBBBB.CCCCCCCCCCC", "SSO token is malformed"),
        (token("EdDSA"), "SSO token of https://idp/: signed with a key that is not known"),
    ):
        refused = verdict(password)
        assert isinstance(refused, Refusal)
        assert refused.reason == reason


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000,
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["too long", "redirected", "missing"],
)
def test_only_a_whole_answer_of_the_address_itself_is_read(monkeypatch: pytest.MonkeyPatch, rig: Rig, answer: bytes):
    monkeypatch.setattr(jwks, "MAX_BYTES", 10)
    served = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def fetch() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        source = KeySource(replace(CONFIG, jwks=f"http://127.0.0.1:{port}/"), rig.clock)
        assert await source.keys_for("ES256") == {}
        server.close()
        await server.wait_closed()

    asyncio.run(fetch())
    assert served == 1
