"""A live catalog kept as a file: what decides works on it as on the server it was read from.

Oids of what initdb did not make are replaced by numbers in the same order, so that two readings of one schema are equal.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from pgfaucet.sql.catalog import CatalogSnapshot, Function, OperatorKey, QualifiedName, Relation, Type

if TYPE_CHECKING:
    from pathlib import Path

FIRST_NORMAL_OID: Final = 16_384  # access/transam.h
TRIGGER: Final = re.compile(r"^(RI_ConstraintTrigger_[ac]_)(\d+)$")
"""A trigger of a foreign key is named after its oid."""
NOT_OIDS: Final = frozenset({"typmod", "server_version", "version"})

_RELATIONS: Final = TypeAdapter(list[Relation])
_TYPES: Final = TypeAdapter(list[Type])
_FUNCTIONS: Final = TypeAdapter(list[Function])


def plain(snapshot: CatalogSnapshot) -> dict[str, Any]:
    """Write a snapshot as JSON values, under a fixed database name."""
    found = {field.name: getattr(snapshot, field.name) for field in fields(snapshot) if field.compare} | {
        "database": "shop",
        "server_version": snapshot.server_version // 10_000 * 10_000,
        "relations": sorted(snapshot.relations.values(), key=lambda each: each.oid),
        "composites": sorted(snapshot.composites.values(), key=lambda each: each.oid),
        "types": sorted(snapshot.types.values(), key=lambda each: each.oid),
        "functions": sorted((each for same in snapshot.functions.values() for each in same), key=lambda each: each.oid),
    }
    made = _plain(found)
    oids = sorted(set(_oids(made)))
    numbered: dict[str, Any] = _renumbered(made, {oid: FIRST_NORMAL_OID + place for place, oid in enumerate(oids)})
    return numbered


APART = {"relations", "functions", "composites", "types", "leakproof_operators", "function_columns"}


def read(path: Path) -> CatalogSnapshot:
    """Read back what `plain` wrote."""
    found = json.loads(path.read_text())
    relations = _RELATIONS.validate_python(found["relations"])
    functions: dict[QualifiedName, tuple[Function, ...]] = {}
    for each in _FUNCTIONS.validate_python(found["functions"]):
        functions[each.name] = (*functions.get(each.name, ()), each)
    rest: dict[str, Any] = {
        name: frozenset(found[name]) if isinstance(found[name], list) else found[name] for name in found.keys() - APART
    }
    return CatalogSnapshot(
        relations={each.name: each for each in relations},
        composites={each.oid: each for each in _RELATIONS.validate_python(found["composites"])},
        types={each.oid: each for each in _TYPES.validate_python(found["types"])},
        functions=functions,
        leakproof_operators=frozenset(OperatorKey(*each) for each in found["leakproof_operators"]),
        function_columns={name: tuple(columns) for name, columns in found["function_columns"].items()},
        **rest,
    )


def text(value: dict[str, Any]) -> str:
    """Write JSON with a line for each relation, type, function and name list."""
    lines = []
    for name, found in value.items():
        has_rows = isinstance(found, list) and found and isinstance(found[0], dict)
        rows = ",\n".join(map(_compact, found)) if has_rows else ""
        lines.append(f'"{name}": ' + (f"[\n{rows}\n]" if has_rows else _compact(found)))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in (sorted(value) if "relations" not in value else value)}
    if isinstance(value, frozenset):
        return sorted(map(_plain, value))
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _oids(value: Any, name: str = "") -> list[int]:
    if isinstance(value, dict):
        return [oid for key, inner in value.items() for oid in _oids(inner, key)]
    if isinstance(value, list):
        return [oid for inner in value for oid in _oids(inner, name)]
    return [value] if type(value) is int and value >= FIRST_NORMAL_OID and name not in NOT_OIDS else []


def _renumbered(value: Any, numbers: dict[int, int], name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _renumbered(inner, numbers, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renumbered(inner, numbers, name) for inner in value]
    if isinstance(value, str):
        return TRIGGER.sub(lambda found: f"{found[1]}{numbers.get(int(found[2]), found[2])}", value)
    return numbers.get(value, value) if type(value) is int and name not in NOT_OIDS else value
