"""The running proxy: listeners, databases, reload, drain. Everything is wired together here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import socket
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop
from cryptography.exceptions import UnsupportedAlgorithm
from typing_extensions import override

from pgfaucet.audit.sink import AuditLog
from pgfaucet.auth import signed
from pgfaucet.auth.jwks import SsoVerifier
from pgfaucet.auth.revocation import TokenWatcher
from pgfaucet.auth.stores import open_store
from pgfaucet.auth.throttle import Throttle
from pgfaucet.config import TcpAddress
from pgfaucet.database import Database
from pgfaucet.listener import Listener, Peer, certificate_hash, make_tls_context
from pgfaucet.ops.admin import start_site
from pgfaucet.ops.metrics import Metrics, counter, gauge
from pgfaucet.policy.loader import PolicyErrors, load
from pgfaucet.policy.watch import PolicyWatcher
from pgfaucet.session.client import ClientSession
from pgfaucet.session.environment import Environment
from pgfaucet.upstream.connection import connect, connect_catalog
from pgfaucet.upstream.password import target_of
from pgfaucet.upstream.pool import JANITOR_SECONDS, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from aiohttp.web import AppRunner
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from prometheus_client.metrics_core import Metric

    from pgfaucet.config import AuditConfig, Config, DatabaseConfig
    from pgfaucet.policy.loader import Loaded

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 30.0
MAX_CANCEL_BYTES: Final = 512


WORKER_VARIABLE: Final = "PGFAUCET_WORKER"
"""Tells a process in its environment which worker it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of several workers a process is, and the directory of sockets where they meet."""

    index: int = 0
    count: int = 1
    meeting: Path | None = None

    @classmethod
    def from_environment(cls) -> Place:
        """Read what `worker.Parent` has written; one process alone without it."""
        text = os.environ.get(WORKER_VARIABLE)
        if text is None:
            return cls()
        numbers, _, meeting = text.partition(":")
        index, _, count = numbers.partition("/")
        return cls(int(index), int(count), Path(meeting))

    @override
    def __str__(self) -> str:
        return f"{self.index}/{self.count}:{self.meeting}"

    @property
    def admin_socket(self) -> Path:
        """Where this worker tells of itself."""
        return (self.meeting or Path()) / f"{self.index}.admin"

    def cancel_socket(self, index: int) -> Path:
        """Where a worker takes cancel requests that reached another one."""
        return (self.meeting or Path()) / f"{index}.cancel"

    def share(self, whole: int) -> int:
        """Return this worker's part of something that all have together; at least 1."""
        return max(1, whole // self.count + (self.index < whole % self.count))

    def own_file(self, path: Path) -> Path:
        """Return this worker's file beside the first one's: audit.jsonl, audit.1.jsonl, ..."""
        return path if self.index == 0 else path.with_name(f"{path.stem}.{self.index}{path.suffix}")


class Server:
    """One proxy process."""

    def __init__(self, directory: Path, load: Callable[[Path], Loaded], place: Place) -> None:
        """Load the directory; raises PolicyErrors."""
        self.directory = directory
        self.place = place
        self._load = load
        self._loaded = load(directory)
        self.config: Config = self._loaded.config
        self.metrics = Metrics()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []
        self._stopping = asyncio.Event()
        self._cancels: CancelSocket | None = None

    # -- life --------------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises OSError when an address can't be had."""
        loop = asyncio.get_running_loop()
        self._set_up(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._shut)
        loop.add_signal_handler(signal.SIGUSR2, self._open)
        await self._listen()
        server = self.config.server
        admin = await self._start_admin()
        logger.info(
            "ready: policy version %s, listening on %s",
            self._loaded.policy.version[:12],
            ", ".join(map(str, server.listen)),
        )
        await self._stopping.wait()
        await self._drain()
        if admin is not None:
            await admin.cleanup()
        if self._cancels is not None:
            self._cancels.close()
        await self._close()

    async def _start_admin(self) -> AppRunner | None:
        """Tell of this process: on the admin address, or to the parent of several workers."""
        address = self.config.server.admin
        where: tuple[str, int] | Path | None = (address.host, address.port) if address is not None else None
        if self.place.meeting is not None:
            where = self.place.admin_socket
        if where is None:
            return None

        async def metrics() -> bytes:
            return self.metrics.render()

        async def why_not_ready() -> str | None:
            return self.why_not_ready()

        return await start_site(where, metrics, why_not_ready)

    def _set_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the log and the token store, and start what runs beside the sessions."""
        server = self.config.server
        self.audit = AuditLog.open(self._own(server.audit), loop)
        store = open_store(server.tokens, time.time)
        watcher = TokenWatcher(store, clock=time.time)
        databases = {name: self._database(settings) for name, settings in self.config.databases.items()}
        self.environment = Environment(
            loop=loop,
            spawn=self.spawn,
            clock=time.perf_counter,
            now=time.time,
            random_bytes=secrets.token_bytes,
            databases=databases,
            policy=self._loaded.policy,
            tokens=store,
            token_watcher=watcher,
            sso=SsoVerifier(
                {each.issuer: each for each in server.sso},
                now=time.time,
                clock=time.monotonic,
                own_keys=signed.named(map(_signer, server.tokens.signed_by)),
                own_max_ttl=server.tokens.max_ttl,
            ),
            oauth=tuple(each for each in server.sso if each.oauth_users),
            throttle=Throttle(server.throttle),
            audit=self.audit,
            metrics=self.metrics,
            worker=self.place.index,
            workers=self.place.count,
            mock_secret=store.mock_secret,
            channel_binding=certificate_hash(server.tls.cert) if server.tls is not None else None,
        )
        self.metrics.gauges = self._samples
        for database in databases.values():
            self.spawn(database.follow_catalog())
        self.spawn(self._tend_pools())
        self.spawn(watcher.run())
        self.spawn(PolicyWatcher(self.directory, self._reloaded, self._not_reloaded, load=self._load).run())

    def _own(self, audit: AuditConfig) -> AuditConfig:
        """Give each worker files of its own."""
        sinks = tuple(
            replace(each, to=f"file:{self.place.own_file(Path(each.to.removeprefix('file:')))}")
            if each.to.startswith("file:")
            else each
            for each in audit.sinks
        )
        return replace(audit, file=self.place.own_file(audit.file), sinks=sinks)

    async def _listen(self) -> None:
        server = self.config.server
        context = make_tls_context(server.tls) if server.tls is not None else None
        if self.place.meeting is not None:
            self._cancels = CancelSocket(self.place, self._cancel_own)
        for address in server.listen:
            if self.place.index > 0 and not isinstance(address, TcpAddress):
                continue  # a Unix-domain socket is one worker's
            listener = Listener(
                address,
                self._new_session,
                self._cancel,
                tls=context,
                tls_required=server.tls is not None and server.tls.required,
                spawn=self.spawn,
                is_shared=self.place.count > 1,
            )
            listener.start()
            self._listeners.append(listener)

    async def _drain(self) -> None:
        """Take no new client, let open transactions finish, then end every session with 57P01."""
        logger.info("stopping: waiting for open transactions")
        for listener in self._listeners:
            listener.close()
        self.environment.is_draining = True
        for session in tuple(self.environment.sessions):
            if session.is_idle:
                session.shut_down()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.environment.sessions and time.monotonic() < deadline:  # noqa: ASYNC110 - ends once
            await asyncio.sleep(0.02)
        for session in tuple(self.environment.sessions):
            session.shut_down()

    def _shut(self) -> None:
        """Refuse everything at once: every session ends, nobody logs in."""
        self.environment.is_shut = True
        self.audit.append_event(None, "shut", None, "SIGUSR1", None)
        ended = tuple(self.environment.sessions)
        for session in ended:
            session.shut_down()
        logger.warning("shut by SIGUSR1: %d sessions ended, nobody gets in until SIGUSR2 or a restart", len(ended))

    def _open(self) -> None:
        """Let clients in again."""
        self.environment.is_shut = False
        self.audit.append_event(None, "opened", None, "SIGUSR2", None)
        logger.warning("opened by SIGUSR2: clients get in again")

    async def _close(self) -> None:
        for database in self.environment.databases.values():
            database.pool.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self.audit.close)
        self.environment.tokens.close()
        logger.info("stopped")

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task that is kept, and whose crash is reported."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task failed: %s", task, exc_info=task.exception())

    # -- clients -----------------------------------------------------------------------------------------------------------------

    def _new_session(self, peer: Peer) -> ClientSession:
        return ClientSession(self.environment, peer)

    def _cancel(self, pid: int, key: bytes) -> None:
        """Take a CancelRequest: the process id tells whose session it is."""
        if self._cancels is not None and pid % self.place.count != self.place.index:
            self._cancels.pass_on(pid, key)
        else:
            self._cancel_own(pid, key)

    def _cancel_own(self, pid: int, key: bytes) -> None:
        found = self.environment.cancel_keys.get(pid)
        if found is not None and secrets.compare_digest(found[0], key):
            found[1].cancel()

    async def _tend_pools(self) -> None:
        while True:
            await asyncio.sleep(JANITOR_SECONDS)
            for database in self.environment.databases.values():
                database.pool.tend()

    # -- databases and policy ----------------------------------------------------------------------------------------------------

    def _database(self, settings: DatabaseConfig) -> Database:
        target = target_of(settings)
        pool = Pool(
            lambda: connect(target, time.monotonic),
            mode=settings.pool.mode,
            size=self.place.share(settings.pool.size),
            min_size=min(settings.pool.min, self.place.share(settings.pool.min)),
            idle_timeout=settings.pool.idle_timeout,
            max_lifetime=settings.pool.max_lifetime,
            wait_timeout=settings.pool.wait_timeout,
            clock=time.monotonic,
            spawn=self.spawn,
        )
        return Database(settings.name, pool, lambda: connect_catalog(target))

    def _reloaded(self, loaded: Loaded) -> None:
        if loaded.config != self.config:
            logger.warning("server and databases settings changed on disk: they take effect at the next start")
        self._loaded = loaded
        self.environment.policy = loaded.policy
        for database in self.environment.databases.values():
            database.invalidate()
        self.audit.append_event(None, "policy_loaded", None, f"version {loaded.policy.version[:12]}", None)
        logger.info("policy reloaded: version %s", loaded.policy.version[:12])

    def _not_reloaded(self, errors: PolicyErrors) -> None:
        for error in errors.problems:
            logger.error("policy not reloaded: %s", error)
        logger.error("the policy in force is still version %s", self.environment.policy.version[:12])

    # -- what operators see ------------------------------------------------------------------------------------------------------

    def why_not_ready(self) -> str | None:
        """Say what keeps statements from being served, if anything does."""
        if self._stopping.is_set():
            return "stopping"
        if self.environment.is_shut:
            return "shut by its operator"
        if not self.audit.is_healthy:
            return "the audit log cannot be written"
        for database in self.environment.databases.values():
            if database.catalog is None:
                return f"database {database.name}: {database.unreachable_because}"
        return None

    def _samples(self) -> Iterable[Metric]:
        databases = self.environment.databases
        clients: dict[tuple[str, ...], float] = {(name,): 0 for name in databases}
        for session in self.environment.sessions:
            if session.is_counted:
                clients[session.database.name,] += 1
        states: dict[tuple[str, ...], float] = {}
        waits: dict[tuple[str, ...], float] = {}
        hits = misses = 0
        for name, database in databases.items():
            counts = database.pool.counts()
            states.update(
                {(name, "idle"): counts.idle, (name, "active"): counts.active, (name, "waiting"): counts.waiting}
            )
            waits[name,] = counts.wait_seconds
            hits += database.epoch.hits
            misses += database.epoch.misses
        return (
            gauge("pgfaucet_client_connections", "Clients logged in.", ("database",), clients),
            gauge("pgfaucet_upstream_connections", "Connections to the server.", ("database", "state"), states),
            counter(
                "pgfaucet_pool_wait_seconds", "Seconds that clients waited for a connection.", ("database",), waits
            ),
            counter("pgfaucet_audit_records", "Audit records written.", (), {(): self.audit.appended}),
            gauge("pgfaucet_audit_lag_records", "Audit records not yet on disk.", (), {(): self.audit.lag}),
            *self._sink_samples(),
            counter(
                "pgfaucet_plan_cache",
                "Statements by whether they were decided before.",
                ("result",),
                {("hit",): hits, ("miss",): misses},
            ),
            gauge(
                "pgfaucet_policy_info",
                "The policy in force.",
                ("version",),
                {(self.environment.policy.version[:12],): 1},
            ),
        )

    def _sink_samples(self) -> Iterable[Metric]:
        counts = {relay.name: relay.counts for relay in self.audit.relays}
        lines: dict[tuple[str, ...], float] = {(name, "sent"): each.sent for name, each in counts.items()}
        lines |= {(name, "dropped"): each.dropped for name, each in counts.items()}
        waiting: dict[tuple[str, ...], float] = {(name,): each.waiting for name, each in counts.items()}
        up: dict[tuple[str, ...], float] = {(name,): not each.is_failing for name, each in counts.items()}
        return (
            counter("pgfaucet_audit_sink_lines", "Audit lines for other places.", ("sink", "result"), lines),
            gauge("pgfaucet_audit_sink_waiting", "Audit lines that wait for another place.", ("sink",), waiting),
            gauge("pgfaucet_audit_sink_up", "Whether another place takes audit lines.", ("sink",), up),
        )


class CancelSocket:
    """Where a worker takes cancel requests that reached another one, and passes on those that are not its own."""

    def __init__(self, place: Place, cancel: Callable[[int, bytes], None]) -> None:
        """`cancel` takes process id and key."""
        self._place = place
        self._cancel = cancel
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        place.cancel_socket(place.index).unlink(missing_ok=True)
        self._socket.bind(str(place.cancel_socket(place.index)))
        asyncio.get_running_loop().add_reader(self._socket, self._take)

    def pass_on(self, pid: int, key: bytes) -> None:
        """Send a cancel request to the worker whose session it names; as any of them, it may get lost."""
        where = self._place.cancel_socket(pid % self._place.count)
        with contextlib.suppress(OSError):
            self._socket.sendto(struct.pack("!I", pid & 0xFFFFFFFF) + key, str(where))

    def close(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            data = self._socket.recv(MAX_CANCEL_BYTES)
            if len(data) > struct.calcsize("!I"):
                self._cancel(struct.unpack_from("!I", data)[0], data[4:])


def _allow_many_connections() -> None:
    """Use as many descriptors as the system lets this process have: each client is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _signer(path: Path) -> Ed25519PublicKey:
    """Read the public key of somebody who may sign tokens. Raises OSError."""
    try:
        return signed.read_public(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        raise OSError(f"{path}: this is no Ed25519 public key in PEM; run `pgfaucet token keygen` for one") from None


def load_policy(directory: Path, listen: str | None, workers: int | None) -> Loaded:
    """Load a policy directory; `listen` and `workers` override what it says. Raises PolicyErrors."""
    return load(directory, listen=listen, workers=workers)


def serve(directory: Path, *, listen: str | None = None, workers: int | None = None) -> None:
    """Load the policy directory and serve it with this process; `listen` and `workers` override what it says.

    Raises PolicyErrors and OSError.
    """
    _allow_many_connections()
    place = Place.from_environment()
    server = Server(directory, lambda path: load_policy(path, listen, workers), place)
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.run())
