from __future__ import annotations

import pytest

from pgfaucet.policy.yamltree import MAX_DEPTH, MappingNode, ScalarNode, compose, position_in, source_of, to_value


def value(text: str):
    root, problems = compose(text, "a.yaml")
    assert problems == []
    assert root is not None
    return to_value(root)


def said(text: str) -> list[str]:
    return [str(problem) for problem in compose(text, "a.yaml")[1]]


@pytest.mark.parametrize("text", ["off", "no", "010", "1_000", "12:30:45", "2026-05-05", "0x1F", "1e6", ".inf", "yes"])
def test_no_text_means_anything_by_itself(text: str):
    assert value(f"key: {text}") == {"key": text}


@pytest.mark.parametrize("text", ["", "~", "null", "NULL"])
def test_nothing_and_null_are_no_value(text: str):
    assert value(f"key: {text}") == {"key": None}


@pytest.mark.parametrize("text", ['""', "'~'", '"null"'])
def test_a_quoted_text_is_a_text(text: str):
    assert value(f"key: {text}") == {"key": text[1:-1]}


def test_lists_and_mappings_keep_their_order():
    assert value("b: [2, 1]\na: {d: x, c: y}") == {"b": ["2", "1"], "a": {"d": "x", "c": "y"}}
    assert list(value("b: 1\na: 2")) == ["b", "a"]


def test_an_alias_stands_for_what_its_anchor_marks():
    assert value("a: &x {k: v}\nb: *x") == {"a": {"k": "v"}, "b": {"k": "v"}}


def test_an_alias_without_an_anchor_is_an_error_at_its_place():
    assert said("a: 1\nb: *x") == [
        'a.yaml:2:4: there is no anchor "&x" before this; write "&x" at what it stands for, or quotes around the *'
    ]


def test_aliases_cannot_blow_up():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (line,) = said("\n".join(lines))
    assert line.endswith("this file holds more than 500000 values, aliases written out; split it, or use fewer aliases")


def test_an_anchor_cannot_hold_itself():
    assert len(said("a: &a [*a]")) == 1


def test_depth_is_bounded():
    assert value("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    (line,) = said("[" * 5000)
    assert line == f"a.yaml:1:{MAX_DEPTH + 1}: this is nested more than 24 levels deep; no key of a policy file is"


def test_a_key_written_twice_names_both_places():
    assert said("a: 1\nb: 2\n'a': 3") == [
        'a.yaml:3:1: the key "a" is written twice; it stands at a.yaml:1:1 already; keep one'
    ]


@pytest.mark.parametrize(
    ("text", "tag"), [("a: !!python/object:os.system x", "!!python/object:os.system"), ("a: !x 1", "!x")]
)
def test_no_tag_is_obeyed(text: str, tag: str):
    assert said(text) == [f'a.yaml:1:4: the tag "{tag}" is not read; remove it; each key knows the type of its value']


def test_a_second_document_is_an_error():
    assert said("a: 1\n---\nb: 2") == [
        "a.yaml:2:1: a second document begins here; write one document in a file, without ---"
    ]


@pytest.mark.parametrize("text", ["? [a]\n: 1", "{a: 1}: 2"])
def test_a_key_is_a_text(text: str):
    (line,) = said(text)
    assert "a key is not a text" in line


@pytest.mark.parametrize(
    ("text", "place", "fix"),
    [
        ("a: [1", "a.yaml:2:1", "look at the indentation, brackets and quotes here and in the line before"),
        ("a: b: c", "a.yaml:1:5", "put quotes around a text that holds a colon, or mend the indentation"),
        ("a: *", "a.yaml:1:5", 'put quotes around a * or & that is meant as text, as in "*"'),
        ("a:\n\tb: 1", "a.yaml:2:1", "indent with spaces, and put quotes around a text that begins with %, @ or `"),
    ],
)
def test_what_is_not_yaml_says_where_and_what_to_do(text: str, place: str, fix: str):
    (line,) = said(text)
    assert line.startswith(f"{place}: this is not YAML: ")
    assert line.endswith(f"; {fix}")


@pytest.mark.parametrize("text", ["\x00", "a: \x07", '"\\ud800"', "a: \ufffe"])
def test_characters_that_are_none_never_raise(text: str):
    assert len(said(text)) == 1


@pytest.mark.parametrize(
    ("text", "part", "place"),
    [
        ("key: a = b", "b", "1:10"),
        ("key: 'it''s b'", "b", "1:13"),
        (r'key: "a \" = b"', "b", "1:14"),
        ("key: |\n  a =\n    b\n", "b", "3:5"),
        ("key: >\n  a =\n  b\n", "b", "3:3"),
        ("key: a\n  = b", "b", "2:5"),
    ],
)
def test_a_place_inside_a_text_is_found_in_the_file(text: str, part: str, place: str):
    root, _ = compose(text, "a.yaml")
    assert isinstance(root, MappingNode)
    node = root.values["key"]
    assert isinstance(node, ScalarNode)
    assert str(position_in(node, node.text.index(part))) == f"a.yaml:{place}"


def test_a_place_behind_an_escaped_line_break_is_where_the_text_begins():
    root, _ = compose(r'key: "a\n= b"', "a.yaml")
    assert isinstance(root, MappingNode)
    node = root.values["key"]
    assert isinstance(node, ScalarNode)
    assert str(position_in(node, 4)) == "a.yaml:1:6"


def test_a_path_that_leaves_the_tree_leads_to_the_nearest_place_above():
    root, _ = compose("a:\n  b: [x, y]\n", "a.yaml")
    assert root is not None
    assert str(source_of(root, ("a", "b", 1))) == "a.yaml:2:10"
    assert str(source_of(root, ("a", "b", 7))) == "a.yaml:2:3"
    assert str(source_of(root, ("a", "c"))) == "a.yaml:1:1"


def test_a_control_character_is_no_yaml():
    assert said("roles: \x01\n") == [
        "a.yaml:1:1: this is not YAML: unacceptable character #x0001: control characters are not allowed; save it as UTF-8 text"
    ]
