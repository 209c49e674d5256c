"""Which settings a client may set and see, and how its search_path stands on the server.

Every setting is decided in data/settings.txt; what is listed nowhere is refused. The settings that change how text is read, or who
we are, stay ours whatever a policy says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from pglast.keywords import COL_NAME_KEYWORDS, RESERVED_KEYWORDS, TYPE_FUNC_NAME_KEYWORDS

from pgfaucet.errors import FaucetError, Sqlstate

if TYPE_CHECKING:
    from pgfaucet.sql.world import World

SEARCH_PATH_SETTING: Final = "pgfaucet.search_path"
"""Holds the client's search_path on the server, in the form that SHOW search_path has; empty: the role's own."""

CONTEXT_SETTING: Final = "pgfaucet.context"
"""What the client says of its work, for the audit record (CONTRACT section 6)."""

BASE_PREFIX: Final = "pgfaucet.base."
"""`pgfaucet.base.timezone` holds what RESET TimeZone goes back to, where that is not the server's own value."""

MAX_CONTEXT_CHARACTERS: Final = 4096
MAX_SEARCH_PATH_CHARACTERS: Final = 4096

TIMEOUTS: Final = frozenset(
    {
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "lock_timeout",
        "statement_timeout",
        "transaction_timeout",
    }
)
"""Settings in milliseconds, where 0 means no bound."""

OURS: Final = frozenset(
    {
        "array_nulls",
        "backslash_quote",
        "is_superuser",
        "role",
        "row_security_active",
        "session_authorization",
        "session_replication_role",
        "transform_null_equals",
    }
)
"""Not even allow_set opens these: they change what a row filter means, how text is read, or who we are."""

_FREE: Final = frozenset({"client_encoding", "client_min_messages"})
_SET: Final = frozenset({"set", "statement"})
SHOWN: Final = _SET | {"show", "ddl"}
"""Kinds of access that let a client see a setting."""

_DEFAULTS_OF: Final = {
    "transaction_isolation": "default_transaction_isolation",
    "transaction_read_only": "default_transaction_read_only",
    "transaction_deferrable": "default_transaction_deferrable",
}
_BOOLEANS: Final = {
    "on": "on",
    "true": "on",
    "yes": "on",
    "1": "on",
    "off": "off",
    "false": "off",
    "no": "off",
    "0": "off",
}
_MILLISECONDS: Final = {"us": 0.001, "ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, None: 1}
_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?\s*", re.ASCII)
_PLAIN_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_$]*", re.ASCII)
_QUOTED_KEYWORDS: Final = COL_NAME_KEYWORDS | RESERVED_KEYWORDS | TYPE_FUNC_NAME_KEYWORDS


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of data/settings.txt."""

    name: str  # as PostgreSQL spells it
    access: str  # set | statement | show | ddl | none
    values: frozenset[str]  # the only ones a client may set, in lower case; empty: any


def _read_settings() -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for line in files("pgfaucet").joinpath("data/settings.txt").read_text("ascii").splitlines():
        if line and not line.startswith("#"):
            name, access, *values = line.split()
            found[name.lower()] = Setting(name, access, frozenset(values[0].split(",")) if values else frozenset())
    return found


SETTINGS: Final = _read_settings()


def check_set_config(name: str, value: str | None, world: World) -> str:
    """Return the setting to set on the server when a client sets `name`; `value` None means not known before it runs.

    Raises FaucetError: 42501 not allowed, 42704 no such setting, 22023 not a value.
    """
    key = name.lower()
    if key == "search_path":
        check_search_path(value, world)
        return search_path_setting(world)
    if key == CONTEXT_SETTING:
        if value is None or len(value) > MAX_CONTEXT_CHARACTERS:
            raise _invalid_value(name)
        return CONTEXT_SETTING
    setting = SETTINGS.get(key)
    if not is_settable(key, world):
        if setting is None and "." not in key and key not in OURS:
            raise unrecognized(name)
        raise denied(name)
    if setting is not None and not _takes(setting, value, world):
        raise _unlisted_value(setting, value)
    _check_fixed(key, name, value, world)
    return key


def _takes(setting: Setting, value: str | None, world: World) -> bool:
    """Tell whether a setting may have that value: a role that sees everything may have messages and texts as it likes."""
    if not setting.values or (world.may_define and setting.name in _FREE):
        return True
    return value is not None and value.lower() in setting.values


def is_settable(name: str, world: World) -> bool:
    """Tell whether a client may set this setting, to some value. `name` is in lower case."""
    if name in OURS or name.startswith("pgfaucet."):
        return False
    if _is_open(name, world):
        return True
    return name != "search_path" and not world.allow_set.isdisjoint((name, "*"))


def _is_open(name: str, world: World) -> bool:
    setting = SETTINGS.get(name)
    return setting is not None and (setting.access in _SET or (setting.access == "ddl" and "ddl" in world.statements))


def is_set_by_function(name: str) -> bool:
    """Tell whether set_config() may set what SET may. pg_dump says SET row_security = off; in a query it is a probe."""
    setting = SETTINGS.get(name.lower())
    return setting is None or setting.access != "statement"


def is_shown(name: str, world: World) -> bool:
    """Tell whether a client may see this setting's value. `name` is in lower case."""
    setting = SETTINGS.get(name)
    if setting is not None and setting.access in SHOWN:
        return True
    return name == CONTEXT_SETTING or (name != "search_path" and is_settable(name, world))


