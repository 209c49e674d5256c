"""What of the server's error may reach the client (RECIPES D8).

Kept: severity, SQLSTATE, message. Dropped: what can show values or names of what the role may not see, or the rewritten text:
detail, hint, context, internal query, and positions that point into the rewritten text. Messages that name other relations are worded anew.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql.checks import CHECK_NONCE

if TYPE_CHECKING:
    from pgfaucet.plan import StatementPlan

KEPT: Final = ("S", "V", "C", "M", "F", "L", "R")
FOREIGN_KEY: Final = re.compile(r'^(.*? on table ".*?" violates foreign key constraint) ".*" on table ".*"$', re.DOTALL)


OWN_NAME: Final = re.compile(r'prepared statement "pgf_[0-9a-f]{24}(?:_[0-9a-fx]+)?"')


def clean_error(fields: dict[str, str], plan: StatementPlan) -> dict[str, str]:
    """Return the fields of an ErrorResponse or NoticeResponse that the client may have."""
    if fields.get("C") == "22P02" and CHECK_NONCE in fields.get("M", ""):
        return {
            "S": "ERROR",
            "V": "ERROR",
            "C": Sqlstate.INSUFFICIENT_PRIVILEGE,
            "M": f'new row violates row-level security policy for table "{plan.check_table}"',
        }
    if not plan.clean_errors:
        return fields
    kept = {key: value for key, value in fields.items() if key in KEPT}
    found = FOREIGN_KEY.match(kept.get("M", ""))
    if found is not None:
        kept["M"] = found.group(1)
    return kept


def without(fields: dict[str, str], name: str) -> dict[str, str]:
    """Leave one field out."""
    return {key: value for key, value in fields.items() if key != name}


def without_schemas(fields: dict[str, str], source: str, search_path: tuple[str, ...]) -> dict[str, str]:
    """Leave out schemas that were put before names, where the client's text has them nowhere."""
    written = source.lower()
    for schema in ("pg_catalog", "pg_temp", *search_path):
        if f"{schema}." in fields.get("M", "") + fields.get("H", "") and f"{schema}." not in written:
            name = re.escape(schema)
            called = re.compile(rf"(?<![\"\w]){name}\.(?=[^\s(]+\(|[^\s,]+(?: is|,|$))|(?<=\"){name}\.(?=\w+\")")
            fields = {key: called.sub("", value) if key in {"M", "H"} else value for key, value in fields.items()}
    return fields


def with_client_name(fields: dict[str, str], name: str) -> dict[str, str]:
    """Put the client's own name of a prepared statement in the place of the one that it has upstream."""
    message = fields.get("M", "")
    if "pgf_" not in message:
        return fields
    if not name:
        message = OWN_NAME.sub("unnamed prepared statement", message) if message.endswith("does not exist") else message
    return {**fields, "M": OWN_NAME.sub(lambda _: f'prepared statement "{name}"', message)}
