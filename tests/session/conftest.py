"""A session between a scripted client and a scripted server: no socket, no clock, no catalog."""

from __future__ import annotations

from typing import Any

import pytest

from pgfaucet.errors import FaucetError
from pgfaucet.guard import POISON
from pgfaucet.ops.metrics import Metrics
from pgfaucet.plan import QueryPlan, StatementKind, StatementPlan
from pgfaucet.session.output import ClientOutput
from pgfaucet.session.requests import RequestSide
from pgfaucet.wire import messages
from pgfaucet.wire.framing import FrameBuffer


class Transport:
    """Collects what would go to the client."""

    def __init__(self) -> None:
        self.sent = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.sent += data


class Log:
    """An audit log whose disk can be held back."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str | None, int | None]] = []  # verb, sqlstate, rows
        self.durable = 1 << 60
        self.waiters: list[Any] = []
        self.running = 0

    def is_durable(self, sequence: int) -> bool:
        return sequence <= self.durable

    def call_when_durable(self, sequence: int, callback: Any) -> None:
        self.waiters.append(callback)

    def sync(self) -> None:
        self.durable = len(self.records)
        for waiter in self.waiters:
            waiter(None)
        self.waiters.clear()


class Recorder:
    """Stands where session.recorder stands."""

    is_healthy = True
    records_intents = False
    context: tuple[tuple[str, str], ...] = ()

    def __init__(self, log: Log) -> None:
        self.log = log

    def statement(
        self, plan: StatementPlan, request: Any, rows: int | None, sent: int, sqlstate: str | None, error: Any
    ) -> int:
        self.log.records.append((plan.verb, sqlstate, rows))
        return len(self.log.records)

    def refused(self, plan: StatementPlan, error: FaucetError) -> int:
        return self.statement(plan, None, None, 0, error.sqlstate, error)


class Upstream:
    """A leased connection: what was written to it, and what it has prepared."""

    def __init__(self) -> None:
        self.written = b""
        self.prepared: set[bytes] = set()
        self.settings: dict[str, str] = {}
        self.parameters: dict[str, str] = {}
        self.transaction_status = 73
        self.owner = ""
        self.client_pid = 0
        self.unnamed: Any = None
        self.stale: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def has_statement(self, name: bytes) -> bool:
        return name in self.prepared

    def evict_statements(self) -> list[bytes]:
        evicted, self.stale = self.stale, []
        return evicted

    def remember_statement(self, name: bytes) -> None:
        self.prepared.add(name)

    def forget_statement(self, name: bytes) -> None:
        self.prepared.discard(name)

    def forget_statements(self) -> None:
        self.prepared.clear()

    def distrust_statement(self, name: bytes) -> None:
        if name in self.prepared:
            self.prepared.discard(name)
            self.stale.append(name)

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written


class Pool:
    """One connection, lent or not."""

    mode = "transaction"

    def __init__(self, connection: Upstream) -> None:
        self.connection = connection
        self.parsed: set[bytes] = set()
        self.is_lent = False
        self.is_full = False

    def acquire(self, lessee: Any) -> Upstream | None:
        if self.is_full:
            return None
        assert not self.is_lent, "leased twice"
        self.is_lent = True
        return self.connection

    def note_parsed(self, name: bytes) -> None:
        self.parsed.add(name)

    def client_pid(self, backend_pid: int) -> int:
        return 0


class World:
    search_path = ("public",)


class Epoch:
    is_current = True


class Guard:
    """Knows a few texts; refuses what mentions `secret`."""

    epoch = Epoch()
    forwards_everything = False
    has_own_path = False
    world = World()

    def plan_query(self, text: str, search_path: tuple[str, ...]) -> QueryPlan:
        return self.cached(text, search_path)

    def cached(self, text: str, search_path: tuple[str, ...], types: tuple[int, ...] = ()) -> QueryPlan:
        plans: list[StatementPlan] = []
        for part in filter(None, (part.strip() for part in text.split(";"))):
            plans.append(_statement(part))
            if plans[-1].error is not None:
                break
        sent = "; ".join(plan.sql or POISON for plan in plans)
        name = f"pgf_{text}".encode()
        return QueryPlan(tuple(plans), sent, messages.query(sent), messages.parse(name.decode(), sent, types), name)


def _statement(text: str) -> StatementPlan:
    verb = text.split(maxsplit=1)[0].upper()
    if "secret" in text:
        error = FaucetError("42P01", 'relation "secret" does not exist')
        return StatementPlan(verb, (), "", "", (), (), (), "", error=error)
    if text == "insert checked":
        return StatementPlan(verb, (), "", "", (), (), (), text, swallow_rows=True, check_table="t")
    if text.startswith("show search_path"):
        is_wide = text.endswith("wide")
        return StatementPlan(verb, (), "", "", (), (), (), "select path", tag="SHOW", clean_errors=not is_wide)
    if verb == "SET":
        return StatementPlan(
            verb, (), "", "", (), (), (), text, kind=StatementKind.SETTING, settings=(text.split()[1],)
        )
    return StatementPlan(verb, (), "", "", (), (), (), text, clean_errors=not text.endswith("wide"))


class Session(RequestSide):
    """The two sides without sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = Transport()
        self.log = Log()
        self.upstream = Upstream()
        self.pool = Pool(self.upstream)  # type: ignore[assignment] # a fake
        self.output = ClientOutput(self.transport, self.log, self._lost)  # type: ignore[arg-type] # fakes
        self.guard = Guard()  # type: ignore[assignment] # a fake
        self.recorder = Recorder(self.log)  # type: ignore[assignment] # a fake
        parts = {"clock": staticmethod(lambda: 0.0), "metrics": Metrics(), "audit": self.log}
        self.environment = type("Environment", (), parts)  # type: ignore[assignment] # a fake
        self.database = type("Database", (), {"is_behind": False})  # type: ignore[assignment] # a fake
        self.search_path = ("public",)
        self.frames = FrameBuffer()
        self.frames.limit_statements(65536)
        self.ended: FaucetError | None = None
        self.cancelled = 0
        self.lost: list[str] = []

    is_closed = False  # type: ignore[assignment] # never, here

    def _lost(self, error: FaucetError) -> None:
        self.ended = error

    def next_frame(self) -> bytes | None:
        return self.frames.next_frame()

    def end_session(self, error: FaucetError | None) -> None:
        self.ended = error

    def release(self) -> None:
        self.connection = None
        self.pool.is_lent = False  # type: ignore[attr-defined] # a fake

    def lose_connection(self, reason: str) -> None:
        self.lost.append(reason)

    def cancel_running(self) -> None:
        self.cancelled += 1

    def check_rate(self) -> None:
        pass

    def follow_idle_timeout(self) -> None:
        pass

    # -- the script --------------------------------------------------------------------------------------------------------------

    def client(self, *frames: bytes) -> bytes:
        """Send frames as the client; return what the server is sent."""
        self.frames.feed(b"".join(frames))
        self.pump()
        return self.upstream.take()

    def server(self, *frames: bytes) -> bytes:
        """Send frames as the server; return what the client is sent."""
        self.upstream_data(b"".join(frames))
        return self.take()

    def take(self) -> bytes:
        sent, self.transport.sent = self.transport.sent, b""
        return sent


@pytest.fixture
def session() -> Session:
    return Session()
