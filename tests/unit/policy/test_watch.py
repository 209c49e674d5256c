from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import watchfiles

from pgfaucet.policy import watch
from pgfaucet.policy.loader import Loaded, PolicyErrors, load
from pgfaucet.policy.watch import PolicyWatcher, changes
from tests.kit.policy_files import SHOP, agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


class Watched:
    """A policy directory, its watcher, and what the watcher called back with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("server.yaml", SHOP)
        self.write("roles.yaml", agent("description: first"))
        self.policies: list[Loaded] = [load(directory)]
        self.errors: list[str] = []
        self.watcher = PolicyWatcher(
            directory,
            self.policies.append,
            lambda errors: self.errors.append(str(errors)),
            load=functools.partial(load, environ={}),
        )

    def write(self, name: str, text: str) -> None:
        """Replace a file as editors do: the new one is another file, whatever the clock says."""
        new = self.directory / f"{name}.new"
        new.write_text(text)
        new.rename(self.directory / name)

    def look(self) -> None:
        asyncio.run(self.watcher.reload_if_changed())

    @property
    def description(self) -> str:
        """What the role in force says of itself."""
        return self.policies[-1].policy.roles["agent"].description


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_without_a_change_nothing_is_loaded(watched: Watched):
    watched.look()
    assert (len(watched.policies), watched.errors) == (1, [])


def test_a_changed_file_is_loaded_once(watched: Watched):
    watched.write("roles.yaml", agent("description: second"))
    watched.look()
    watched.look()
    assert (len(watched.policies), watched.description) == (2, "second")


def test_a_new_file_and_a_removed_one_are_changes(watched: Watched):
    watched.write("more.yml", "roles: {other: {database: shop}}")
    watched.look()
    assert set(watched.policies[-1].policy.roles) == {"agent", "other"}
    (watched.directory / "more.yml").unlink()
    watched.look()
    assert set(watched.policies[-1].policy.roles) == {"agent"}


def test_a_file_that_is_not_read_is_no_change(watched: Watched):
    watched.write("audit.jsonl", "{}")
    watched.write(".hidden.yaml", "nonsense")
    watched.look()
    assert (len(watched.policies), watched.errors) == (1, [])


def test_a_bad_file_keeps_the_old_policy_and_says_what_is_wrong(watched: Watched):
    watched.write("roles.yaml", agent("descripton: second"))
    watched.look()
    assert (len(watched.policies), watched.description) == (1, "first")
    assert watched.errors == [
        f'{watched.directory}/roles.yaml:4:5: unknown key "descripton"; did you mean "description"?'
    ]


def test_a_bad_file_is_reported_once_and_taken_when_it_is_mended(watched: Watched):
    watched.write("roles.yaml", "roles: [")
    watched.look()
    watched.look()
    assert len(watched.errors) == 1
    watched.write("roles.yaml", agent("description: mended"))
    watched.look()
    assert (len(watched.errors), watched.description) == (1, "mended")


def test_a_good_file_beside_a_bad_one_changes_nothing(watched: Watched):
    watched.write("bad.yaml", "nonsense")
    watched.write("roles.yaml", agent("description: second"))
    watched.look()
    assert watched.description == "first"


def test_a_directory_that_is_gone_keeps_the_old_policy(watched: Watched):
    moved = watched.directory.rename(watched.directory.with_name("moved"))
    watched.look()
    assert len(watched.policies) == 1
    assert "cannot be read" in watched.errors[0]
    moved.rename(watched.directory)
    watched.look()
    assert len(watched.policies) == 2


def test_a_reload_that_was_asked_for_happens_without_a_change(watched: Watched):
    watched.watcher.reload_soon()
    watched.look()
    watched.look()
    assert len(watched.policies) == 2


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


def run_beside(watched: Watched, body: Callable[[], Any]) -> None:
    """Run the watcher, and `body` beside it."""

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(watched.watcher.run())
            await asyncio.sleep(0.3)  # the signal handler is in place, the directory is watched
            await body()
            running.cancel()

    asyncio.run(both())


def test_a_changed_file_is_noticed(watched: Watched):
    async def change() -> None:
        watched.write("roles.yaml", agent("description: second"))
        await until(lambda: len(watched.policies) > 1)

    run_beside(watched, change)
    assert watched.description == "second"


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_sighup_reloads_and_is_given_back_at_the_end(watched: Watched, before: signal.Handlers):
    own = signal.signal(signal.SIGHUP, before)

    async def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(watched.policies) > 1)

    run_beside(watched, hang_up)
    assert signal.signal(signal.SIGHUP, own) == before


@pytest.mark.parametrize("problem", [OSError("no inotify left"), RuntimeError("gone")])
def test_where_the_system_tells_of_no_changes_it_looks_at_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, problem: Exception
):
    async def unable(*_: Any, **__: Any) -> AsyncIterator[None]:
        if problem.args:
            raise problem
        yield

    monkeypatch.setattr(watchfiles, "awatch", unable)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)

    async def three() -> int:
        count = 0
        async with contextlib.aclosing(changes(tmp_path)) as looks:
            async for _ in looks:
                count += 1
                if count == 3:
                    break
        return count

    assert asyncio.run(three()) == 3
    assert "cannot be told of changes" in caplog.text


def test_errors_that_are_none_of_the_policys_are_not_swallowed(tmp_path: Path):
    def broken(_: Path) -> Loaded:
        raise ZeroDivisionError

    watcher = PolicyWatcher(tmp_path, lambda _: None, lambda _: None, load=broken)
    watcher.reload_soon()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(watcher.reload_if_changed())


def test_callbacks_get_the_errors_as_values(tmp_path: Path):
    found: list[PolicyErrors] = []
    watcher = PolicyWatcher(tmp_path, lambda _: None, found.append)
    watcher.reload_soon()
    asyncio.run(watcher.reload_if_changed())
    assert [problem.fix for problem in found[0].problems] == ["name a directory with policy files"]


def test_a_file_that_is_written_while_it_is_read_is_read_again(watched: Watched):
    def load_half(directory: Path) -> Loaded:
        watched.write("roles.yaml", "")
        half = load(directory, environ={})
        watched.write("roles.yaml", agent("description: whole"))
        return half

    loads = iter([load_half, functools.partial(load, environ={})])
    watched.watcher._load = lambda directory: next(loads)(directory)  # noqa: PLW0108 - another one each time
    watched.write("roles.yaml", agent("description: being written"))
    watched.look()
    assert watched.description == "first"
    watched.look()
    assert watched.description == "whole"
