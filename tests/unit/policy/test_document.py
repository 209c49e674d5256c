"""The JSON Schema says the same as the loader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgfaucet.policy.document import (
    AuditModel,
    DatabaseModel,
    LimitsModel,
    PolicyTestModel,
    PoolModel,
    RoleModel,
    ServerModel,
    TableModel,
    TlsModel,
    TokensModel,
    json_schema,
)

ROOT = Path(__file__).parents[3]
REFERENCES = ROOT / "docs" / "references"


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def test_the_schema_knows_the_four_sections_and_nothing_else():
    schema = json_schema()
    assert set(schema["properties"]) == {"server", "databases", "roles", "tests"}
    assert schema["additionalProperties"] is False


def test_every_key_of_the_schema_is_described():
    schema = json_schema()
    objects = [schema, *schema["$defs"].values()]
    assert len(objects) > 5
    for each in objects:
        assert each["additionalProperties"] is False
        for key, value in each["properties"].items():
            assert value.get("description") or resolved(schema, value).get("description"), key


def test_the_schema_asks_for_what_the_loader_asks_for():
    schema = json_schema()
    databases = resolved(schema, schema["properties"]["databases"]["additionalProperties"])
    assert databases["required"] == ["dsn"]
    tests = resolved(schema, schema["properties"]["tests"]["items"])
    assert tests["required"] == ["role"]


@pytest.mark.parametrize("model", [ServerModel, TlsModel, TokensModel, AuditModel, DatabaseModel, PoolModel])
def test_every_key_of_server_and_databases_is_in_the_reference(model: type[Any]):
    assert missing(model, "configuration.md") == []


@pytest.mark.parametrize("model", [RoleModel, TableModel, LimitsModel, PolicyTestModel])
def test_every_key_of_roles_and_tests_is_in_the_reference(model: type[Any]):
    assert missing(model, "policy.md") == []


def missing(model: type[Any], page: str) -> list[str]:
    """Return the keys of a model that no row of a table, nor heading, of a page is about."""
    named = re.findall(r"^(?:\| |#+ )`(?:[\w.]+\.)?(\w+)`", (REFERENCES / page).read_text(), re.MULTILINE)
    return [key for key in model.model_fields if key not in named]


def test_the_examples_in_the_schema_have_the_type_that_it_asks_for():
    schema = json_schema()
    kinds = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "array": list, "object": dict}
    checked = 0
    for each in schema["$defs"].values():
        for value in each["properties"].values():
            kind = value.get("type")
            if isinstance(kind, str):
                checked += len(value.get("examples", []))
                assert all(isinstance(example, kinds[kind]) for example in value.get("examples", []))
    assert checked > 10


def test_the_policies_of_the_sample_shop_use_known_keys_only():
    known = set(json_schema()["properties"])
    files = sorted((ROOT / "policies").glob("*.yaml"))
    assert files
    for file in files:
        assert set(yaml.safe_load(file.read_text())) <= known
