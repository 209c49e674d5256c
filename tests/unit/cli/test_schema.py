from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pgfaucet.cli.main import DONE, main
from pgfaucet.policy.document import json_schema

if TYPE_CHECKING:
    import pytest


def test_the_schema_is_json_and_nothing_else_on_stdout(capsys: pytest.CaptureFixture[str]):
    assert main(["schema"]) == DONE
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json_schema()
    assert captured.err == ""


def test_the_schema_says_which_json_schema_it_is():
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
