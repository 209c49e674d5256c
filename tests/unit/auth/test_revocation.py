from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from pgfaucet.auth import revocation, tokens
from pgfaucet.auth.principal import Principal
from pgfaucet.auth.revocation import GRACE_SECONDS, TokenWatcher
from pgfaucet.auth.sqlite_store import SqliteStore
from pgfaucet.auth.store import Selection, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

NOW = 1_800_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


class Session:
    def __init__(self) -> None:
        self.ended: list[str] = []

    def token_ended(self, reason: str) -> None:
        self.ended.append(reason)


class Rig:
    """A store, a watcher that runs, and a second store object to revoke with, as another process would."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.store = SqliteStore(path, self.clock)
        self.elsewhere = SqliteStore(path, self.clock)
        self.watcher = TokenWatcher(self.store, clock=self.clock, poll_seconds=0.01)

    def principal(self, ttl: float = 3600.0) -> Principal:
        _, record = tokens.mint("agent", "agent:1", {}, ttl=ttl, now=self.clock.now, rng=random.randbytes)
        self.store.create(record)
        return Principal(record.id, record.role, record.label, record.claims, record.expires_at)

    def session(self, principal: Principal) -> Session:
        session = Session()
        self.watcher.register(session, principal)
        return session

    def revoke(self, principal: Principal) -> None:
        self.elsewhere.revoke(Selection(ids=(principal.token_id,)), self.clock.now)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.watcher.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "tokens.db")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


def test_a_revocation_elsewhere_ends_every_session_of_the_token_and_no_other(rig: Rig):
    async def body() -> None:
        one, other = rig.principal(), rig.principal()
        first, second, spared = rig.session(one), rig.session(one), rig.session(other)
        async with rig.running():
            await asyncio.sleep(0.05)
            rig.revoke(one)
            await until(lambda: bool(first.ended and second.ended))
            await asyncio.sleep(0.05)
        assert (first.ended, second.ended, spared.ended) == (["revoked"], ["revoked"], [])

    asyncio.run(body())


def test_a_token_revoked_between_its_lookup_and_the_login_is_noticed(rig: Rig):
    async def body() -> None:
        principal = rig.principal()
        async with rig.running():
            await asyncio.sleep(0.05)
            rig.revoke(principal)
            await asyncio.sleep(0.05)  # the watcher has read that, and had no such session
            session = rig.session(principal)
            await until(lambda: session.ended == ["revoked"])

    asyncio.run(body())


def test_a_token_that_is_gone_from_the_store_ends_its_sessions(rig: Rig):
    async def body() -> None:
        session = rig.session(Principal("neverstored1", "agent", "x", (), NOW + 60))
        async with rig.running():
            await until(lambda: session.ended == ["revoked"])

    asyncio.run(body())


def test_a_session_that_has_left_is_not_ended(rig: Rig):
    async def body() -> None:
        principal = rig.principal()
        gone, here = rig.session(principal), rig.session(principal)
        rig.watcher.unregister(gone)
        rig.watcher.unregister(gone)
        rig.revoke(principal)
        async with rig.running():
            await until(lambda: here.ended == ["revoked"])
        assert gone.ended == []

    asyncio.run(body())


def test_a_token_expires_without_a_look_at_the_store(rig: Rig):
    async def body() -> None:
        late, soon = rig.principal(0.2), rig.principal(0.1)
        sessions = [rig.session(late), rig.session(soon)]
        rig.clock.now += 0.15
        await until(lambda: bool(sessions[1].ended))
        assert [session.ended for session in sessions] == [[], ["expired"]]
        rig.clock.now += 0.15
        await until(lambda: bool(sessions[0].ended))
        assert sessions[1].ended == ["expired"]

    asyncio.run(body())


def test_a_token_does_not_expire_before_its_time_though_the_timer_ran(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(revocation, "LONGEST_TIMER", 0.01)

    async def body() -> None:
        session = rig.session(rig.principal(3600))
        await asyncio.sleep(0.05)
        assert session.ended == []
        rig.clock.now += 3600  # the clock was set
        await until(lambda: session.ended == ["expired"])

    asyncio.run(body())


def test_sessions_outlive_a_store_that_cannot_be_asked_for_a_while_only(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    def unreachable(mark: object) -> None:
        raise StoreUnavailable("gone")

    async def body() -> None:
        session = rig.session(rig.principal())
        async with rig.running():
            await asyncio.sleep(0.05)
            with monkeypatch.context() as broken:
                broken.setattr(rig.store, "revoked_since", unreachable)
                await until(lambda: not rig.watcher.is_reachable)
                rig.clock.now += GRACE_SECONDS - 1
                await asyncio.sleep(0.05)
                assert session.ended == []
                rig.clock.now += 2
                await until(lambda: bool(session.ended))
            assert "unreachable" in session.ended[0]
            await until(lambda: rig.watcher.is_reachable)

    asyncio.run(body())


def test_what_was_revoked_during_an_outage_is_noticed_after_it(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    def unreachable(mark: object) -> None:
        raise StoreUnavailable("gone")

    async def body() -> None:
        async with rig.running():
            await asyncio.sleep(0.05)
            with monkeypatch.context() as broken:
                broken.setattr(rig.store, "revoked_since", unreachable)
                await until(lambda: not rig.watcher.is_reachable)
                principal = rig.principal()
                rig.revoke(principal)
                session = rig.session(principal)
            await until(lambda: session.ended == ["revoked"])

    asyncio.run(body())


def test_a_session_that_fails_to_end_does_not_save_the_others(rig: Rig):
    class Stubborn(Session):
        def token_ended(self, reason: str) -> None:
            raise RuntimeError("no")

    async def body() -> None:
        principal = rig.principal()
        rig.watcher.register(Stubborn(), principal)
        sessions = [rig.session(principal) for _ in range(5)]
        rig.revoke(principal)
        async with rig.running():
            await until(lambda: all(session.ended for session in sessions))

    asyncio.run(body())


def signed(token_id: str = "fcs_0123456789ab", label: str = "ci:1", issued_at: float = NOW - 60.0) -> Principal:
    return Principal(token_id, "agent", label, (), NOW + 3600, is_stored=False, issued_at=issued_at)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(everything=True),
        Selection(label="ci:*"),
        Selection(role="agent"),
        Selection(ids=("fcs_0123456789ab",)),
    ],
)
def test_a_revocation_ends_the_signed_tokens_that_fit(rig: Rig, selection: Selection):
    async def body() -> None:
        ended = rig.session(signed())
        spared = [
            rig.session(signed("fcs_aaaaaaaaaaaa", "bot:1", NOW + 5))
            if not selection.role
            else rig.session(signed("jwt_1", issued_at=NOW + 5))
        ]
        async with rig.running():
            await asyncio.sleep(0.05)
            assert ended.ended == []
            rig.elsewhere.revoke(selection, NOW)
            await until(lambda: bool(ended.ended))
            await asyncio.sleep(0.05)
        assert ended.ended == ["revoked"]
        assert all(session.ended == [] for session in spared)
        assert rig.watcher.is_denied(signed())

    asyncio.run(body())


def test_a_signed_token_that_was_revoked_by_its_id_stays_so(rig: Rig):
    rig.store.revoke(Selection(ids=("fcs_0123456789ab",)), NOW)
    rig.store.revoke(Selection(label="bot:*"), NOW)
    watcher = TokenWatcher(rig.store, clock=rig.clock)
    assert watcher.is_denied(signed(issued_at=NOW + 99))
    assert watcher.is_denied(signed("jwt_1", "bot:1", NOW))
    assert not watcher.is_denied(signed("jwt_1", "bot:1", NOW + 0.1))
    assert not watcher.is_denied(signed("jwt_1"))


def test_a_signed_token_that_was_revoked_while_it_logged_in_is_ended(rig: Rig):
    async def body() -> None:
        rig.store.revoke(Selection(everything=True), NOW)
        rig.watcher = TokenWatcher(rig.store, clock=rig.clock)
        late = rig.session(signed())
        await asyncio.sleep(0)
        assert late.ended == ["revoked"]

    asyncio.run(body())


def test_while_the_store_is_gone_for_long_nobody_knows_what_was_revoked(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> None:
        raise StoreUnavailable("gone")

    async def body() -> None:
        session = rig.session(signed())
        monkeypatch.setattr(rig.store, "revoked_since", fail)
        async with rig.running():
            await until(lambda: not rig.watcher.is_reachable)
            assert rig.watcher.knows_denials
            rig.clock.now += GRACE_SECONDS + 1
            assert not rig.watcher.knows_denials
            await until(lambda: bool(session.ended))
        assert "can't be checked" in session.ended[0]

    asyncio.run(body())
