"""Where tokens are kept: the interface of a token store, and what all of them share.

Methods block: call them in an executor. One store object may be used by several threads, one store by several processes.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pgfaucet.auth.principal import Principal
    from pgfaucet.auth.tokens import TokenRecord

PURGE_AFTER_SECONDS: Final = (
    30 * 86_400.0
)  # what has ended is kept so long, to tell expired from unknown and for `token list`

_STORED_ID: Final = re.compile(r"[0-9a-z]{12}", re.ASCII)


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

    @property
    def may_fit_signed(self) -> bool:
        """Whether tokens that are proved by a signature, which no store knows, could be among them."""
        return not self.ids or not all(map(_STORED_ID.fullmatch, self.ids))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"ids": list(self.ids), "label": self.label, "role": self.role, "everything": self.everything}

    @classmethod
    def of(cls, written: dict[str, Any]) -> Self:
        """Read what `as_dict` wrote. Raises KeyError."""
        return cls(tuple(written["ids"]), written["label"], written["role"], written["everything"])


class Denial(NamedTuple):
    """A revocation as far as it concerns tokens that are proved by a signature: those that fit and were issued by then have ended."""

    at: float  # Unix seconds
    selection: Selection

    def ends(self, principal: Principal) -> bool:
        """Whether a token has ended by it. One that is named by its id has, whenever it was issued."""
        is_before = bool(self.selection.ids) or principal.issued_at <= self.at
        return is_before and self.selection.fits(principal.token_id, principal.role, principal.label)


class Mark(NamedTuple):
    """How far a watcher has read. Opaque to it."""

    store: tuple[int, int]  # which connection
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

    def spend(self, token_id: str, now: float) -> bool:
        """Mark a token for one session as used; return False if it was before."""

    def revoke(self, selection: Selection, now: float) -> Sequence[str]:
        """End tokens at once; return the ids of those that were valid until now, signed ones not among them."""

    def denials(self) -> Sequence[Denial]:
        """Return the revocations that concern signed tokens, of at least the last PURGE_AFTER_SECONDS."""

    def revoked_since(self, mark: Mark | None) -> tuple[Mark, Sequence[str] | None]:
        """Return a new mark and the ids revoked since the last one; None if that can't be told and every id is to be checked."""

    def ended_among(self, ids: Collection[str]) -> set[str]:
        """Return those that are revoked or not in the store."""

    def close(self) -> None:
        """Let go of the store."""
