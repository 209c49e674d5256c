"""The settings that a client asks for in its start-up packet: as parameters of their own, and in `options`.

They pass the same policy as SET, and are what RESET goes back to. Source: manual, libpq-connect "options"; src/backend/tcop/postgres.c
(process_postgres_switches) and utils/init/postinit.c (process_startup_options).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql.settings import BASE_PREFIX, check_set_config, fixed_settings, format_search_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgfaucet.sql.world import World

NOT_SETTINGS: Final = frozenset({"user", "database", "options", "replication"})
_NOT_ALPHANUMERIC: Final = re.compile(r"[^a-z0-9]")
_WORD: Final = re.compile(r"(?:[^\s\\]|\\.)+", re.DOTALL)


def requested_settings(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a start-up packet; a parameter of its own wins over `options`. Raises FaucetError 42601."""
    found = parse_options(parameters.get("options", ""))
    found.update((name.lower(), value) for name, value in parameters.items() if name not in NOT_SETTINGS)
    return found


def parse_options(text: str) -> dict[str, str]:
    """Read `-c name=value` and `--name=value`, split at white space, with backslash escapes."""
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _WORD.findall(text)]
    found: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word = words.pop(0)
        elif word.startswith(("-c", "--")):
            word = word[2:]
        else:
            raise FaucetError(Sqlstate.SYNTAX_ERROR, "invalid command-line argument for server process")
        name, equals, value = word.partition("=")
        if not equals:
            raise FaucetError(Sqlstate.SYNTAX_ERROR, f"-c {name} requires a value")
        found[name.replace("-", "_").lower()] = value
    return found


def base_settings(world: World, requested: Mapping[str, str], *, is_full: bool) -> dict[str, str]:
    """Return what a session starts with, by the name that it has on the server: the policy's settings and the client's.

    `is_full`: the role has `access: full`, and may set what the server lets it set.
    Raises FaucetError: 42501 not allowed, 42704 no such setting, 22023 not a value.
    """
    chosen = {"application_name": "", **fixed_settings(world)}
    if is_full or world.may_define:
        chosen["search_path"] = format_search_path(world.search_path)
    for name, value in requested.items():
        if name == "client_encoding" and _NOT_ALPHANUMERIC.sub("", value.lower()) in ("auto", "unicode", "utf8"):
            continue  # compared as the server compares names of encodings (encnames.c, clean_encoding_name)
        chosen[name if is_full else check_set_config(name, value, world)] = value
    if is_full:
        return chosen  # what RESET means there is the session's work
    base = dict(chosen)
    base.update((f"{BASE_PREFIX}{name}", value) for name, value in chosen.items())
    return base
