"""SET, RESET and SHOW.

What is forwarded names a setting that `sql.settings` opens. RESET never reaches the server as it stands, since what it goes back to is the
client's start-up value or the policy's and not the server's: it becomes a set_config() of that value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import StatementKind
from pgfaucet.sql import build, settings
from pgfaucet.sql.rewritten import Rewritten

if TYPE_CHECKING:
    from pgfaucet.sql.rewritten import RewriteContext
    from pgfaucet.sql.world import Node, World

_RESERVED: Final = frozenset({"role", "session_authorization"})
_EMULATED: Final = "answered for the role"


def rewrite_set(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide SET and RESET.

    Raises FaucetError: 42501, 42704, 22023, 0A000.
    """
    body: dict[str, Any] = stmt["VariableSetStmt"]
    kind = body["kind"]
    if kind == "VAR_SET_MULTI":
        return _set_transaction(stmt, body, context.world)
    if kind == "VAR_RESET_ALL":
        return _reset_all(context.world)
    name: str = body["name"]
    if name.lower() in _RESERVED:
        words = name.lower().replace("_", " ")
        raise FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to set {words}")
    if kind == "VAR_SET_VALUE":
        return _set_value(stmt, body, name, context.world)
    if kind in ("VAR_SET_DEFAULT", "VAR_RESET"):
        return _reset(stmt, body, name, context.world)
    raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, "SET ... FROM CURRENT is not supported")


def _set_value(stmt: Node, body: dict[str, Any], name: str, world: World) -> Rewritten:
    args: list[Node] = body.get("args", [])
    is_list = name.lower() == "search_path"
    value = settings.format_search_path(tuple(_constant(arg) or "" for arg in args)) if is_list else _value_of(args)
    upstream = settings.check_set_config(name, value, world)
    if upstream == name.lower():
        return _setting(stmt, "SET", (upstream,))
    made: dict[str, Any] = {"kind": "VAR_SET_VALUE", "name": upstream, "args": [build.text(value or "")]}
    if body.get("is_local"):
        made["is_local"] = True
    return _setting({"VariableSetStmt": made}, "SET", (upstream,))


def _value_of(args: list[Node]) -> str | None:
    """Return the value of a SET, None when it is not one plain constant (SET TIME ZONE INTERVAL, a list)."""
    return _constant(args[0]) if len(args) == 1 else None


def _constant(node: Node) -> str | None:
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    if "fval" in constant:
        return str(constant["fval"].get("fval", "0"))
    if "boolval" in constant:
        return "on" if constant["boolval"].get("boolval") else "off"
    return str(constant["sval"].get("sval", "")) if "sval" in constant else None


def _set_transaction(stmt: Node, body: dict[str, Any], world: World) -> Rewritten:
    name = body["name"]
    if name not in ("TRANSACTION", "SESSION CHARACTERISTICS"):
        raise FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to execute SET {name}")
    prefix = "default_" if name == "SESSION CHARACTERISTICS" else ""
    names = check_transaction_options(body.get("args", []), world, prefix)
    return _setting(stmt, "SET", names if prefix else ())


def check_transaction_options(options: list[Node], world: World, prefix: str = "") -> tuple[str, ...]:
    """Check the modes of BEGIN or SET TRANSACTION as the settings that they are; return the settings' names.

    Raises FaucetError: 42501 where the policy fixes the mode otherwise.
    """
    names = []
    for option in options:
        element = option["DefElem"]
        name = prefix + element["defname"]
        settings.check_set_config(name, _constant(element["arg"]), world)
        names.append(name)
    return tuple(names)


def _setting(stmt: Node, verb: str, names: tuple[str, ...]) -> Rewritten:
    return Rewritten(
        stmt,
        verb,
        kind=StatementKind.SETTING,
        settings=names,
        reasons=("a setting open to every role or in allow_set",),
    )


def _reset(stmt: Node, body: dict[str, Any], name: str, world: World) -> Rewritten:
    verb = "SET" if body["kind"] == "VAR_SET_DEFAULT" else "RESET"
    key = name.lower()
    upstream = {
        "search_path": settings.search_path_setting(world),
        settings.CONTEXT_SETTING: settings.CONTEXT_SETTING,
    }.get(key, key)
    if (
        upstream == key
        and key not in (settings.CONTEXT_SETTING, "search_path")
        and not settings.is_settable(key, world)
    ):
        known = key in settings.SETTINGS or key in settings.OURS or "." in key
        raise settings.denied(name) if known else settings.unrecognized(name)
    if key.startswith("transaction_") and key not in settings.TIMEOUTS:
        return _setting(stmt, verb, (key,))  # the server says that these can't be reset
    value = build.call(
        "set_config",
        build.text(upstream),
        _base_value(build.text(upstream), world, upstream),
        build.boolean(bool(body.get("is_local"))),
    )
    query = build.select([build.target(value)])
    return Rewritten(
        query, verb, kind=StatementKind.SETTING, settings=(upstream,), tag=verb, swallow_rows=True, reasons=(_EMULATED,)
    )


