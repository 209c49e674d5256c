from __future__ import annotations

import pytest

from pgfaucet.policy.identifier import qualified_name


@pytest.mark.parametrize(
    ("written", "path", "schema", "name"),
    [
        ("orders", ("public",), "public", "orders"),
        ("orders", ("hr", "public"), "hr", "orders"),
        ("hr.salaries", ("public",), "hr", "salaries"),
        ("Orders", ("public",), "public", "Orders"),
        ('"Odd.Name"', ("public",), "public", "Odd.Name"),
        ('hr."a""b"', ("public",), "hr", 'a"b'),
        ('"h.r".t', ("public",), "h.r", "t"),
    ],
)
def test_a_name_is_read_as_it_stands(written: str, path: tuple[str, ...], schema: str, name: str):
    assert qualified_name(written, path) == (schema, name)
