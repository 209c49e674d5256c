"""Names of relations and functions as a policy writes them: `orders`, `hr.salaries`, `"Odd.Name"`."""

from __future__ import annotations

import re
from typing import Final

from pgfaucet.sql.catalog import QualifiedName

_PART: Final = re.compile(r'"((?:[^"]|"")+)"|([^."]+)')


def qualified_name(written: str, search_path: tuple[str, ...]) -> QualifiedName:
    """Read a name; without a schema it is in the first one of the search_path. What is not in double quotes is taken as it stands."""
    parts = [quoted.replace('""', '"') or plain for quoted, plain in _PART.findall(written)]
    if len(parts) > 1:
        return QualifiedName(parts[0], ".".join(parts[1:]))
    return QualifiedName(search_path[0] if search_path else "public", parts[0] if parts else written)
