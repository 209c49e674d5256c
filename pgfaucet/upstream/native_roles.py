"""Reads what an export of native DDL has to know of the server beside the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgfaucet.policy.export import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

USER: Final = """
    SELECT u.rolname, u.rolsuper OR u.rolbypassrls AS passes,
        EXISTS (SELECT FROM pg_catalog.pg_roles r
                WHERE r.rolname = ANY ($1::name[]) AND pg_catalog.pg_has_role(u.oid, r.oid, 'MEMBER')) AS is_member
    FROM pg_catalog.pg_roles u WHERE u.rolname = current_user"""
UNFIT: Final = """
    SELECT r.rolname, CASE WHEN r.rolname = current_user THEN 'the proxy itself connects as this native role'
                           WHEN r.rolsuper OR r.rolbypassrls THEN 'row security does not apply to the native role of this name'
                           ELSE 'the native role of this name owns relations of the database' END AS reason
    FROM pg_catalog.pg_roles r
    WHERE r.rolname = ANY ($1::name[]) AND (r.rolname = current_user OR r.rolsuper OR r.rolbypassrls
        OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relowner = r.oid))"""
SECURED: Final = """
    SELECT c.oid, array(SELECT p.polname::text FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) AS policies
    FROM pg_catalog.pg_class c WHERE c.relrowsecurity"""


async def read_server(connection: asyncpg.Connection, roles: Sequence[str]) -> Server:
    """Read it; `roles` are the names of the policy's roles."""
    user = await connection.fetchrow(USER, roles)
    unfit = await connection.fetch(UNFIT, roles)
    secured = await connection.fetch(SECURED)
    return Server(
        user=user["rolname"],
        user_passes=user["passes"],
        is_member=user["is_member"],
        unfit_roles={row["rolname"]: row["reason"] for row in unfit},
        secured={row["oid"]: frozenset(row["policies"]) for row in secured},
    )
