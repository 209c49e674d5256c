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
from pgfaucet.session.reports import FOLLOWED
from pgfaucet.session.state import IDLE
from pgfaucet.session.statements import numbers, settings_suffix
from pgfaucet.sql.normalise import session_context
from pgfaucet.sql.settings import CONTEXT_SETTING, SEARCH_PATH_SETTING, parse_search_path
from pgfaucet.wire import messages
from pgfaucet.wire.encodings import codec_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgfaucet.errors import FaucetError
    from pgfaucet.session.statements import ClientStatement
    from pgfaucet.upstream.connection import UpstreamConnection

SET_CONFIG: Final = "SELECT pg_catalog.set_config($1, $2, false)"
ENCODING: Final = "client_encoding"
IDLE_TIMEOUT: Final = "idle_session_timeout"
NEVER: Final = "0"
DISCARD_ALL: Final = messages.query("DISCARD ALL")
CURRENT_SETTING: Final = "SELECT pg_catalog.current_setting($1, true)"


def _set_config(settings: Iterable[tuple[str, str]]) -> list[bytes]:
    """Make the messages that set these; client_encoding last, since it tells how the server reads what follows."""
    frames: list[bytes] = []
    for name, value in sorted(settings, key=lambda setting: setting[0] == ENCODING):
        if not frames:
            frames.append(messages.parse("", SET_CONFIG))
        frames += (messages.bind("", "", (name.encode(), value.encode())), messages.execute(""))
    return frames


