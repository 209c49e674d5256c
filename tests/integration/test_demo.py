"""`pgfaucet demo`: the tour behaves, two copies run side by side, Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest


def start_demo(temporary, *arguments):
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "pgfaucet", "demo", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


@pytest.fixture
def temporary():
    """A folder for temporary files that an unprivileged user can reach, so that what is left behind can be seen."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        inner = Path(folder)
        inner.chmod(0o777)
        yield inner


def left_behind(temporary):
    """Processes whose command line names the folder, and files in it."""
    found = [str(path) for path in temporary.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(temporary).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_two_tours_at_once_behave_and_leave_nothing_behind(temporary):
    demos = [start_demo(temporary, "--tour") for _ in range(2)]
    for demo in demos:
        printed, _ = demo.communicate(timeout=110)
        assert demo.returncode == 0, printed
        assert "✗" not in printed
        assert "audit verify" in printed
        assert "\x1b" not in printed
    assert left_behind(temporary) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_up_with_a_dsn_that_works_until_it_is_stopped(temporary, how):
    demo = start_demo(temporary)
    try:
        printed = ""
        for line in demo.stdout:
            printed += line
            if "Ctrl-C stops" in line:
                break
        dsn = re.search(r"postgresql://agent:fct_\S+", printed)
        assert dsn is not None, printed
        with psycopg.connect(dsn[0]) as connection:
            assert connection.execute("select distinct tenant_id from orders").fetchall() == [(42,)]
        demo.send_signal(how)
        assert demo.wait(20) == 0
    finally:
        demo.kill()
        demo.stdout.close()
    assert left_behind(temporary) == []


def test_an_interrupted_start_leaves_nothing_behind(temporary):
    demo = start_demo(temporary, "--tour")
    time.sleep(1.0)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode != 0
    assert left_behind(temporary) == []
