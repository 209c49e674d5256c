"""Where tokens are kept: the interface of a token store, and what all of them share.

Methods block: call them in an executor. One store object may be used by several threads, one store by several processes.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pgfaucet.auth.tokens import TokenRecord

PURGE_AFTER_SECONDS: Final = (
    30 * 86_400.0
)  # what has ended is kept so long, to tell expired from unknown and for `token list`


class StoreUnavailable(Exception):
    """The token store cannot be read or written. The text says what is wrong; what to do."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tokens to revoke: those that fit every part that is given. Nothing given selects nothing; `everything` all."""

    ids: tuple[str, ...] = ()
    label: str | None = None  # glob: * ? [abc]
    role: str | None = None
    everything: bool = False

    def fits(self, token_id: str, role: str, label: str) -> bool:
        """Whether a token is one of them."""
        if not (self.everything or self.ids or self.label is not None or self.role is not None):
            return False
        return (
            (not self.ids or token_id in self.ids)
            and (self.label is None or fnmatch.fnmatchcase(label, self.label))
            and (self.role is None or role == self.role)
        )


class Mark(NamedTuple):
    """How far a watcher has read. Opaque to it."""

    store: tuple[int, int]  # which file (device and inode), or which connection
    version: tuple[int, int]  # what others, and what this connection, changed
    revocation: int


class TokenStore(Protocol):
    """What the proxy and the command line need of a store. All raise StoreUnavailable."""

    @property
    def mock_secret(self) -> bytes:
        """A secret shared by all who use this store, for what an unknown id is answered with."""

    def create(self, record: TokenRecord) -> None:
        """Keep a new token."""

    def get(self, token_id: str) -> TokenRecord | None:
        """Return one token, valid or not."""

    def list(self, *, role: str | None = None) -> Sequence[TokenRecord]:
        """Return all tokens, the newest first."""

    def revoke(self, selection: Selection, now: float) -> Sequence[str]:
        """End tokens at once; return the ids of those that were valid until now."""

    def revoked_since(self, mark: Mark | None) -> tuple[Mark, Sequence[str] | None]:
        """Return a new mark and the ids revoked since the last one; None if that can't be told and every id is to be checked."""

    def ended_among(self, ids: Collection[str]) -> set[str]:
        """Return those that are revoked or not in the store."""

    def close(self) -> None:
        """Let go of the store."""
