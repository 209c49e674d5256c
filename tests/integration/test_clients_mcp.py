"""The reference MCP server for PostgreSQL, driven over stdio as an agent's host does, unchanged but for the DSN."""

from __future__ import annotations

import json
import os

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