class SettingsSide(ReplySide):
    """Carries settings between the client and its connections."""

    def __init__(self) -> None:
        super().__init__()
        self._is_barred = False  # the next message waits for an answer that is under way
        self._suffix = b""
        self._suffix_of: dict[str, str] | None = None  # the settings that `_suffix` names

    def upstream_name(self, statement: ClientStatement) -> bytes:
        """Return the name under which a statement is prepared upstream, with the settings that are in force."""
        if statement.own:
            if not statement.name:
                return b""
            is_seen = self.has_server_names
            return statement.name.encode(self.codec) if is_seen else statement.plan.statement_name + statement.own
        if self._suffix_of is not self.settings:
            self._suffix_of = self.settings
            self._suffix = settings_suffix(self.settings)
        return statement.plan.statement_name + (self.doubt or self._suffix)

    def forget_statement(self, name: str) -> ClientStatement | None:
        """Take a prepared statement from the client; what is its own upstream will be closed."""
        statement = self.statements.pop(name, None)
        if not name and self.connection is not None:
            self.connection.unnamed = None
        elif statement is not None and statement.own and self.connection is not None:
            self.connection.distrust_statement(self.upstream_name(statement))
            if self.has_server_names:
                self.make_room(self.connection)
        return statement

    def deallocate(self, name: str | None) -> None:
        """Forget the statement of a name, or all."""
        gone = list(self.statements.values()) if name is None else [self.statements.get(name)]
        self.statements = {} if name is None else {key: kept for key, kept in self.statements.items() if key != name}
        names = [self.upstream_name(each) for each in gone if each is not None and each.own and each.name]
        if self.has_server_names and names and self.connection is not None:
            for each in names:
                self.connection.forget_statement(each)
            self.queue_internal([messages.close_statement(each) for each in names], None)
            self.flush_upstream()

    def make_room(self, connection: UpstreamConnection) -> None:
        """Close the statements of a connection that have to make room for another one."""
        raise NotImplementedError

    def doubt_settings(self) -> None:
        """A statement that changes settings is under way: until they are read back, what is prepared is for nobody else."""
        self.doubt = b"_x%x" % next(numbers)

    def take_over(self) -> None:
        """Make the leased connection the client's: without what somebody else may have left, and with the client's settings.

        Under `access: full` nobody knows what a session leaves behind (a function may set or lock anything), so that its
        connections are cleaned before they serve somebody else.
        """
        connection = self.connection
        if connection is None:
            return
        if connection.owner not in ("", self.id):
            self.expected.append(expect.Expectation(expect.INTERNAL))
            self.expected[-1].then = self._settings_applied
            self.to_upstream.append(DISCARD_ALL)
            connection.forget_statements()
            connection.settings = {}
        connection.owner = self.id if self.guard.forwards_everything else ""
        connection.client_pid = self.pid
        self.apply_settings()

    def apply_settings(self) -> None:
        """Queue what makes the leased connection's settings the client's; nothing when they are already."""
        connection = self.connection
        if connection is None or connection.settings is self.settings:
            return
        there = connection.settings
        if there != self.settings:
            frames: list[bytes] = []
            if not there.keys() <= self.settings.keys() or ENCODING in there.keys() | self.settings.keys():
                frames += (messages.parse("", "RESET ALL"), messages.bind("", "", ()), messages.execute(""))
                there = {}
            frames += _set_config(name for name in self.settings.items() if there.get(name[0]) != name[1])
            self.queue_internal(frames, self._settings_applied)
        connection.settings = self.settings
        self.codec = codec_of(self.settings.get(ENCODING, ""))

    def _settings_applied(self, rows: list[bytes], error: FaucetError | None) -> None:  # noqa: ARG002 - an InternalDone
        if error is not None:
            self.settings_refused(error)

    def read_settings_back(self) -> None:
        """Ask the server what the settings in `touched` are now; what a statement has reset goes back to what the client began with.

        Within a block only those that the session itself follows, by SHOW, which takes no snapshot: a SET TRANSACTION may come.
        """
        in_block = self._held_status != IDLE
        names = sorted(self.touched & FOLLOWED if in_block else self.touched)
        base = [item for item in self.base_settings.items() if item[0] in self.resets or "*" in self.resets]
        frames = _set_config(base)
        resets = len(base)
        self.resets.clear()
        if in_block:
            for name in names:
                frames += (messages.parse("", f"SHOW {name}"), messages.bind("", "", ()), messages.execute(""))
        else:
            frames.append(messages.parse("", CURRENT_SETTING))
            for name in names:
                frames += (messages.bind("", "", (name.encode(),)), messages.execute(""))

        def then(rows: list[bytes], error: FaucetError | None) -> None:
            if error is not None or len(rows) != resets + len(names):
                self.lose_connection("the session's settings could not be read back")
                return
            self._settings_read(dict(zip(names, map(messages.first_value, rows[resets:]), strict=True)))

        self.queue_internal(frames, then)
        self.flush_upstream()

    def _settings_read(self, values: dict[str, bytes | None]) -> None:
        settings = dict(self.settings)
        for name, value in values.items():
            if value is None:
                settings.pop(name, None)
            else:
                settings[name] = value.decode(self.codec, "replace")
        self.settings = settings
        self.codec = codec_of(settings.get(ENCODING, ""))
        if self.touched <= values.keys():
            self.doubt = b""
        if self.connection is not None:
            self.connection.settings = settings
        if self._held_status == IDLE:
            self.touched.clear()
        self._follow_search_path()
        self.follow_context()
        self.follow_idle_timeout()

    def follow_context(self) -> None:
        """Let the audit records to come carry what the client has set pgfaucet.context to."""
        self.recorder.context = session_context(self.settings.get(CONTEXT_SETTING, ""))

    def _follow_search_path(self) -> None:
        if self.guard.has_own_path:
            self.search_path = parse_search_path(self.settings.get("search_path", ""))
            return
        text = self.settings.get(SEARCH_PATH_SETTING)
        path = parse_search_path(text) if text else self.guard.world.search_path
        if path != self.search_path:
            self.search_path = path
            self.reported["search_path"] = text or ", ".join(path)
            self._insert += messages.parameter_status("search_path", self.reported["search_path"])

    def stop_idle_clock(self, connection: UpstreamConnection) -> bool:
        """Tell the server not to close a connection for being idle in the pool. False: it goes there once the server has heard."""
        if connection.settings[IDLE_TIMEOUT] == NEVER:
            return True

        def then(rows: list[bytes], error: FaucetError | None) -> None:
            self._settings_applied(rows, error)
            self._is_release_due = error is None

        self.queue_internal(_set_config(((IDLE_TIMEOUT, NEVER),)), then)
        self.expected[-1].bars = self._is_barred = True  # what comes next needs the client's own settings
        connection.settings = connection.settings | {IDLE_TIMEOUT: NEVER}
        self.flush_upstream()
        return False

    def follow_idle_timeout(self) -> None:
        """Count anew when the client's idle_session_timeout has changed."""
        raise NotImplementedError

    def settings_refused(self, error: FaucetError) -> None:
        """The server does not take the session's settings: nothing may run without them."""
        self.lose_connection(f"the session's settings could not be put on the upstream connection: {error.sqlstate}")

    def reset_to_base(self) -> None:
        """Go back to the start-up settings, as RESET ALL and DISCARD ALL do."""
        self.settings = dict(self.base_settings)
        self.touched.clear()
        self.resets.clear()
        self.codec = codec_of(self.settings.get(ENCODING, ""))
        self.follow_context()
        self.follow_idle_timeout()

    def queue_internal(self, frames: list[bytes], then: expect.InternalDone | None, *, closes: int = 0) -> None:
        """Queue a batch of our own; its replies go to `then` and not to the client.

        It is ended by a Sync; or, within a batch of the client's, whose transaction goes on, by the last of the `closes` portals that it closes.
        """
        entry = expect.Expectation(expect.INTERNAL)
        entry.then = then
        entry.closes = closes
        self.expected.append(entry)
        if self.connection is not None:
            self.connection.unnamed = None  # these batches use it
        self.to_upstream += frames
        self.to_upstream.append(messages.FLUSH if closes else messages.SYNC)

    def fail_block(self) -> None:
        """Put the open transaction block into the failed state, with a statement that can only fail."""
        self.expected.append(expect.Expectation(expect.INTERNAL))
        self.to_upstream.append(messages.query(POISON))
        self.flush_upstream()
