from __future__ import annotations

from tools.check_sizes import module_problems


def test_a_long_function_is_named_with_its_line():
    text = "x = 1\ndef long():\n" + "    pass\n" * 41
    assert list(module_problems("m.py", text)) == ["m.py:2: long has 42 lines; a function has at most 40"]


def test_a_long_module_is_named():
    assert list(module_problems("m.py", "x = 1\n" * 501)) == ["m.py:1: 501 lines; a module has at most 500"]


def test_small_code_is_fine():
    assert list(module_problems("m.py", "def f():\n    return 1\n")) == []
