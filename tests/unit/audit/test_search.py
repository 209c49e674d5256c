from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.audit.search import Wanted, search


def line(**changes: object) -> bytes:
    record: dict[str, object] = {
        "ts": "2026-05-05T14:32:18.412Z",
        "token_label": "agent:bot:1",
        "role": "desk",
        "tables": ["public.orders", "hr.salaries"],
        "decision": "allow",
    }
    return orjson.dumps(record | changes) + b"\n"


def is_found(record: bytes, **wanted: Any) -> bool:
    return len(list(search([record], Wanted(**wanted)))) == 1


def test_nothing_wanted_finds_everything_in_order():
    lines = [line(seq=number) for number in range(3)]
    assert [record["seq"] for record in search(lines, Wanted())] == [0, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"label": "agent:*"}, True),
        ({"label": "agent:bot:?"}, True),
        ({"label": "AGENT:*"}, False),
        ({"label": "bot"}, False),
        ({"table": "orders"}, True),
        ({"table": "public.orders"}, True),
        ({"table": "salaries"}, True),
        ({"table": "public.salaries"}, False),
        ({"table": "order"}, False),
        ({"role": "desk"}, True),
        ({"role": "des"}, False),
        ({"decision": "deny"}, False),
        ({"since": "2026-05-05T14:32:18.412Z"}, True),
        ({"since": "2026-05-05T14:32:18.413Z"}, False),
        ({"until": "2026-05-05T14:32:18.412Z"}, False),
        ({"until": "2026-05-05T14:32:18.413Z"}, True),
        ({"role": "desk", "table": "orders", "label": "agent:*"}, True),
        ({"role": "desk", "table": "customers", "label": "agent:*"}, False),
    ],
)
def test_a_record_is_found_if_it_fits_all_that_is_wanted(wanted: dict[str, str], found: bool):
    assert is_found(line(), **wanted) == found


def test_a_record_without_a_token_has_no_label():
    assert not is_found(line(token_label=None), label="*")
    assert is_found(line(token_label=None))


@pytest.mark.parametrize("role", ['a"b', "a\\b", "größe", "\u2028"])
def test_a_role_is_found_however_json_writes_it(role: str):
    assert is_found(line(role=role), role=role)
    assert not is_found(line(role="x" + role), role=role)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\n",
        b"{",
        b"[]\n",
        b"7\n",
        b'{"ts":7}\n',
        b"{}\n",
        b"\xff\n",
        b'{"ts":"x","tables":[1],"token_label":2}\n',
    ],
)
def test_what_is_no_record_is_passed_over(other: bytes):
    wanted = Wanted(label="agent:*", table="orders", since="2026", until="2027")
    assert [record["seq"] for record in search([other, line(seq=1)], wanted)] == [1]


@given(st.binary(max_size=50))
def test_no_line_ends_a_search(other: bytes):
    assert len(list(search([other, line()], Wanted(role="desk")))) == 1


ODD = st.text(st.sampled_from('ab*?[]!-"\\\n\té\N{GRINNING FACE}./'), max_size=6)
TIMES = st.sampled_from(["2026-05-05T14:32:18.411Z", "2026-05-05T14:32:18.412Z", "2026-05-05T14:32:18.413Z"])


@given(
    record=st.fixed_dictionaries({"token_label": ODD, "role": ODD, "tables": st.lists(ODD, max_size=2), "ts": TIMES}),
    wanted=st.fixed_dictionaries(
        {}, optional={"label": ODD, "role": ODD, "table": ODD, "since": TIMES, "until": TIMES}
    ),
)
def test_what_is_passed_over_by_its_bytes_would_not_have_fitted(record: dict[str, Any], wanted: dict[str, str]):
    assert is_found(line(**record), **wanted) is Wanted(**wanted).fits(orjson.loads(line(**record)))
