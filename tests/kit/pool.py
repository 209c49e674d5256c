"""A pool whose clock and server are the test's, and sessions that notice when they are treated wrongly."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from pgfaucet.errors import FaucetError
from pgfaucet.upstream.connection import UpstreamConnection
from pgfaucet.upstream.dsn import Host
from pgfaucet.upstream.pool import Pool

IDLE_TIMEOUT, MAX_LIFETIME, WAIT_TIMEOUT = 60.0, 500.0, 10.0
REFUSED = FaucetError("08006", "could not connect to the server", reason="nobody listens")


class Transport:
    """As much of asyncio's as a connection uses."""

    def __init__(self) -> None:
        self.is_closed = False

    def write(self, data):
        assert not self.is_closed

    def close(self):
        self.is_closed = True

    def is_closing(self):
        return self.is_closed


class Dial:
    """Where a connect waits until the test says how it went."""

    def __await__(self):
        return (yield)


class Lessee:
    """A session as the pool sees it."""

    def __init__(self, stage: PoolStage, *, leaves_at_once=False) -> None:
        self.stage = stage
        self.leaves_at_once = leaves_at_once
        self.connection = None
        self.error = None

    def arrive(self) -> Lessee:
        self.stage.queue.append(self)
        connection = self.stage.pool.acquire(self)
        if connection is not None:
            self.lease_granted(connection)
        return self

    def lease_granted(self, connection):
        assert self.stage.queue.popleft() is self, "not the one who waits longest"
        assert connection.lessee is self
        assert connection.is_reusable
        assert connection not in self.stage.leases, "leased twice"
        self.stage.leases[connection] = self
        self.connection = connection
        if self.leaves_at_once:
            self.leave()

    def lease_failed(self, error):
        assert self.stage.queue.popleft() is self, "not the one who waits longest"
        self.error = error

    def leave(self):
        connection, self.connection = self.connection, None
        del self.stage.leases[connection]
        self.stage.pool.release(connection)

    def give_up(self):
        connection, self.connection = self.connection, None
        del self.stage.leases[connection]
        self.stage.pool.discard(connection, "given up")

    def stop_waiting(self):
        self.stage.queue.remove(self)
        self.stage.pool.cancel_wait(self)

    def upstream_lost(self, reason):
        del self.stage.leases[self.connection]
        self.connection = None


class PoolStage:
    """A pool whose clock and server are the test's."""

    def __init__(self, size=2, min_size=0) -> None:
        self.now = 1000.0
        self.size = size
        self.min_size = min_size
        self.dials = []  # connects under way
        self.made = []
        self.queue = deque()  # who waits, in order
        self.leases = {}
        self.pool = Pool(
            self._connect,
            mode="transaction",
            size=size,
            min_size=min_size,
            idle_timeout=IDLE_TIMEOUT,
            max_lifetime=MAX_LIFETIME,
            wait_timeout=WAIT_TIMEOUT,
            clock=lambda: self.now,
            spawn=self.dials.append,
        )

    async def _connect(self):
        return await Dial()

    def connected(self, which=0):
        """Let a connect succeed."""
        connection = UpstreamConnection(Host("h", 5432), lambda: self.now)
        connection.connection_made(Transport())
        self.made.append(connection)
        dial = self.dials.pop(which)
        dial.send(None)
        with suppress(StopIteration):
            dial.send(connection)
        return connection

    def refused(self, error=REFUSED, which=0):
        """Let a connect fail."""
        dial = self.dials.pop(which)
        dial.send(None)
        with suppress(StopIteration):
            dial.throw(error)

    def lessee(self, **options):
        return Lessee(self, **options).arrive()

    def serve(self, count=1):
        """Lend out so many new connections."""
        lessees = [self.lessee() for _ in range(count)]
        for _ in range(count):
            self.connected()
        return lessees

    def wait(self, seconds):
        self.now += seconds
        self.pool.tend()

    def close(self):
        self.pool.close()
        for dial in self.dials:
            dial.close()

    @property
    def open(self):
        return [connection for connection in self.made if not connection.transport.is_closed]

    @property
    def counts(self):
        found = self.pool.counts()
        return found.idle, found.active, found.waiting
