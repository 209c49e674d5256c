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
    is_stored: bool = True  # False: of an identity provider; `token_id` is then whole, and no store knows it

    @property
    def public_name(self) -> str:
        """The token's id as people see it."""
        return f"fct_{self.token_id}" if self.is_stored else self.token_id
