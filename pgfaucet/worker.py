"""Several processes on one listener: a parent that starts workers, starts them again when they fall, and speaks for them.

Each worker is a whole proxy with its share of the pool and an audit log of its own; the system spreads new clients over them
(SO_REUSEPORT). They meet in a private directory of sockets: a CancelRequest that reached another worker is passed on there, and the parent
asks there for metrics and readiness.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import uvloop

from pgfaucet.config import TcpAddress
from pgfaucet.ops.admin import start_site
from pgfaucet.ops.merge import merge_metrics
from pgfaucet.server import WORKER_VARIABLE, Place, load_policy

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

    from pgfaucet.config import ServerConfig

logger = logging.getLogger(__name__)

RESTART_SECONDS: Final = 1.0
ASK_SECONDS: Final = 3.0
DIED_EARLY: Final = 3  # exit code of a worker that could not start


class Parent:
    """Runs the workers of one proxy."""

    def __init__(self, server: ServerConfig, count: int, command: Sequence[str]) -> None:
        """`command` starts a worker, given its place in the environment."""
        self._server = server
        self._count = count
        self._command = command
        self._meeting = Path(tempfile.mkdtemp(prefix="pgfaucet-"))
        self._processes: dict[int, Process] = {}
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code. Raises OSError when an address can't be had."""
        loop = asyncio.get_running_loop()
        for address in self._server.listen:
            if isinstance(address, TcpAddress):
                _check_free(address)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, self._tell, number)
        admin = None
        try:
            if self._server.admin is not None:
                where = (self._server.admin.host, self._server.admin.port)
                admin = await start_site(where, self._metrics, self._why_not_ready)
            async with asyncio.TaskGroup() as group:
                for index in range(self._count):
                    group.create_task(self._keep(index))
        finally:
            if admin is not None:
                await admin.cleanup()
            shutil.rmtree(self._meeting, ignore_errors=True)
        return self._exit_code

    async def _keep(self, index: int) -> None:
        """Keep one worker running."""
        place = Place(index, self._count, self._meeting)
        while not self._stopping.is_set():
            process = await asyncio.create_subprocess_exec(
                *self._command, env={**os.environ, WORKER_VARIABLE: str(place)}, start_new_session=True
            )
            self._processes[index] = process
            code = await process.wait()
            if self._stopping.is_set():
                return
            if code == DIED_EARLY:
                self._exit_code = code
                self._stop()
                return
            logger.error("worker %d ended with exit code %d: starting it again", index, code)
            await asyncio.sleep(RESTART_SECONDS)

    def _stop(self) -> None:
        self._stopping.set()
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(number)

    # -- speaking for them -------------------------------------------------------------------------------------------------------

    async def _ask(self, index: int, path: str) -> tuple[int, str]:
        connector = aiohttp.UnixConnector(str(Place(index, self._count, self._meeting).admin_socket))
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(f"http://worker{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            return 0, f"no answer ({type(problem).__name__})"

    async def _metrics(self) -> bytes:
        answers = await asyncio.gather(*(self._ask(index, "/metrics") for index in range(self._count)))
        return merge_metrics(text for status, text in answers if status == 200).encode()

    async def _why_not_ready(self) -> str | None:
        answers = await asyncio.gather(*(self._ask(index, "/readyz") for index in range(self._count)))
        for index, (status, text) in enumerate(answers):
            if status != 200:
                return f"worker {index}: {text.strip()}"
        return None


def _check_free(address: TcpAddress) -> None:
    """Raise OSError when somebody else listens there: workers share the address, and would share it with strangers too."""
    family, _, _, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as problem:
            raise OSError(problem.errno, f"cannot listen on {address}: {os.strerror(problem.errno or 0)}") from None


def serve_with_workers(
    directory: Path, *, listen: str | None = None, workers: int | None = None, log_format: str = "text"
) -> int:
    """Serve a policy directory with as many processes as it says; return the exit code. Raises PolicyErrors and OSError."""
    server = load_policy(directory, listen, workers).config.server
    count = server.workers or os.cpu_count() or 1
    command = [
        sys.executable,
        "-m",
        "pgfaucet",
        "run",
        "-c",
        str(directory),
        "--log-format",
        log_format,
        "--workers",
        str(count),
    ]
    if listen is not None:
        command += ["--listen", listen]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Parent(server, count, command).run())
