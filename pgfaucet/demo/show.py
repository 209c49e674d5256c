"""`pgfaucet demo` from start to end: fetch what is missing, set the stage, give the tour, stay up until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

from pgfaucet.demo.binaries import ensure_binaries
from pgfaucet.demo.postgres import PostgresUnavailable
from pgfaucet.demo.proxy import ProxyUnavailable
from pgfaucet.demo.screen import Screen
from pgfaucet.demo.stage import DATABASE, Stage, shown_path
from pgfaucet.demo.tour import TENANT, Tour

if TYPE_CHECKING:
    from types import FrameType

DONE: Final = 0
DID_NOT_BEHAVE: Final = 1
ENVIRONMENT: Final = 3
INTERRUPTED: Final = 130


def run_demo(*, tour_only: bool) -> int:
    """Run the demo and return the exit code. Leaves no process and no file behind, however it ends."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    screen = Screen()
    toured = False
    try:
        screen.title("pgfaucet: a guided tour")
        ensure_binaries(screen)
        with Stage(screen) as stage:
            toured = Tour(stage).run()
            if tour_only or not toured:
                return DONE if toured else DID_NOT_BEHAVE
            return _stay_up(stage)
    except KeyboardInterrupt:
        screen.blank()
        screen.say("Stopped; nothing was left behind.")
        return DONE if toured else INTERRUPTED
    except (PostgresUnavailable, ProxyUnavailable) as problem:
        print(f"pgfaucet: {problem}", file=sys.stderr)
        return ENVIRONMENT


def _stay_up(stage: Stage) -> int:
    minted = stage.mint(role="support-agent", label="demo:you", tenant=TENANT)
    proxy, screen = stage.proxy, stage.screen
    policies = shown_path(stage.policies)
    screen.heading("Your turn")
    screen.say("The demo stays up. This DSN works in psql, in any driver and in any ORM, for an hour:")
    screen.blank()
    screen.lines([f"  postgresql://agent:{minted['token']}@127.0.0.1:{proxy.port}/{DATABASE}"])
    screen.blank()
    screen.lines(
        [
            f"psql is here        {stage.postgres.program('psql')}",
            f"change a policy     {policies}/shop.yaml: it is in force as soon as it is saved",
            f"another token       PGFAUCET_STATE={proxy.state} \\",
            f"                      pgfaucet token create -c {policies} --role order-desk --claim tenant=43 --ttl 1h --label me",
            f"audit log           {proxy.audit_file}",
            f"metrics             http://127.0.0.1:{proxy.admin_port}/metrics",
            "",
            "Ctrl-C stops PostgreSQL and pgfaucet and deletes everything.",
        ]
    )
    while proxy.is_running:
        time.sleep(0.5)
    print(f"pgfaucet: the proxy has ended:\n{proxy.read_log()[-2000:]}", file=sys.stderr)
    return ENVIRONMENT


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