def shown_settings(world: World) -> tuple[str, ...]:
    """Return the settings that SHOW ALL and pg_settings may list, as PostgreSQL spells them; search_path is not among them."""
    return tuple(setting.name for key, setting in SETTINGS.items() if is_shown(key, world))


def resettable_settings(world: World) -> tuple[str, ...]:
    """Return what RESET ALL has to reset on the server: all that a client may have set by name, in lower case."""
    extra = {name for name in world.allow_set if name != "*" and is_settable(name, world)}
    known = {name for name in SETTINGS if _is_open(name, world) and name not in _DEFAULTS_OF and name not in OURS}
    return (*sorted(known | extra), search_path_setting(world), CONTEXT_SETTING)


def check_current_setting(name: str, world: World) -> str | None:
    """Return the setting to read on the server when a client asks for `name`; None: answer with `constant_setting(name)`.

    Raises FaucetError: 42501 not to be seen, 42704 no such setting (the caller gives NULL for it where missing_ok is set).
    """
    key = name.lower()
    if key == "search_path":
        return search_path_setting(world)
    if constant_setting(key, world) is not None:
        return None
    if is_shown(key, world):
        return key
    if key in SETTINGS:
        raise FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f'permission denied to examine "{name}"')
    raise unrecognized(name)


def constant_setting(name: str, world: World) -> str | None:
    """Return the value of a setting that we answer ourselves, since the server's is the service account's; else None."""
    return {"is_superuser": "off", "session_authorization": world.user, "role": "none"}.get(name.lower())


def search_path_setting(world: World) -> str:
    """Return the setting that holds the client's search_path on the server: the server's own where names in DDL are found by it."""
    return "search_path" if world.may_define else SEARCH_PATH_SETTING


def check_search_path(value: str | None, world: World) -> None:
    """Refuse a search_path that looks in the temporary schema before others, or is too long.

    Raises FaucetError: 42501, 22023.
    """
    if value is None:
        return
    path = _split_identifiers(value)
    if path is None or len(value) > MAX_SEARCH_PATH_CHARACTERS:
        raise _invalid_value("search_path")
    if "temp" not in world.statements and any(
        schema == "pg_temp" or schema.startswith("pg_temp_") for schema in path[:-1]
    ):
        raise denied("search_path")


