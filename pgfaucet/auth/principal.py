"""Who a token proves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """The bearer of a valid token. Times are Unix seconds."""

    token_id: str  # public id, without the fct_ prefix
    role: str
    label: str
    claims: tuple[tuple[str, str], ...]  # sorted by key
    expires_at: float
