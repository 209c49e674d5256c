"""Policy files written inside a test, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from pgfaucet.policy.loader import Loaded, PolicyErrors, load_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgfaucet.policy.model import Role

DIRECTORY = Path("/p")
SHOP = "databases: {shop: {dsn: postgresql://svc@localhost/shop}}\n"


def load_text(text: str, environ: Mapping[str, str] | None = None, *, rest: str = SHOP, **options: object) -> Loaded:
    """Load `text` as a.yaml, and `rest` as z.yaml: by default the database shop."""
    texts = {"a.yaml": dedent(text).encode(), "z.yaml": rest.encode()}
    return load_texts(DIRECTORY, texts, environ=environ or {}, **options)  # type: ignore[arg-type] # listen, workers


def role_of(text: str, name: str = "agent") -> Role:
    """Load a file with roles and return one of them."""
    return load_text(text).policy.roles[name]


def said_about(
    text: str, environ: Mapping[str, str] | None = None, *, rest: str = SHOP, **options: object
) -> list[str]:
    """Return what is wrong with a.yaml, a line for each problem, without the directory; there must be something."""
    with pytest.raises(PolicyErrors) as raised:
        load_text(text, environ, rest=rest, **options)
    return [str(problem).replace(f"{DIRECTORY}/", "") for problem in raised.value.problems]


def agent(keys: str) -> str:
    """Return a file with the role agent, whose keys are these; its first key is in line 4."""
    return f"roles:\n  agent:\n    database: shop\n{_indented(keys, 4)}"


def orders(keys: str) -> str:
    """Return a file with the role agent and its table orders, whose keys are these; the first is in line 6."""
    return agent(f"tables:\n  orders:\n{_indented(keys, 4)}")


def _indented(text: str, by: int) -> str:
    return "".join(" " * by + line + "\n" for line in dedent(text).strip("\n").splitlines())
