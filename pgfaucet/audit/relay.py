"""Carries audit records and checkpoints to other places too, once they are in the log: best effort, bounded, never in the log's way.

One thread with an event loop serves all of them. A place that is slow or dead keeps at most BUFFER_BYTES waiting; then the oldest are dropped,
counted and told. What a place has missed is in the log.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgfaucet.audit import formats
from pgfaucet.audit.outlets import FAILURES, Rejected, open_outlet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgfaucet.audit.outlets import Outlet
    from pgfaucet.config import SinkConfig

logger = logging.getLogger(__name__)

BUFFER_BYTES: Final = 16 << 20
BATCH_LINES: Final = 500
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0


@dataclass(slots=True)
class Counts:
    """What became of lines so far."""

    sent: int = 0
    dropped: int = 0
    waiting: int = 0
    is_failing: bool = False


class Relay:
    """One other place. `offer` may be called from any thread."""

    def __init__(self, config: SinkConfig, source: str, outlet: Outlet | None = None) -> None:
        """`source` names the log in what is sent."""
        self.name = config.name
        self.counts = Counts()
        self._what = config.what
        self._format = formats.FORMATS[config.format]
        self._source = source
        self._outlet = outlet if outlet is not None else open_outlet(config, source)
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._has_lines = asyncio.Event()
        self._is_stopping = asyncio.Event()

    def wants(self, kind: str) -> bool:
        """Whether `records` or `checkpoints` go there."""
        return self._what in ("all", kind)

    def offer(self, lines: Sequence[bytes]) -> None:
        """Take lines; drop the oldest if too many wait."""
        with self._lock:
            self._lines.extend(lines)
            self._bytes += sum(map(len, lines))
            while self._bytes > BUFFER_BYTES:
                self._bytes -= len(self._lines.popleft())
                self.counts.dropped += 1
            self.counts.waiting = len(self._lines)

    def wake(self) -> None:
        """Look for lines. In the relays' loop."""
        self._has_lines.set()

    def stop(self) -> None:
        """Send what is there, and end; a place that fails now is not tried again. In the relays' loop."""
        self._is_stopping.set()
        self._has_lines.set()

    async def run(self) -> None:
        """Send what comes, until `stop`, and let go of the place."""
        try:
            while not self._is_stopping.is_set() or self._lines:
                await self._has_lines.wait()
                self._has_lines.clear()
                while batch := self._take():
                    if not await self._try(batch):
                        return
        finally:
            await self._outlet.close()

    async def _try(self, batch: list[bytes]) -> bool:
        """Deliver a batch; False if it is the end."""
        try:
            return await self._deliver(batch)
        except Exception:
            logger.exception("audit records that cannot be sent to %s are left out", self.name)
            self.counts.dropped += len(batch)
        return True

    def _take(self) -> list[bytes]:
        with self._lock:
            batch = [self._lines.popleft() for _ in range(min(BATCH_LINES, len(self._lines)))]
            self._bytes -= sum(map(len, batch))
            self.counts.waiting = len(self._lines)
        return batch

    async def _deliver(self, batch: list[bytes]) -> bool:
        """Send a batch; try again until it is taken, or it is the end: False."""
        made = [text for text in (self._format(line, self._source) for line in batch) if text]
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if made:
                    await self._outlet.send(made)
            except Rejected as problem:
                return await self._deliver_singly(batch, problem)
            except FAILURES as problem:
                if self._is_stopping.is_set():
                    logger.error("the last audit records did not reach %s; they are in the log", self.name)  # noqa: TRY400 - expected
                    return False
                if not self.counts.is_failing:
                    logger.error("audit records do not reach %s: %s", self.name, str(problem) or type(problem).__name__)  # noqa: TRY400 - expected
                self.counts.is_failing = True
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_stopping.wait(), pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                break
        if self.counts.is_failing:
            logger.warning("audit records reach %s again; %d were dropped so far", self.name, self.counts.dropped)
        self.counts.is_failing = False
        self.counts.sent += len(batch)
        return True

    async def _deliver_singly(self, batch: list[bytes], problem: Rejected) -> bool:
        """Leave out what the place does not take; False if it is the end."""
        if len(batch) == 1:
            logger.error("an audit record is left out at %s: %s", self.name, problem)
            self.counts.dropped += 1
            return True
        for line in batch:
            if not await self._deliver([line]):
                return False
        return True


class Relays:
    """All other places of one log, and their thread."""

    def __init__(self, configs: Sequence[SinkConfig], source: str) -> None:
        """Start the thread, if there is any place."""
        self.relays: list[Relay] = []
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._configs = configs
        self._source = source
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="pgfaucet-relays", daemon=True)
        if configs:
            self._thread.start()
            self._ready.wait()

    def records(self, lines: Sequence[bytes]) -> None:
        """Offer records that are in the log."""
        self._offer("records", lines)

    def checkpoint(self, line: bytes) -> None:
        """Offer a checkpoint that is on disk."""
        self._offer("checkpoints", [line])

    def close(self) -> None:
        """Send what is left, for CLOSE_SECONDS at most."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CLOSE_SECONDS + 1)

    def _offer(self, kind: str, lines: Sequence[bytes]) -> None:
        if self._loop is None:
            return
        wanted = [relay for relay in self.relays if relay.wants(kind)]
        for relay in wanted:
            relay.offer(lines)
            self._loop.call_soon_threadsafe(relay.wake)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.relays = [Relay(config, self._source) for config in self._configs]
        self._ready.set()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(relay.run()) for relay in self.relays]
            await self._stop.wait()
            for relay in self.relays:
                relay.stop()
            _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
