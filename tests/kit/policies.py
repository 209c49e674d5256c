"""The policy that the integration tests run under; each test may add to it or bring its own."""

from __future__ import annotations

SERVER = """\
server:
  listen: ${PGFAUCET_LISTEN}
  workers: 1
  tokens: {store: "sqlite:${PGFAUCET_STATE}/tokens.db", max_ttl: 24h}
  audit: {file: "${PGFAUCET_STATE}/audit.jsonl", key: "${PGFAUCET_STATE}/audit.key", durability: batch, params: hash}
  admin: ${PGFAUCET_ADMIN}
databases:
  shop:
    dsn: ${UPSTREAM_DSN}
    password: ${UPSTREAM_PASSWORD}
    pool: {mode: transaction, size: 8, wait_timeout: 5s}
"""

ROLES = """\
roles:
  desk:
    description: Works on the orders and notes of one tenant
    database: shop
    tables:
      tenants: {select: [id, name, plan], row_filter: "id = claim('tenant')::int"}
      customers: {select: [id, tenant_id, name, city], row_filter: "tenant_id = claim('tenant')::int"}
      orders:
        select: [id, tenant_id, customer_id, status, total, note, placed_at]
        insert: [customer_id, status, total, note]
        update: [status, note]
        row_filter: tenant_id = claim('tenant')::int
        check: tenant_id = claim('tenant')::int and total < 10000
        preset: {tenant_id: "claim('tenant')::int"}
      notes:
        select: [id, tenant_id, body, pinned, score, price, tags, details, raw, day, at, key]
        insert: [id, body, pinned, score, price, tags, details, raw, day, at, key]
        update: [body, pinned, score, price, tags, details, raw, day, at, key]
        delete: true
        row_filter: tenant_id = claim('tenant')::int
        preset: {tenant_id: "claim('tenant')::int"}
  reader:
    description: Reads the notes of one tenant
    database: shop
    tables:
      notes: {select: [id, tenant_id, body, pinned, tags], row_filter: "tenant_id = claim('tenant')::int"}
  owner:
    description: Everything, unchanged
    database: shop
    access: full
"""

WIDE = (
    ROLES
    + """\
  migrator:
    database: shop
    tables: {"*": {select: true, insert: true, update: true, delete: true, truncate: true}}
    functions: ["*"]
    statements: [ddl, temp, copy, do, lock]
  sketcher:
    database: shop
    tables: {notes: {select: [id, body], row_filter: "tenant_id = 42"}}
    statements: [temp]
"""
)
"""With a role that may define anything, and one that makes temporary tables."""
