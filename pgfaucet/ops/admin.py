"""/metrics, /healthz and /readyz over HTTP, on the admin address only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


async def start_site(
    where: tuple[str, int] | Path,
    metrics: Callable[[], Awaitable[bytes]],
    why_not_ready: Callable[[], Awaitable[str | None]],
) -> web.AppRunner:
    """Listen on an address or a Unix-domain socket; `why_not_ready` returns None when statements can be served.

    Raises OSError when the address can't be had.
    """

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        problem = await why_not_ready()
        return web.Response(text="ok\n") if problem is None else web.Response(text=f"{problem}\n", status=503)

    application = web.Application()
    application.add_routes(
        [web.get("/metrics", show_metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, *where) if isinstance(where, tuple) else web.UnixSite(runner, str(where))
    await site.start()
    return runner
