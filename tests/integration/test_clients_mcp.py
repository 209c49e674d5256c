"""The reference MCP server for PostgreSQL, driven over stdio as an agent's host does, unchanged but for the DSN."""

from __future__ import annotations

import json
import os
import re

import pytest

from tests.kit.clients import node_modules
from tests.kit.mcp import McpClient, McpError


@pytest.fixture(scope="module")
def reference(proxy):
    """The npm reference server."""
    modules = node_modules("@modelcontextprotocol/server-postgres@0.6.2") / "node_modules"
    script = modules / "@modelcontextprotocol" / "server-postgres" / "dist" / "index.js"
    with McpClient(["node", str(script), proxy.dsn()], dict(os.environ)) as client:
        yield client


def test_the_reference_server_queries_own_rows(reference):
    assert json.loads(reference.tool("query", sql="select id, body from notes order by id")) == [
        {"id": 2, "body": "first"},
        {"id": 3, "body": "second"},
    ]


def test_the_reference_server_lists_and_describes_what_the_role_may_see(reference):
    resources = reference.call("resources/list")["resources"]
    names = {resource["uri"].split("/")[-2] for resource in resources}
    assert names == {"tenants", "customers", "orders", "notes"}
    uri = next(resource["uri"] for resource in resources if "/notes/" in resource["uri"])
    described = json.loads(reference.call("resources/read", {"uri": uri})["contents"][0]["text"])
    columns = {column["column_name"] for column in described}
    assert {"id", "body"} <= columns
    assert "secret" not in columns


def test_the_reference_server_passes_refusals_on_and_goes_on(reference):
    with pytest.raises(McpError, match='relation "api_keys" does not exist'):
        reference.tool("query", sql="select * from api_keys")
    assert json.loads(reference.tool("query", sql="select count(*)::int as n from notes")) == [{"n": 2}]


def another_server(proxy):
    """Start a server of another author, with more tools."""
    modules = node_modules("mcp-postgres-full-access@0.3.0") / "node_modules"
    script = modules / "mcp-postgres-full-access" / "dist" / "index.js"
    return McpClient(["node", str(script), proxy.dsn()], dict(os.environ))


@pytest.fixture(scope="module")
def second(proxy):
    with another_server(proxy) as client:
        yield client


def test_another_server_queries_and_describes_the_world(second):
    assert "first" in second.tool("execute_query", sql="select id, body from notes order by id")
    listed = second.tool("list_tables")
    described = second.tool("describe_table", table_name="notes")
    assert all(name in listed for name in ("tenants", "customers", "orders", "notes"))
    assert all(name in described for name in ("tenant_id", "body", "tags"))
    for hidden in ("api_keys", "order_items", "secret", "HIDDEN"):
        assert hidden not in listed + described


def test_another_server_writes_within_the_policy(second):
    begun = second.tool("execute_dml_ddl_dcl_tcl", sql="insert into notes (body) values ('agent')")
    assert '"rowCount": 1' in begun, begun
    transaction = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}|tx_\w+", begun)
    assert transaction is not None, begun
    second.tool("execute_rollback", transaction_id=transaction[0])
    assert "agent" not in second.tool("execute_query", sql="select body from notes")


def test_another_server_passes_refusals_on(proxy):
    """Each in a server of its own: this one does not end a transaction that failed, whatever it is connected to."""
    for tool, sql, said in (
        ("execute_query", "select * from api_keys", 'relation "api_keys" does not exist'),
        ("execute_query", "select pg_read_file('/etc/passwd')", "permission denied for function"),
        ("execute_dml_ddl_dcl_tcl", "drop table orders", "permission denied"),
    ):
        with another_server(proxy) as server:
            assert said in failure(server, tool, sql)


def failure(server, tool, sql):
    """Return what a tool says, whether it calls it an error or not."""
    try:
        return server.tool(tool, sql=sql)
    except McpError as error:
        return str(error)
