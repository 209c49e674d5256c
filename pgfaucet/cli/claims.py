"""The option `--claim K=V`, which several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_claims(texts: Sequence[str]) -> dict[str, str]:
    """Read the values of the option. Raises click.BadParameter."""
    return dict(map(_parse_claim, texts))


def _parse_claim(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not K=V", param_hint="--claim")
    return name, value