def _reset_all(world: World) -> Rewritten:
    """Write `SELECT set_config(name, <base value>, false) FROM unnest(<names>)`: one statement, undone by a rollback."""
    names = settings.resettable_settings(world)
    value = _base_value(build.column("pgf_setting"), world, *names)
    call = build.call("set_config", build.column("pgf_setting"), value, build.boolean(False))
    array: Node = {"A_ArrayExpr": {"elements": [build.text(name) for name in names]}}
    if "*" in world.allow_set:
        array = build.call("array_cat", array, _set_by_session())
    items = {"List": {"items": [build.call("unnest", array), {}]}}
    function = {"RangeFunction": {"functions": [items], "alias": {"aliasname": "pgf_setting"}}}
    query = build.select([build.target(call)], fromClause=[function])
    touched = (*names, "*") if "*" in world.allow_set else names  # `*`: whatever the session has set
    return Rewritten(
        query,
        "RESET",
        kind=StatementKind.SETTING,
        settings=touched,
        tag="RESET",
        swallow_rows=True,
        reasons=(_EMULATED,),
    )


def _set_by_session() -> Node:
    """Write: an array of the settings that the session has set and that are of sessions."""
    contexts = {
        "A_Expr": {
            "kind": "AEXPR_IN",
            "name": [build.string("=")],
            "lexpr": build.column("pgf_own", "context"),
            "rexpr": {"List": {"items": [build.text(name) for name in ("user", "superuser")]}},
        }
    }
    is_set = build.operation(build.column("pgf_own", "source"), "=", build.text("session"))
    found = build.select(
        [build.target(build.call("lower", build.column("pgf_own", "name")))],
        fromClause=[build.relation("pg_catalog", "pg_settings", alias="pgf_own")],
        whereClause={"BoolExpr": {"boolop": "AND_EXPR", "args": [is_set, contexts]}},
    )
    return {"SubLink": {"subLinkType": "ARRAY_SUBLINK", "subselect": found}}


def _base_value(name: Node, world: World, *names: str) -> Node:
    """Write what a setting goes back to: the policy's value, else the client's at its start, else the server's own."""
    fixed = [(key, value) for key, value in settings.fixed_settings(world).items() if key in names]
    operator = build.operation(build.text(settings.BASE_PREFIX), "||", name)
    base = {
        "A_Expr": {
            "kind": "AEXPR_NULLIF",
            "name": [build.string("=")],
            "lexpr": build.call("current_setting", operator, build.boolean(True)),
            "rexpr": build.text(""),
        }
    }
    own = build.operation(build.call("lower", build.column("pgf_own", "name")), "=", name)
    server = build.select(
        [build.target(build.column("pgf_own", "reset_val"))],
        fromClause=[build.relation("pg_catalog", "pg_settings", alias="pgf_own")],
        whereClause=own,
    )
    sublink = {"SubLink": {"subLinkType": "EXPR_SUBLINK", "subselect": server}}
    values: list[Node] = [base, sublink, build.text("")]
    if fixed:
        whens = [
            {"CaseWhen": {"expr": build.operation(name, "=", build.text(key)), "result": build.text(value)}}
            for key, value in fixed
        ]
        values.insert(0, {"CaseExpr": {"args": whens}})
    return build.coalesce(*values)


def rewrite_show(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide SHOW.

    Raises FaucetError: 42501, 42704.
    """
    world = context.world
    name: str = stmt["VariableShowStmt"]["name"]
    key = name.lower()
    if key == "all":
        return _show_all(world)
    upstream = settings.check_current_setting(name, world)
    if upstream == key:
        return Rewritten(stmt, "SHOW", reasons=("a setting that may be seen",))
    query = build.select([build.target(setting_value(key, upstream, world), key)])
    return Rewritten(query, "SHOW", tag="SHOW", reasons=(_EMULATED,))


def setting_value(name: str, upstream: str | None, world: World) -> Node:
    """Write the expression that answers current_setting(name); `upstream` is what `check_current_setting` said."""
    if upstream is None:
        return build.text(settings.constant_setting(name, world) or "")
    if upstream != settings.SEARCH_PATH_SETTING:
        return build.call("current_setting", build.text(upstream))
    current = build.call("current_setting", build.text(upstream), build.boolean(True))
    given = build.operation(current, "=", build.text(""), kind="AEXPR_NULLIF")
    return build.coalesce(given, build.text(settings.format_search_path(world.search_path)))


def _show_all(world: World) -> Rewritten:
    """Write SHOW ALL as a query over the settings that the role may see."""
    own = build.column("pgf_own", "name")
    listed = {
        "A_Expr": {
            "kind": "AEXPR_IN",
            "name": [build.string("=")],
            "lexpr": own,
            "rexpr": {"List": {"items": [build.text(name) for name in settings.shown_settings(world)]}},
        }
    }
    query = build.select(
        [
            build.target(own, "name"),
            build.target(build.call("current_setting", own), "setting"),
            build.target(build.column("pgf_own", "short_desc"), "description"),
        ],
        fromClause=[build.relation("pg_catalog", "pg_settings", alias="pgf_own")],
        whereClause=listed,
        sortClause=[
            {
                "SortBy": {
                    "node": build.call("lower", own),
                    "sortby_dir": "SORTBY_DEFAULT",
                    "sortby_nulls": "SORTBY_NULLS_DEFAULT",
                }
            }
        ],
    )
    return Rewritten(query, "SHOW", tag="SHOW", reasons=("settings that may be seen",))
