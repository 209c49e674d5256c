"""The catalogs that the golden decisions are made under are what a live server says; `python tools/record_catalogs.py` records them anew."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.golden.decisions import GOLDEN, SUITES, catalog
from tests.golden.live import read_live
from tests.kit.recorded import plain


@pytest.mark.parametrize("suite", SUITES)
def test_the_recording_is_what_the_server_says(postgres, suite):
    now = plain(asyncio.run(read_live(postgres, suite)))
    recorded = json.loads((GOLDEN / f"{suite}.catalog.json").read_text())
    for name in now.keys() | recorded.keys():
        assert now.get(name) == recorded.get(name), name
    assert plain(catalog(suite)) == now
