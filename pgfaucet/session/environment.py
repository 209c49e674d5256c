"""What a session needs of the process it lives in. Built once by `server`; sessions keep a reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgfaucet.session.connections import Connections

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from typing import Any

    from pgfaucet.audit.sink import AuditLog
    from pgfaucet.auth.jwks import SsoVerifier
    from pgfaucet.auth.revocation import TokenWatcher
    from pgfaucet.auth.store import TokenStore
    from pgfaucet.auth.throttle import Throttle
    from pgfaucet.config import SsoConfig
    from pgfaucet.database import Database
    from pgfaucet.ops.metrics import Metrics
    from pgfaucet.policy.model import Policy
    from pgfaucet.session.client import ClientSession


@dataclass
class Environment:
    """The process around a session."""

    loop: asyncio.AbstractEventLoop
    spawn: Callable[[Coroutine[Any, Any, None]], None]  # keeps a reference and reports crashes
    clock: Callable[[], float]  # monotonic seconds
    now: Callable[[], float]  # Unix seconds
    random_bytes: Callable[[int], bytes]
    databases: dict[str, Database]
    policy: Policy
    tokens: TokenStore
    token_watcher: TokenWatcher
    sso: SsoVerifier
    oauth: tuple[SsoConfig, ...]  # the providers whose users are asked for OAUTHBEARER
    throttle: Throttle
    audit: AuditLog
    metrics: Metrics
    mock_secret: bytes  # of the token store, for SCRAM with unknown names
    channel_binding: bytes | None  # tls-server-end-point of our certificate
    worker: int = 0  # which of
    workers: int = 1  # so many processes this is: a process id that a client is told leads to its worker
    authentication_timeout: float = 60.0
    is_draining: bool = False
    is_shut: bool = False  # by its operator: nobody gets in
    sessions: set[ClientSession] = field(default_factory=set)
    cancel_keys: dict[int, tuple[bytes, ClientSession]] = field(default_factory=dict)  # by pid
    connections: Connections = field(default_factory=Connections)
