"""pg_catalog's functions and types, decided: who may call or name what without a grant. What is not listed is refused.

Functions: data/functions.txt, made by tools/make_functions.py; why each is where it is: tools/functions_reviewed.txt.
"""

from __future__ import annotations

from enum import Enum
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class FunctionClass(Enum):
    """What a function of pg_catalog can do, taken over all its overloads."""

    SAFE = "safe"  # only computes from its arguments, the clock or randomness
    CATALOG_INFO = "catalog-info"  # tells of objects by name or oid
    SESSION_STATE = "session-state"  # tells who and where the upstream session is
    DANGEROUS = "dangerous"  # reads, runs or changes what is not in the statement's text
    INTERNAL = "internal"  # called by the server only
    UNKNOWN = "unknown"  # not listed: refused


def _read_functions() -> dict[str, FunctionClass]:
    text = (files("pgfaucet") / "data" / "functions.txt").read_text(encoding="utf-8")
    listed = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name: FunctionClass(function_class) for name, function_class, *_ in listed}


_FUNCTIONS: Final = _read_functions()


def classify(name: str) -> FunctionClass:
    """Return the class of pg_catalog's function of that name; UNKNOWN when it is not listed."""
    return _FUNCTIONS.get(name, FunctionClass.UNKNOWN)


def unclassified(names: Iterable[str]) -> list[str]:
    """Return those of a server's functions that nobody has decided on; they are refused."""
    return sorted({name for name in names if name not in _FUNCTIONS})


# -- types (RECIPES G5) ------------------------------------------------------------------------------------------------------------

ALLOWED_TYPES: Final[dict[str, tuple[int, int]]] = {
    "bool": (16, 1000),
    "bytea": (17, 1001),
    "char": (18, 1002),
    "name": (19, 1003),
    "int8": (20, 1016),
    "int2": (21, 1005),
    "int2vector": (22, 1006),
    "int4": (23, 1007),
    "text": (25, 1009),
    "oid": (26, 1028),  # a number; what makes a name of it (reg*) is not here
    "oidvector": (30, 1013),
    "json": (114, 199),
    "xml": (142, 143),
    "point": (600, 1017),
    "lseg": (601, 1018),
    "path": (602, 1019),
    "box": (603, 1020),
    "polygon": (604, 1027),
    "line": (628, 629),
    "cidr": (650, 651),
    "float4": (700, 1021),
    "float8": (701, 1022),
    "circle": (718, 719),
    "macaddr8": (774, 775),
    "money": (790, 791),
    "macaddr": (829, 1040),
    "inet": (869, 1041),
    "bpchar": (1042, 1014),
    "varchar": (1043, 1015),
    "date": (1082, 1182),
    "time": (1083, 1183),
    "timestamp": (1114, 1115),
    "timestamptz": (1184, 1185),
    "interval": (1186, 1187),
    "timetz": (1266, 1270),
    "bit": (1560, 1561),
    "varbit": (1562, 1563),
    "numeric": (1700, 1231),
    "uuid": (2950, 2951),
    "pg_lsn": (3220, 3221),
    "tsvector": (3614, 3643),
    "tsquery": (3615, 3645),
    "regconfig": (3734, 3735),  # 'english'::regconfig, as Django writes it; text search configurations are no secret
    "jsonb": (3802, 3807),
    "int4range": (3904, 3905),
    "numrange": (3906, 3907),
    "tsrange": (3908, 3909),
    "tstzrange": (3910, 3911),
    "daterange": (3912, 3913),
    "int8range": (3926, 3927),
    "jsonpath": (4072, 4073),
    "int4multirange": (4451, 6150),
    "nummultirange": (4532, 6151),
    "tsmultirange": (4533, 6152),
    "tstzmultirange": (4534, 6153),
    "datemultirange": (4535, 6155),
    "int8multirange": (4536, 6157),
}
"""Types of pg_catalog that anybody may name, with the oids of the type and of its array (the same on every server).

Left out on purpose: reg* and refcursor (names and oids into objects), tid, xid, cid, xid8 and snapshots (system columns, global
counters), aclitem, what the server keeps for itself (pg_node_tree, pg_mcv_list, gtsvector, ...), pseudo-types, row types of catalogs.
"""

_UNSPECIFIED: Final = (0, 705)  # in Parse, type `unknown` asks the server to find out, as 0 does
_PARAMETER_TYPES: Final = frozenset(_UNSPECIFIED).union(*ALLOWED_TYPES.values())


def is_type_allowed(name: str) -> bool:
    """Say whether anybody may name pg_catalog's type of that name (its pg_type.typname: int4, not integer)."""
    return name in ALLOWED_TYPES


def is_parameter_type_allowed(oid: int) -> bool:
    """Say whether a Parse message may give that oid as the type of a parameter: an allowed type, its array, or not specified."""
    return oid in _PARAMETER_TYPES
