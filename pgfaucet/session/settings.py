"""A client's settings on connections that are not its own.

What is in force for the client is read from the server after each change, never guessed from the text of a SET; it is put on
whichever upstream connection serves the client next. The client's search_path lives in the custom setting pgfaucet.search_path, so
that the server gives it transactions and savepoints, while the server's own search_path never moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.guard import POISON
from pgfaucet.session import expectation as expect
from pgfaucet.session.replies import ReplySide
from pgfaucet.session.state import IDLE
from pgfaucet.sql.normalise import session_context
from pgfaucet.sql.settings import CONTEXT_SETTING, SEARCH_PATH_SETTING, parse_search_path
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.errors import FaucetError

SET_CONFIG: Final = "SELECT pg_catalog.set_config($1, $2, false)"
CURRENT_SETTING: Final = "SELECT pg_catalog.current_setting($1, true)"


class SettingsSide(ReplySide):
    """Carries settings between the client and its connections."""

    def apply_settings(self) -> None:
        """Queue what makes the leased connection's settings the client's; nothing when they are already."""
        connection = self.connection
        if connection is None or connection.settings is self.settings:
            return
        there = connection.settings
        if there != self.settings:
            frames: list[bytes] = []
            if not there.keys() <= self.settings.keys():
                frames += (messages.parse("", "RESET ALL"), messages.bind("", "", ()), messages.execute(""))
                there = {}
            frames.append(messages.parse("", SET_CONFIG))
            for name, value in self.settings.items():
                if there.get(name) != value:
                    frames += (messages.bind("", "", (name.encode(), value.encode())), messages.execute(""))
            self.queue_internal(frames, self._settings_applied)
        connection.settings = self.settings

    def _settings_applied(self, rows: list[bytes], error: FaucetError | None) -> None:  # noqa: ARG002 - an InternalDone
        if error is not None:
            self.settings_refused(error)

    def read_settings_back(self) -> None:
        """Ask the server what the settings in `touched` are now."""
        names = sorted(self.touched)
        frames = [messages.parse("", CURRENT_SETTING)]
        for name in names:
            frames += (messages.bind("", "", (name.encode(),)), messages.execute(""))

        def then(rows: list[bytes], error: FaucetError | None) -> None:
            if error is not None or len(rows) != len(names):
                self.lose_connection("the session's settings could not be read back")
                return
            self._settings_read(dict(zip(names, map(messages.first_value, rows), strict=True)))

        self.queue_internal(frames, then)
        self.flush_upstream()

    def _settings_read(self, values: dict[str, bytes | None]) -> None:
        settings = dict(self.settings)
        for name, value in values.items():
            if value is None:
                settings.pop(name, None)
            else:
                settings[name] = value.decode()
        self.settings = settings
        if self.connection is not None:
            self.connection.settings = settings
        if self._held_status == IDLE:
            self.touched.clear()
        self._follow_search_path()
        self.follow_context()

    def follow_context(self) -> None:
        """Let the audit records to come carry what the client has set pgfaucet.context to."""
        self.recorder.context = session_context(self.settings.get(CONTEXT_SETTING, ""))

    def _follow_search_path(self) -> None:
        text = self.settings.get(SEARCH_PATH_SETTING)
        path = parse_search_path(text) if text else self.guard.world.search_path
        if path != self.search_path:
            self.search_path = path
            self.reported["search_path"] = text or ", ".join(path)
            self._insert += messages.parameter_status("search_path", self.reported["search_path"])

    def settings_refused(self, error: FaucetError) -> None:
        """The server does not take the session's settings: nothing may run without them."""
        self.lose_connection(f"the session's settings could not be put on the upstream connection: {error.sqlstate}")

    def reset_to_base(self) -> None:
        """Go back to the start-up settings, as RESET ALL and DISCARD ALL do."""
        self.settings = dict(self.base_settings)
        self.touched.clear()
        self.follow_context()

    def queue_internal(self, frames: list[bytes], then: expect.InternalDone | None) -> None:
        """Queue a batch of our own, ended by its Sync; its replies go to `then` and not to the client."""
        entry = expect.Expectation(expect.INTERNAL)
        entry.then = then
        self.expected.append(entry)
        self.to_upstream += frames
        self.to_upstream.append(messages.SYNC)

    def fail_block(self) -> None:
        """Put the open transaction block into the failed state, with a statement that can only fail."""
        self.expected.append(expect.Expectation(expect.INTERNAL))
        self.to_upstream.append(messages.query(POISON))
        self.flush_upstream()
