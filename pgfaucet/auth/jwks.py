"""The public keys of identity providers: read from a file or fetched from an address, kept, and looked for again when an unknown key is named."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from pgfaucet.auth import signed, sso
from pgfaucet.auth.tokens import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgfaucet.auth.principal import Principal
    from pgfaucet.config import SsoConfig

logger = logging.getLogger(__name__)

KEEP_SECONDS: Final = 600.0  # then they are read again, so that a key that was withdrawn is not used for long
AGAIN_SECONDS: Final = 5.0  # between two attempts: nobody can make us ask more often by naming unknown keys
STALE_SECONDS: Final = 86_400.0  # for so long old keys serve while the provider can't be reached
FETCH_SECONDS: Final = 5.0
MAX_BYTES: Final = 1 << 20


class KeySource:
    """The keys of one issuer. Use it in the event loop only."""

    def __init__(self, config: SsoConfig, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._config = config
        self._clock = clock
        self._keys: sso.Keys = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._turn = asyncio.Lock()

    async def keys_for(self, key_id: str | None) -> sso.Keys:
        """Return the keys, read anew if they are old or lack the one that is named; none if they can't be had."""
        async with self._turn:
            if self._is_due(key_id):
                await self._read()
            age = self._clock() - self._read_at if self._read_at is not None else STALE_SECONDS
            return self._keys if age < STALE_SECONDS else {}

    def _is_due(self, key_id: str | None) -> bool:
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < AGAIN_SECONDS:
            return False
        is_old = self._read_at is None or now - self._read_at > KEEP_SECONDS
        return is_old or (key_id is not None and key_id not in self._keys)

    async def _read(self) -> None:
        try:
            self._keys = sso.read_keys(await self._fetch())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
            why = str(problem) or type(problem).__name__
            logger.error("the keys of %s cannot be read: %s", self._config.issuer, why)  # noqa: TRY400 - expected
        else:
            self._read_at = self._clock()
        finally:
            self._tried_at = self._clock()  # after it: those who waited meanwhile don't try at once

    async def _fetch(self) -> bytes:
        if isinstance(self._config.jwks, Path):
            return await asyncio.to_thread(self._config.jwks.read_bytes)
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(self._config.jwks, allow_redirects=False) as answer,
        ):
            answer.raise_for_status()
            text = b""
            async for part in answer.content.iter_any():
                text += part
                if len(text) > MAX_BYTES:
                    raise ValueError("the answer is too long")
            return text


class SsoVerifier:
    """Decides about JSON Web Tokens: those of every issuer that is configured, and those that we signed."""

    def __init__(
        self,
        issuers: Mapping[str, SsoConfig],
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        own_keys: signed.Keys | None = None,
        own_max_ttl: float = 0.0,
    ) -> None:
        """`now` gives Unix seconds, `clock` monotonic ones; `own_keys` prove tokens that `pgfaucet token create` signed."""
        self._now = now
        self._own_keys = own_keys or {}
        self._own_max_ttl = own_max_ttl
        self._issuers = {name: (config, KeySource(config, clock)) for name, config in issuers.items()}

    async def verify(self, password: bytes, may_use: Callable[[str], bool]) -> Principal | Refusal:
        """Decide what a token proves; `may_use` says whether a role may be used here."""
        issuer = sso.issuer_of(password)
        if issuer == signed.ISSUER:
            return signed.verify(password, self._own_keys, now=self._now(), max_ttl=self._own_max_ttl)
        known = self._issuers.get(issuer) if issuer is not None else None
        if known is None:
            return Refusal(
                "SSO token of an issuer that is not configured" if issuer is not None else "SSO token is malformed"
            )
        config, source = known
        keys = await source.keys_for(sso.key_id_of(password))
        return sso.verify(password, keys, config, now=self._now(), may_use=may_use)
