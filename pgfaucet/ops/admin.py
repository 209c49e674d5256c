"""/metrics, /healthz and /readyz over HTTP, on the admin address only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.ops.metrics import Metrics


async def start_admin(host: str, port: int, metrics: Metrics, why_not_ready: Callable[[], str | None]) -> web.AppRunner:
    """Listen; `why_not_ready` returns None when statements can be served. Raises OSError when the address can't be had."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        problem = why_not_ready()
        return web.Response(text="ok\n") if problem is None else web.Response(text=f"{problem}\n", status=503)

    application = web.Application()
    application.add_routes(
        [web.get("/metrics", show_metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
