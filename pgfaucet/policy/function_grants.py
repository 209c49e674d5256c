"""Which functions a role may call beyond the safe built-ins, from the patterns that its policy names.

Functions that read files, run SQL text, reach other servers or act on the server itself are never opened, by no pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgfaucet.policy.identifier import qualified_name
from pgfaucet.policy.problem import Problem, known_names
from pgfaucet.sql.builtins import FunctionClass, classify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.policy.model import Role
    from pgfaucet.sql.catalog import CatalogSnapshot, Function, QualifiedName

CLOSED_EXTENSIONS: Final = frozenset(
    {
        "adminpack",
        "amcheck",
        "aws_lambda",
        "aws_s3",
        "dblink",
        "file_fdw",
        "http",
        "mysql_fdw",
        "ogr_fdw",
        "oracle_fdw",
        "pageinspect",
        "pg_buffercache",
        "pg_cron",
        "pg_freespacemap",
        "pg_net",
        "pg_prewarm",
        "pg_surgery",
        "pg_visibility",
        "pg_walinspect",
        "pgrowlocks",
        "pgstattuple",
        "plproxy",
        "postgres_fdw",
        "redis_fdw",
        "sqlite_fdw",
        "tds_fdw",
        "xml2",
    }
)
CLOSED_FUNCTIONS: Final = re.compile(r"crosstab.*|connectby|xpath_table|dblink.*|postgres_fdw_.*|pg_read_.*|pg_file_.*")
"""Outside pg_catalog, by name (RECIPES G3)."""

CLOSED_BUILTINS: Final = re.compile(
    r"pg_read_.*|pg_stat_file|pg_ls_.*|pg_current_logfile|pg_hba_file_rules|pg_ident_file_mappings|pg_show_all_file_settings"
    r"|pg_config|pg_control_.*|pg_tablespace_location|pg_relation_filepath|pg_get_loaded_modules|pg_import_system_collations"
    r"|lo_import|lo_export"
    r"|(query|cursor|table|schema|database)_to_xml.*|ts_stat|ts_rewrite|currtid2|current_query|pg_cursor"
    r"|pg_prepared_statement|pg_get_backend_memory_contexts|pg_log_.*|pg_stat_get_(activity|backend_.*|wal_senders|wal_receiver)"
    r"|pg_(terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile|pg_promote|pg_switch_wal|pg_create_restore_point|pg_backup_.*"
    r"|pg_wal_replay_.*|pg_(logical|replication|copy|create|drop|sync)_.*|pg_stop_making_pinned_objects|binary_upgrade_.*"
    r"|pg_stat_(reset|clear|force).*|pg_export_snapshot|pg_(clear|restore)_.*_stats|pg_extension_config_dump|pg_event_trigger_.*"
    r"|pg_settings_get_flags|pg_show_all_settings|set_config|current_setting|pg_notify|pg_listening_channels|.*_validator"
)
"""In pg_catalog: files, SQL text, other servers and sessions, settings; LISTEN and NOTIFY are statement kinds."""

OPEN_CLASSES: Final = frozenset({FunctionClass.DANGEROUS, FunctionClass.SESSION_STATE})
DESCRIBING_BUILTINS: Final = re.compile(
    r"pg_.*_size|(nextval|setval|currval|lastval)|lo_.*|loread|lowrite|pg_stat_.*|pg_sequence_.*|pg_get_sequence_data|pg_relation_filenode|pg_filenode_relation|pg_get_publication_tables"
    r"|pg_lock_status|brin_.*|gin_clean_pending_list|pg_tablespace_databases|pg_mcv_list_items|amvalidate|satisfies_hash_partition"
)
"""Builtins that tell about any relation: only where a role sees everything."""


COMPUTING_INTERNALS: Final = re.compile(
    r"hash.*|.*_hash(_extended)?|.*send|.*(larger|smaller|cmp|eq|ne|lt|le|gt|ge)|float[48]_.*|bool(or|and)_statefunc"
)
"""Builtins that the server calls itself, and that only compute from their arguments: where a role sees everything."""


@dataclass(frozen=True, slots=True)
class FunctionGrants:
    """The functions that a role's patterns open."""

    functions: dict[QualifiedName, tuple[Function, ...]]  # outside pg_catalog
    builtins: frozenset[str]  # of pg_catalog, by name
    is_open: bool  # "*" is among the patterns
    known_builtins: frozenset[str]
    problems: tuple[Problem, ...]

    def system_functions(self, *, sees_everything: bool) -> frozenset[str]:
        """Return the functions of pg_catalog that are open beyond the safe ones."""
        if not self.is_open:
            return self.builtins
        return self.builtins | {name for name in self.known_builtins if _is_open(name, sees_everything=sees_everything)}


def _is_open(name: str, *, sees_everything: bool) -> bool:
    kind = classify(name)
    if CLOSED_BUILTINS.fullmatch(name):
        return False
    if kind is FunctionClass.INTERNAL:
        return sees_everything and COMPUTING_INTERNALS.fullmatch(name) is not None
    if kind is FunctionClass.CATALOG_INFO:
        return sees_everything
    return kind in OPEN_CLASSES and (sees_everything or not DESCRIBING_BUILTINS.fullmatch(name))


def grant_functions(role: Role, catalog: CatalogSnapshot) -> FunctionGrants:
    """Match a role's function patterns with the catalog."""
    functions: dict[QualifiedName, tuple[Function, ...]] = {}
    builtins: set[str] = set()
    problems: list[Problem] = []
    patterns = role.functions if role.access != "full" else ("*",)
    for pattern in patterns:
        found = dict(_matching(pattern, role, catalog))
        functions |= found
        name = qualified_name(pattern, role.search_path)
        if found or pattern.endswith("*"):
            continue
        is_builtin = name.schema == "pg_catalog" or "." not in pattern
        if is_builtin and name.name in catalog.system_functions and not CLOSED_BUILTINS.fullmatch(name.name):
            builtins.add(name.name)
        else:
            problems.append(_problem(pattern, name, role, catalog))
    return FunctionGrants(functions, frozenset(builtins), "*" in patterns, catalog.system_functions, tuple(problems))


def _matching(
    pattern: str, role: Role, catalog: CatalogSnapshot
) -> Iterator[tuple[QualifiedName, tuple[Function, ...]]]:
    wanted = qualified_name(pattern, role.search_path)
    for name, overloads in catalog.functions.items():
        if pattern == "*" or name == wanted or (wanted.name == "*" and name.schema == wanted.schema and "." in pattern):
            opened = tuple(function for function in overloads if not is_closed(function))
            if opened:
                yield name, opened


def is_closed(function: Function) -> bool:
    """Say whether a function outside pg_catalog reads files, runs SQL text or reaches other servers, as far as one can know."""
    return function.extension in CLOSED_EXTENSIONS or CLOSED_FUNCTIONS.fullmatch(function.name.name) is not None


def _problem(pattern: str, name: QualifiedName, role: Role, catalog: CatalogSnapshot) -> Problem:
    if name in catalog.functions or name.name in catalog.system_functions:
        fix = "take it out: functions that reach files, SQL text, other servers or other sessions are never opened"
        return Problem(role.source, f'function "{pattern}" cannot be granted', fix)
    known = (each.name for each in catalog.functions if each.schema == name.schema)
    return Problem(role.source, f'function "{pattern}" does not exist', known_names(name.name, known))
