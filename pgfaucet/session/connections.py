"""How many sessions there are, by role and by token, and how many there may be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pgfaucet.errors import FaucetError, Sqlstate

if TYPE_CHECKING:
    from pgfaucet.auth.principal import Principal
    from pgfaucet.policy.model import Role


class Connections:
    """The sessions of one process."""

    def __init__(self) -> None:
        self._roles: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    def take(self, role: Role, principal: Principal) -> None:
        """Count one more. Raises FaucetError 53300 when the role's limit or the token's is passed."""
        limit, most = role.limits.connections, principal.terms.max_connections
        if limit is not None and self._roles[role.name] >= limit:
            what, why = f'too many connections for role "{role.name}"', f"limits.connections: {limit}"
            raise FaucetError(Sqlstate.TOO_MANY_CONNECTIONS, what, reason=why)
        if most is not None and self._tokens[principal.public_name] >= most:
            what, why = "too many connections with this token", f"its --max-connections: {most}"
            raise FaucetError(Sqlstate.TOO_MANY_CONNECTIONS, what, reason=why)
        self._roles[role.name] += 1
        self._tokens[principal.public_name] += 1

    def give_back(self, role: Role, principal: Principal) -> None:
        """Count one less."""
        for counts, name in ((self._roles, role.name), (self._tokens, principal.public_name)):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]
