"""One stage for all attacks: set up once, put back after each case that changed something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.postgres import Postgres


@pytest.fixture(scope="package")
def stage(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The proxy must survive everything, stop cleanly, and leave an audit chain that holds."""
    with Stage(postgres, tmp_path_factory.mktemp("attacks")) as running:
        yield running
        running.proxy.verify_audit()
        assert running.proxy.stop() == 0, running.proxy.read_log()
        assert "Traceback" not in running.proxy.read_log(), running.proxy.read_log()
