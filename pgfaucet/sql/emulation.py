"""Built-in functions that the proxy answers itself, because the server would name the service user, its database or its search path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build, settings
from pgfaucet.sql.facts import TEXT, Facts
from pgfaucet.sql.literals import current_schema, replace_node, replace_with_name, text_of
from pgfaucet.sql.scope import Scope
from pgfaucet.sql.tree import string
from pgfaucet.sql.variables import setting_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.world import Node

    Emulation = Callable[[Resolver, Node, dict[str, Any]], Facts | None]


def emulate(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    """Replace a call that the proxy answers by its answer; None when it is not one of those."""
    names = body["funcname"]
    if len(names) > 1 and names[0]["String"].get("sval") != "pg_catalog":
        return None
    handler = _EMULATED.get(string(names[-1]))
    return handler(resolver, node, body) if handler is not None else None


def _current_user(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    return replace_with_name(resolver, node, resolver.world.user) if "args" not in body else None


def _current_database(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    return replace_with_name(resolver, node, resolver.world.catalog.database) if "args" not in body else None


def _current_schema(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    return replace_with_name(resolver, node, current_schema(resolver)) if "args" not in body else None


def _current_schemas(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    arguments = body.get("args", [])
    flag = arguments[0].get("A_Const", {}).get("boolval") if len(arguments) == 1 else None
    if flag is None:
        return None
    found = [name for name in resolver.context.search_path if name in resolver.world.schemas or name == "pg_catalog"]
    if flag.get("boolval") and "pg_catalog" not in found:
        found.insert(0, "pg_catalog")
    array = {"A_ArrayExpr": {"elements": [build.text(name) for name in found]}}
    bounds = [{"Integer": {"ival": -1}}]
    type_name = {"names": [build.string("pg_catalog"), build.string("name")], "typemod": -1, "arrayBounds": bounds}
    replace_node(resolver, node, build.cast(array, type_name))
    return Facts(1003)


def _version(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    if "args" in body:
        return None
    number = resolver.world.catalog.server_version
    literal = build.text(f"PostgreSQL {number // 10000}.{number % 10000}")
    replace_node(resolver, node, build.cast(literal, dict(_TEXT_TYPE)))
    return Facts(TEXT)


def _current_setting(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    """Answer current_setting('name' [, missing_ok]) of a setting that may be seen."""
    arguments = body.get("args", [])
    name = text_of(arguments[0]) if arguments else None
    if name is None or len(arguments) > 2 or any("A_Const" not in argument for argument in arguments):
        return None
    try:
        value = setting_value(name.lower(), settings.check_current_setting(name, resolver.world), resolver.world)
    except FaucetError as error:
        is_missing_ok = len(arguments) == 2 and arguments[1]["A_Const"].get("boolval", {}).get("boolval", False)
        if error.sqlstate != Sqlstate.UNDEFINED_OBJECT or not is_missing_ok:
            raise
        value = build.null()
    replace_node(resolver, node, build.cast(value, dict(_TEXT_TYPE)))
    return Facts(TEXT)


def _set_config(resolver: Resolver, _node: Node, body: dict[str, Any]) -> Facts | None:
    """Allow set_config('name', 'value', is_local) of a setting that may be set; the value may be a parameter where any will do."""
    arguments = body.get("args", [])
    name = text_of(arguments[0]) if len(arguments) == 3 else None
    if name is None or "A_Const" not in arguments[2]:
        return None
    if "ParamRef" in arguments[1] and name.lower() not in _LOOKED_AT:
        resolver.expression(arguments[1], Scope(resolver.world))
    elif "A_Const" not in arguments[1]:
        return None
    if not settings.is_set_by_function(name):
        raise settings.denied(name)
    upstream = settings.check_set_config(name, text_of(arguments[1]), resolver.world)
    arguments[0] = build.text(upstream)
    body["funcname"] = [build.string("pg_catalog"), build.string("set_config")]
    resolver.settings.append(upstream)
    return Facts(TEXT, is_volatile=True)


def _advisory_unlock_all(resolver: Resolver, node: Node, body: dict[str, Any]) -> Facts | None:
    """Do nothing where a driver resets its session: it holds no advisory lock unless a policy has opened them."""
    name = "pg_advisory_unlock_all"
    if "args" in body or name in resolver.world.system_functions or not resolver.context.resets_session:
        return None
    void = {"names": [build.string("pg_catalog"), build.string("void")], "typemod": -1}
    replace_node(resolver, node, build.cast(build.null(), void))
    return Facts()


_LOOKED_AT: Final = frozenset({"search_path", settings.CONTEXT_SETTING})
_TEXT_TYPE: Final = {"names": [build.string("pg_catalog"), build.string("text")], "typemod": -1}
_EMULATED: Final[dict[str, Emulation]] = {
    "current_user": _current_user,
    "session_user": _current_user,
    "current_role": _current_user,
    "user": _current_user,
    "current_database": _current_database,
    "current_catalog": _current_database,
    "current_schema": _current_schema,
    "current_schemas": _current_schemas,
    "version": _version,
    "current_setting": _current_setting,
    "set_config": _set_config,
    "pg_advisory_unlock_all": _advisory_unlock_all,
}
