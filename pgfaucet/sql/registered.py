"""Values of regclass, regtype and their kin: upstream they are plain oids, and names only where a name is shown.

The server would print and read such names for the service user, under its own search_path, of every object that there is. So a cast to one
of these types makes an oid, whose type in `Facts` is HELD - the type's own number, negative; what shows a value (a cast to text, the
statement's own output, the functions below) becomes an expression that names what is in the role's sight and prints the number of
everything else, as PostgreSQL does of an object that does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, describing, registered_names, types
from pgfaucet.sql.facts import TEXT, UNKNOWN, Facts, combine
from pgfaucet.sql.literals import move_node, replace_node, text_of
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.world import Node

SHOW, FIND, FIND_OR_FAIL = -1, -2, -3
"""Keys of descriptions, in the place of the number of arguments: oid to text, text to oid or NULL, text to oid or an error."""
SHOW_ALL, FIND_ALL = -4, -5
"""The same for arrays."""

OID: Final = 26
OID_ARRAY: Final = 1028
TYPES: Final = {
    "regproc": (24, 1008),
    "regprocedure": (2202, 2207),
    "regoper": (2203, 2208),
    "regoperator": (2204, 2209),
    "regclass": (2205, 2210),
    "regtype": (2206, 2211),
    "regrole": (4096, 4097),
    "regnamespace": (4089, 4090),
    "regcollation": (4191, 4192),
    "regdictionary": (3769, 3770),
}
_NAMES: Final = {-oid: name for name, (oid, _) in TYPES.items()}
_ARRAY_NAMES: Final = {-array: name for name, (_, array) in TYPES.items()}
REGISTERED: Final = frozenset(oid for pair in TYPES.values() for oid in pair)
_TEXTS: Final = frozenset({18, 19, 25, 1042, 1043})
_TEXT_ARRAYS: Final = frozenset({1002, 1003, 1009, 1014, 1015})
_NUMBERS: Final = frozenset({20, 21, 23, OID, *(oid for oid, _ in TYPES.values())})
_OID_ARRAYS: Final = frozenset({30, OID_ARRAY, *(array for _, array in TYPES.values())})
_SHOWING: Final = frozenset(
    {"array_agg", "array_to_json", "array_to_string", "concat", "concat_ws", "format", "json_agg", "json_build_array"}
    | {"json_build_object", "json_object_agg", "jsonb_agg", "jsonb_build_array", "jsonb_build_object"}
    | {"jsonb_object_agg", "quote_literal", "quote_nullable", "to_json", "to_jsonb"}
)
_OID_TYPE: Final = {"names": [build.string("pg_catalog"), build.string("oid")], "typemod": -1}
_ARRAY_BOUNDS: Final = {"arrayBounds": [{"Integer": {"ival": -1}}]}


def is_held(facts: Facts) -> bool:
    """Say whether an expression is an oid, or an array of them, that stands for a value of one of these types."""
    return facts.type < 0


def is_native(resolver: Resolver, name: str) -> bool:
    """Say whether the server may read and print values of a type itself: nothing but roles is hidden from who defines things."""
    return resolver.world.may_define and name != "regrole"


# -- casts


def resolve_cast(resolver: Resolver, node: Node, body: dict[str, Any], value: Facts) -> Facts | None:
    """Write a cast to one of these types as an oid; None when the cast is to another type.

    Raises FaucetError: as PostgreSQL does for a name that means nothing in sight.
    """
    type_name = body["typeName"]
    names = strings(type_name["names"])
    if len(names) > 2 or names[:-1] not in ([], ["pg_catalog"]) or names[-1] not in TYPES:
        return None
    if (names[-1], SHOW) not in resolver.world.descriptions or is_native(resolver, names[-1]):
        return None
    resolver.expect_fields("TypeName", type_name, types.FIELDS)
    return hold(resolver, node, body["arg"], value, names[-1], is_array=bool(type_name.get("arrayBounds")))


def hold(resolver: Resolver, node: Node, argument: Node, value: Facts, name: str, *, is_array: bool = False) -> Facts:
    """Put the oid that `argument` means as a value of the type `name` in the place of `node`."""
    if is_array:
        return _hold_array(resolver, node, argument, value, name)
    result = -TYPES[name][0]
    written = text_of(argument)
    if written is not None:
        location = argument["A_Const"].get("location")
        replace_node(resolver, node, registered_names.find(resolver, name, written, location))
        return Facts(result)
    if value.type in _NUMBERS or value.type in _NAMES or "isnull" in argument.get("A_Const", {}):
        replace_node(resolver, node, build.cast(argument, _OID_TYPE))
        return combine((value,), result, is_leakproof=value.type not in (20, 0))
    note_text(resolver, value)
    found = resolver.world.descriptions.get((name, FIND_OR_FAIL))
    if found is None:
        resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for type {name}")
    return describing.write(resolver, node, found, found.parameters, [value], [argument])


def _hold_array(resolver: Resolver, node: Node, argument: Node, value: Facts, name: str) -> Facts:
    result = -TYPES[name][1]
    written = text_of(argument)
    if written is not None:
        inner = written.strip()
        if inner[:1] != "{" or inner[-1:] != "}" or '"' in inner or "\\" in inner:
            resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for type {name}[]")
        parts = [part.strip() for part in inner[1:-1].split(",") if part.strip()]
        found = [registered_names.find(resolver, name, part, argument["A_Const"].get("location")) for part in parts]
        array = {"A_ArrayExpr": {"elements": found} if found else {}}
        replace_node(resolver, node, build.cast(array, _OID_TYPE | _ARRAY_BOUNDS))
        return Facts(result)
    if value.type in _OID_ARRAYS or value.type in _ARRAY_NAMES:
        replace_node(resolver, node, build.cast(argument, _OID_TYPE | _ARRAY_BOUNDS))
        return combine((value,), result)
    if value.type == UNKNOWN or value.type in _TEXT_ARRAYS:
        _note(resolver, value, 1009)
        all_of = resolver.world.descriptions.get((name, FIND_ALL))
        if all_of is not None:
            return describing.write(resolver, node, all_of, all_of.parameters, [value], [argument])
    resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for type {name}[]")


def note_text(resolver: Resolver, value: Facts) -> None:
    """Take down that a parameter without a declared type is a name."""
    _note(resolver, value, TEXT)


def _note(resolver: Resolver, value: Facts, type_oid: int) -> None:
    """Take down the type of a parameter without a declared one."""
    if value.type == UNKNOWN:
        for number in value.assumes:
            resolver.parameter_uses[number][value].add(type_oid)


# -- where a value is shown


def show(resolver: Resolver, node: Node, value: Facts) -> Facts:
    """Put the text of a held value in its place."""
    name = _NAMES.get(value.type)
    call = node.get("FuncCall")
    if name is not None and call is not None and call["funcname"][-1]["String"]["sval"] == "unnest":
        show(resolver, call["args"][0], value.retyped(-TYPES[name][1]))  # a set cannot stand in an expression
        return value.retyped(TEXT)
    key = SHOW
    if name is None:
        name, key = _ARRAY_NAMES[value.type], SHOW_ALL
    found = resolver.world.descriptions[name, key]
    return describing.write(resolver, node, found, found.parameters, [value], [move_node(node)])


def show_for(resolver: Resolver, body: dict[str, Any], value: Facts, type_oid: int) -> Facts:
    """Show the argument of a cast to a type of text; leave it a number for any other."""
    if is_held(value) and (type_oid in _TEXTS or type_oid in _TEXT_ARRAYS):
        return show(resolver, body["arg"], value)
    return value


def resolve_arguments(resolver: Resolver, name: str, arguments: list[Node], scope: Scope) -> list[Facts]:
    """Resolve the arguments of a call; show them to a function that makes text of anything."""
    parts = []
    for argument in arguments:
        facts = resolver.expression(argument, scope)
        parts.append(show(resolver, argument, facts) if name in _SHOWING and is_held(facts) else facts)
    return parts


def result_of(resolver: Resolver, node: Node, name: str, parts: list[Facts], facts: Facts) -> Facts:
    """Hold the result of a function that gives a value of these types, or an element of an array of them."""
    if name == "pg_typeof" and ("regtype", SHOW) in resolver.world.descriptions and not is_native(resolver, "regtype"):
        if parts and is_held(parts[0]):
            replace_node(resolver, node, registered_names.oid_constant(-parts[0].type))
        else:
            replace_node(resolver, node, build.cast(move_node(node), _OID_TYPE))
        return facts.retyped(-TYPES["regtype"][0])
    if name == "unnest" and len(parts) == 1 and parts[0].type in _ARRAY_NAMES:
        return facts.retyped(-TYPES[_ARRAY_NAMES[parts[0].type]][0])
    if name in ("min", "max") and parts and parts[0].type in _NAMES:
        return facts.retyped(OID)
    return facts


def match_operands(
    resolver: Resolver, operator: str, operands: list[tuple[Node, Facts]], *, is_comparison: bool
) -> list[Facts]:
    """Give a literal or parameter that stands beside a held value its type, and show what is joined to text."""
    facts = [each for _, each in operands]
    held = next((each.type for each in facts if each.type in _NAMES), None)
    if held is None:
        return facts
    if operator == "||":
        return [show(resolver, node, each) if is_held(each) else each for node, each in operands]
    if not is_comparison:
        return facts
    return [
        hold(resolver, node, move_node(node), each, _NAMES[held])
        if each.type == UNKNOWN and ("ParamRef" in node or text_of(node) is not None)
        else each
        for node, each in operands
    ]


# -- the statement's own output


Span = tuple["Node", "Columns", "list[Node] | None"]
"""A target, its columns, and what `*` stands for written out."""


class Shown:
    """A target list that gives held values, each target with the facts of its columns; what `*` stands for written out."""

    __slots__ = ("nodes", "targets")

    def __init__(self, nodes: list[Node], targets: list[Span]) -> None:
        self.nodes = nodes
        self.targets = targets


def show_output(resolver: Resolver, stmt: Node) -> None:
    """Show the held values that a statement returns to the client."""
    body = stmt.get("SelectStmt")
    if body is not None and resolver.held_targets:
        _show_columns(resolver, body, _held_columns(resolver, body))


def _held_columns(resolver: Resolver, body: dict[str, Any]) -> set[int]:
    """Return the columns that give held values; those of a set operation are oids unless both its arms say so."""
    if "larg" in body:
        return _held_columns(resolver, body["larg"]) & _held_columns(resolver, body["rarg"])
    found = _shown(resolver, body)
    if found is None:
        return set()
    columns = [facts for _, columns, _ in found.targets for _, facts in columns]
    return {number for number, facts in enumerate(columns) if is_held(facts)}


def _shown(resolver: Resolver, body: dict[str, Any]) -> Shown | None:
    nodes = body.get("targetList")
    return next((each for each in resolver.held_targets if each.nodes is nodes), None)


def _show_columns(resolver: Resolver, body: dict[str, Any], numbers: set[int]) -> None:
    for arm in (body["larg"], body["rarg"]) if "larg" in body else ():
        _show_columns(resolver, arm, numbers)
    found = _shown(resolver, body)
    if found is None or not numbers:
        return
    written: list[Node] = []
    before: list[tuple[int, str | None, Node]] = []
    number = 0
    for node, columns, instead in found.targets:
        is_spread = instead is not None and any(number + place in numbers for place in range(len(columns)))
        targets = instead if instead is not None and is_spread else [node]
        for target, (_, facts) in zip(targets, columns, strict=False):
            if number in numbers and (instead is None or is_spread):
                before.append((number + 1, *_show_target(resolver, target["ResTarget"], facts)))
            number += 1
        number += len(columns) - min(len(targets), len(columns))
        written += targets
    found.nodes[:] = written
    _keep_order(body, before)


def match_arms(resolver: Resolver, body: dict[str, Any], left: Columns, right: Columns) -> None:
    """Show the held values of one arm of a set operation where the other arm gives text."""
    for own, other, arm in ((left, right, body["larg"]), (right, left, body["rarg"])):
        for position, (_, facts) in enumerate(own[: len(other)]):
            if is_held(facts) and other[position][1].type in _TEXTS and len(arm.get("targetList", ())) == len(own):
                target = arm["targetList"][position]["ResTarget"]
                own[position] = (own[position][0], show(resolver, target["val"], facts))


def _show_target(resolver: Resolver, target: dict[str, Any], facts: Facts) -> tuple[str | None, Node]:
    value = target["val"]
    fields = value.get("ColumnRef", {}).get("fields")
    if fields and "A_Star" in fields[-1]:
        hint = "Name the columns."
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, "the columns of * are not known", hint=hint)
    if "name" not in target and fields:
        target["name"] = fields[-1]["String"]["sval"]
    held = move_node(value)
    value.update(held)
    show(resolver, value, facts)
    return target.get("name"), held


def _keep_order(body: dict[str, Any], before: list[tuple[int, str | None, Node]]) -> None:
    """Let ORDER BY go on comparing the oids, which is what it says; with DISTINCT it must name what is given."""
    is_distinct = "distinctClause" in body
    for item in body.get("sortClause", ()) if before else ():
        sort = item["SortBy"]
        for position, name, held in before:
            number = sort["node"].get("A_Const", {}).get("ival", {}).get("ival")
            names = [part.get("String", {}).get("sval") for part in sort["node"].get("ColumnRef", {}).get("fields", ())]
            if is_distinct and _same(sort["node"], held):
                sort["node"] = {"A_Const": {"ival": {"ival": position}}}
                break
            if not is_distinct and (number == position or (name is not None and names == [name])):
                sort["node"] = move_node(held)
                break


def _same(one: Any, other: Any) -> bool:
    """Compare trees without their places in the text."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = (one.keys() | other.keys()) - {"location"}
        return all(key in one and key in other and _same(one[key], other[key]) for key in keys)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
