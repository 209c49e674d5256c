from __future__ import annotations

import io

from pgfaucet.demo.screen import Screen


class Terminal(io.TextIOWrapper):
    """A stream that looks like a terminal."""

    def __init__(self, encoding="utf-8", *, tty=False):
        super().__init__(io.BytesIO(), encoding=encoding)
        self._tty = tty

    def isatty(self):
        return self._tty

    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


def test_a_pipe_gets_no_colour():
    stream = Terminal()
    screen = Screen(stream)
    screen.title("t")
    screen.check("holds", holds=True)
    assert "\x1b" not in stream.text()
    assert "✓ holds" in stream.text()


def test_a_terminal_gets_colour_unless_it_asks_for_none(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal(tty=True)
    Screen(coloured).title("t")
    assert "\x1b[1mt\x1b[0m" in coloured.text()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal(tty=True)
    Screen(plain).title("t")
    assert "\x1b" not in plain.text()


def test_a_stream_without_unicode_gets_ascii_and_no_exception():
    stream = Terminal("ascii")
    screen = Screen(stream)
    screen.heading("step")
    screen.check("same … words", holds=False)
    assert "NOT SO: same ? words" in stream.text()


def test_bad_verdicts_are_counted():
    screen = Screen(Terminal())
    screen.check("good", holds=True)
    screen.check("bad", holds=False)
    assert (screen.checked, screen.failed) == (2, ["bad"])


def test_long_output_is_cut_at_the_edge_and_never_ends_in_blanks():
    stream = Terminal()
    screen = Screen(stream)
    screen.output("x" * 500 + "\nshort   ")
    first, second = stream.text().splitlines()
    assert len(first) <= screen.width
    assert first.endswith("…")
    assert second == "    short"
