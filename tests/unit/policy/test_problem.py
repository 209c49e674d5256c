from __future__ import annotations

import pytest

from pgfaucet.policy.model import Source
from pgfaucet.policy.problem import PolicyErrors, Problem, in_order, known_names, nearest

PLACE = Source("a.yaml", 3, 7)


def test_a_problem_is_a_place_what_is_wrong_and_what_to_do():
    assert str(Problem(PLACE, "this is wrong", "do that")) == "a.yaml:3:7: this is wrong; do that"


def test_a_warning_says_that_it_is_one():
    assert str(Problem(PLACE, "look", "maybe", is_warning=True)) == "a.yaml:3:7: warning: look; maybe"


def test_all_errors_are_in_the_text_of_the_exception():
    errors = PolicyErrors([Problem(PLACE, "a", "b"), Problem("dir", "c", "d")])
    assert str(errors) == "a.yaml:3:7: a; b\ndir: c; d"


def test_problems_are_in_the_order_of_the_files_and_each_is_said_once():
    places = [Source("b.yaml", 1, 1), Source("a.yaml", 10, 1), Source("a.yaml", 9, 2), Source("a.yaml", 9, 1)]
    ordered = in_order([Problem(place, "x", "y") for place in (*places, *places)])
    assert [problem.source for problem in ordered] == places[::-1]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("selct", "select"), ("SELECT", "select"), ("row-filter", "row_filter"), ("zzz", None), ("", None)],
)
def test_the_nearest_name_is_found(written: str, meant: str | None):
    assert nearest(written, ["select", "insert", "row_filter"]) == meant


def test_what_to_write_is_the_nearest_name_or_all_of_them():
    assert known_names("ordrs", ["orders", "items"]) == 'did you mean "orders"?'
    assert known_names("zzz", ["orders", "items"]) == "use one of items, orders"
    assert known_names("zzz", []) == "none is defined"
