"""One statement for each seed: the same seed always makes the same statement."""

from __future__ import annotations

import random

from tests.differential.fuzz.scope import Scope
from tests.differential.fuzz.writes import Statement, Writes

WRITES = 0.35


def statement(seed: int) -> Statement:
    """Make the statement of a seed."""
    source = random.Random(seed)
    made = Writes(source)
    is_write = source.random() < WRITES
    select = made.write() if is_write else made.query(Scope(), 2)
    return Statement(select.sql, select.is_ordered, is_write, made.may_raise)
