"""What is known of a resolved query: its output columns and how it behaves inside another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgfaucet.sql.facts import NONE

if TYPE_CHECKING:
    from pgfaucet.sql.scope import Columns, Item


@dataclass(slots=True)
class Query:
    """A sub-select, set operation, VALUES list or data-modifying statement, resolved."""

    columns: Columns
    sources: frozenset[Item] = NONE  # every filtered relation underneath
    outer: frozenset[Item] = NONE  # items of outer levels that it reads
    outer_sources: frozenset[Item] = NONE
    is_clean: bool = True  # evaluating it can neither raise nor tell by the data it sees
    is_volatile: bool = False
    is_open: bool = False  # may have columns that we cannot name
    joins_when_exists: bool = (
        False  # EXISTS (this) as a conjunct always becomes a semi-join (convert_EXISTS_sublink_to_join)
    )
    has_one_row: bool = False  # an aggregate without GROUP BY: never more than one row
    items: list[Item] = field(default_factory=list)  # what FOR UPDATE of it locks