def parse_search_path(text: str) -> tuple[str, ...]:
    """Read the value of SEARCH_PATH_SETTING; what is not a list of identifiers is an empty path."""
    return _split_identifiers(text) or ()


def _split_identifiers(text: str) -> tuple[str, ...] | None:
    """Split a list of identifiers as the server does (varlena.c, SplitIdentifierString); None if it is not one."""
    names: list[str] = []
    rest = text.strip()
    while rest:
        found = re.match(r'"((?:[^"]|"")+)"|([^\s,"]+)', rest)
        if found is None:
            return None
        quoted, plain = found.groups()
        names.append(quoted.replace('""', '"') if quoted is not None else plain.lower())
        rest = rest[found.end() :].lstrip()
        if rest and (rest[0] != "," or not rest[1:].strip()):
            return None
        rest = rest[1:].lstrip()
    return tuple(name.encode()[:63].decode(errors="ignore") for name in names)


def format_search_path(names: tuple[str, ...]) -> str:
    """Write a list of schemas as SHOW search_path has it: quoted where an identifier has to be."""
    return ", ".join(_quote_identifier(name) for name in names)


def _quote_identifier(name: str) -> str:
    if _PLAIN_IDENTIFIER.fullmatch(name) and name not in _QUOTED_KEYWORDS and "$" not in name:
        return name
    return '"' + name.replace('"', '""') + '"'


def _check_fixed(key: str, name: str, value: str | None, world: World) -> None:
    if key in TIMEOUTS:
        _check_timeout(key, name, value, world)
        return
    fixed = _fixed_value(_DEFAULTS_OF.get(key, key), world)
    if fixed is not None and (value is None or _plain(value) != _plain(fixed)):
        raise denied(name, hint="The policy fixes this setting for the session.")


def _check_timeout(key: str, name: str, value: str | None, world: World) -> None:
    """A bound may be lowered, not raised; where a role is bounded at all, no bound may be lifted."""
    if TIMEOUTS.isdisjoint(fixed.lower() for fixed in world.settings):
        return
    wanted = milliseconds(value) if value is not None else None
    if wanted is None:
        raise _invalid_value(name) if value is not None else denied(name)
    fixed = milliseconds(_fixed_value(key, world) or "0") or 0
    if wanted < 1 or (fixed >= 1 and wanted > fixed):
        raise denied(name, hint="The policy fixes this time-out for the session: it may be lowered, not raised.")


def milliseconds(value: str) -> float | None:
    """Read a duration as the server does for a setting whose unit is milliseconds; None if it is not one."""
    found = _DURATION.fullmatch(value)
    return float(found[1]) * _MILLISECONDS[found[2]] if found is not None else None


def _fixed_value(key: str, world: World) -> str | None:
    return next((value for name, value in world.settings.items() if name.lower() == key), None)


def fixed_settings(world: World) -> dict[str, str]:
    """Return the settings that the policy fixes, by lower-case name."""
    return {name.lower(): value for name, value in world.settings.items()}


def _plain(value: str) -> str:
    lower = value.strip().lower()
    return _BOOLEANS.get(lower, lower)


def denied(name: str, hint: str | None = None) -> FaucetError:
    """Word the refusal to set a parameter, as the server does."""
    return FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f'permission denied to set parameter "{name}"', hint=hint)


def unrecognized(name: str) -> FaucetError:
    """Word that there is no such parameter, as the server does."""
    return FaucetError(Sqlstate.UNDEFINED_OBJECT, f'unrecognized configuration parameter "{name}"')


def _unlisted_value(setting: Setting, value: str | None) -> FaucetError:
    listed = ", ".join(sorted(setting.values))
    if value is None:
        return denied(setting.name)
    return denied(setting.name, hint=f"It may be set to one of: {listed}.")


def _invalid_value(name: str) -> FaucetError:
    return FaucetError(Sqlstate.INVALID_PARAMETER_VALUE, f'invalid value for parameter "{name}"')
