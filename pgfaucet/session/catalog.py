"""The catalog as one session sees it, where it has changed it: DDL in an open transaction, temporary tables.

What the session's next statement means is read on its own connection before it is decided, as what the shared catalog lacks
(`upstream.catalog_changes`). As soon as the shared catalog says the same, the session is back to that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.session.settings import SettingsSide
from pgfaucet.session.state import FAILED, IDLE
from pgfaucet.upstream.catalog_changes import CHANGES, with_changes
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.auth.principal import Principal
    from pgfaucet.database import Database
    from pgfaucet.guard import Guard
    from pgfaucet.plan import StatementPlan
    from pgfaucet.policy.model import Role
    from pgfaucet.sql.catalog import CatalogSnapshot
    from pgfaucet.wire.framing import FrameBuffer

SET_PATH: Final = "SELECT pg_catalog.set_config('search_path', $1, true)"
OWN_PATH: Final = b"pg_catalog, pg_temp"
OWN_PORTAL: Final = "pgfaucet"
"""The client's unnamed one may be open."""
_NAMES_NOTHING: Final = re.compile(
    rb"\s*(?:set|reset|show|begin|start|commit|end|rollback|abort|savepoint|release)\b[^;\0]*;?\s*\0",
    re.IGNORECASE,
)
"""The text of a statement that is decided without a catalog; reading one takes a snapshot, which SET TRANSACTION forbids."""

_DECIDED: Final = frozenset(map(ord, "QPB"))
_BATCH: Final = frozenset(map(ord, "PBDEC"))


def _names_nothing(frame: bytes) -> bool:
    """Say whether a message is the Query or Parse of such a statement."""
    if frame[0] == ord("B"):
        return False
    start = 5 if frame[0] == ord("Q") else frame.find(0, 5) + 1
    return _NAMES_NOTHING.match(frame, start) is not None


class CatalogSide(SettingsSide):
    """Follows what the session does to the catalog."""

    database: Database
    role: Role
    principal: Principal
    frames: FrameBuffer

    def __init__(self) -> None:
        super().__init__()
        self._sees_more = False  # its own view of the catalog may differ from the shared one
        self._is_catalog_due = False
        self._has_uncommitted = False
        self._is_reading_catalog = False
        self._is_catalog_read = False  # for the message at hand
        self.is_in_batch = False  # messages of the extended protocol since the last Sync

    def _completed(self, plan: StatementPlan, tag: bytes) -> None:
        super()._completed(plan, tag)
        is_undone = plan.verb in ("ROLLBACK", "DISCARD")
        if plan.changes_catalog:
            self._sees_more = self._is_catalog_due = self._has_uncommitted = True
        elif is_undone and self._sees_more:
            self._is_catalog_due = True

    def _status_seen(self, status: int) -> None:
        """A transaction has ended: what it did to the catalog is everybody's now, or nobody's."""
        if status == IDLE and self._has_uncommitted:
            self._has_uncommitted = False
            self._is_catalog_due = True
            self.database.catalog_changed()

    def needs_catalog(self, frame: bytes) -> bool:
        """Whether the catalog has to be read before a message is decided. Within a batch, only if the batch itself has changed it."""
        if not (self._sees_more or self.database.is_behind) or frame[0] not in _DECIDED or _names_nothing(frame):
            return False
        if (
            self.skips_to_sync
            or self.is_copying_in
            or self.status == FAILED
            or self.guard.forwards_everything
            or self._is_catalog_read
        ):
            return False
        if self._is_catalog_due or self.is_in_batch:
            return self._is_catalog_due
        return self.database.is_behind or not self.guard.epoch.is_current

    def note_batch(self, kind: int) -> None:
        """A message is dealt with: follow where a batch of the extended protocol begins and ends."""
        self.is_in_batch = kind in _BATCH
        self._is_catalog_read = False

    def read_catalog(self) -> None:
        """Read what the shared catalog lacks."""
        base = self.database.catalog
        if base is None or self.connection is None:
            return
        asked = [(SET_PATH, OWN_PATH), (CHANGES, base.seen.encode())]
        goes_on = self.status != IDLE or self.is_in_batch
        if goes_on and self.guard.has_own_path:  # else it goes back by itself, or never was another
            asked.append((SET_PATH, self.settings.get("search_path", "").encode(self.codec)))
        frames: list[bytes] = []
        for text, value in asked:
            frames += (messages.parse("", text), messages.bind(OWN_PORTAL, "", (value,)), messages.execute(OWN_PORTAL))
            frames.append(messages.close_portal(OWN_PORTAL))
        self._is_reading_catalog = True
        self._is_catalog_due = False

        def then(rows: list[bytes], error: FaucetError | None) -> None:
            self._is_reading_catalog = False
            self._is_catalog_read = True
            text = messages.first_value(rows[1]) if error is None and len(rows) > 1 else None
            if text is None:
                self.lose_connection("the catalog could not be read on the session's connection")
                return
            own = with_changes(base, text)
            self._sees_more = own is not base or self._has_uncommitted
            self._take_catalog(own if own is not base else None)

        self.queue_internal(frames, then, closes=len(asked) if self.is_in_batch else 0)
        self.flush_upstream()

    def _take_catalog(self, own: CatalogSnapshot | None) -> None:
        """Decide with a catalog of the session's own, or with the shared one."""
        try:
            self.renew_guard()
            if own is not None:
                self._take_guard(self.role, self.database.guard_over(own, self.role, dict(self.principal.claims)))
        except FaucetError:  # the next statement asks again, and is told
            self._sees_more = False

    def renew_guard(self) -> None:
        """Take the guard of the policy and catalog now in force."""
        role = self.environment.policy.roles.get(self.role.name)
        if role is None or role.database != self.database.name:
            raise FaucetError(
                Sqlstate.INSUFFICIENT_PRIVILEGE,
                "permission denied: the role of this token is no longer defined",
                reason=f"role {self.role.name} is gone from the policy",
            )
        self._take_guard(role, self.database.guard_for(role, dict(self.principal.claims)))

    def _take_guard(self, role: Role, guard: Guard) -> None:
        if guard.has_own_path != self.guard.has_own_path:
            raise FaucetError(
                Sqlstate.INSUFFICIENT_PRIVILEGE,
                "permission denied: the policy of this role has changed too much for a session to go on",
                hint="Connect again.",
                reason=f"role {role.name} was given or lost all of DDL",
            )
        self.role, self.guard = role, guard
        self.take_limits()

    def take_limits(self) -> None:
        """Take the role's limits into what the loops look at."""
        limits = self.role.limits
        self.row_limit = limits.rows or 0
        self.byte_limit = limits.bytes or 0
        self.frames.limit_statements(limits.statement_bytes)
