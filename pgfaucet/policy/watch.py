"""Reloads the policy directory on SIGHUP and when a file in it changes. A directory with an error in it changes nothing but the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.policy import loader
from pgfaucet.policy.loader import Loaded, PolicyErrors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 0.2  # an editor writes a file in several steps
LOOK_MILLISECONDS: Final = 5_000  # file systems that forget to tell
POLL_SECONDS: Final = 2.0  # where the system tells of no changes

Signature = tuple[tuple[str, int, int, int], ...]


class PolicyWatcher:
    """Calls back with each new version of a policy directory, or with what is wrong with it; the old one then stays in force."""

    def __init__(
        self,
        directory: Path,
        on_loaded: Callable[[Loaded], None],
        on_errors: Callable[[PolicyErrors], None],
        *,
        load: Callable[[Path], Loaded] = loader.load,
    ) -> None:
        """`load` runs in a thread; it is what the first load was done with."""
        self._directory = directory
        self._on_loaded = on_loaded
        self._on_errors = on_errors
        self._load = load
        self._seen = signature(directory)
        self._wanted = asyncio.Event()
        self._is_forced = False

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        before = signal.getsignal(signal.SIGHUP)
        loop.add_signal_handler(signal.SIGHUP, self.reload_soon)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_files())
                group.create_task(self._reload_when_wanted())
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, before)  # not always the default: nohup ignores it

    def reload_soon(self) -> None:
        """Reload, even if no file looks different."""
        self._is_forced = True
        self._wanted.set()

    async def reload_if_changed(self) -> None:
        """Load the directory if it was asked for or a file looks different, and call back."""
        seen = await asyncio.to_thread(signature, self._directory)
        if seen == self._seen and not self._is_forced:
            return
        self._seen, self._is_forced = seen, False
        result: Loaded | PolicyErrors
        try:
            result = await asyncio.to_thread(self._load, self._directory)
        except PolicyErrors as errors:
            result = errors
        if await asyncio.to_thread(signature, self._directory) != seen:
            self.reload_soon()  # somebody was writing meanwhile: what was read may be half of it
        elif isinstance(result, PolicyErrors):
            self._on_errors(result)
        else:
            self._on_loaded(result)

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._wanted.clear()
            await self.reload_if_changed()

    async def _follow_files(self) -> None:
        async for _ in changes(self._directory):
            self._wanted.set()


async def changes(directory: Path) -> AsyncIterator[None]:
    """Yield whenever a policy file may have changed: as the system tells, else at intervals."""
    with contextlib.suppress(ImportError):
        from watchfiles import awatch

        try:
            async for _ in awatch(
                directory,
                watch_filter=_is_policy_file,
                recursive=False,
                debounce=400,
                rust_timeout=LOOK_MILLISECONDS,
                yield_on_timeout=True,
            ):
                yield
        except (OSError, RuntimeError) as problem:  # no inotify left, or the directory is gone
            logger.warning("cannot be told of changes in %s (%s): looking every %g s", directory, problem, POLL_SECONDS)
    while True:
        await asyncio.sleep(POLL_SECONDS)
        yield


def signature(directory: Path) -> Signature:
    """Return what tells one state of the policy files from another without reading them."""
    try:
        stats = [(path.name, path.stat()) for path in loader.policy_files(directory)]
    except OSError:
        return ()
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _is_policy_file(_change: Any, path: str) -> bool:
    """Leave out what the proxy itself writes there. Kubernetes swaps the link ..data, to which the files are links."""
    name = path.rpartition("/")[2]
    return name.endswith(tuple(loader.SUFFIXES)) or name.startswith("..")
