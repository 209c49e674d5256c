"""How the demo prints: colour and box characters for a terminal that shows them, plain text for a pipe."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH_LIMIT: Final = 100
BOLD, DIM, RED, GREEN, BLUE = "1", "2", "31", "32", "36"


class Screen:
    """Prints headings, explanations, commands, their output and verdicts, and counts the verdicts that are bad."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colours = self._stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._unicode = (self._stream.encoding or "").lower().replace("-", "") == "utf8"
        self.width = min(shutil.get_terminal_size((WIDTH_LIMIT, 24)).columns, WIDTH_LIMIT)
        self.checked = 0
        self.failed: list[str] = []

    def title(self, text: str) -> None:
        """Print the first line of the whole."""
        self._line()
        self._line(self._paint(BOLD, text))

    def heading(self, text: str) -> None:
        """Open a step."""
        rule = "─" if self._unicode else "-"
        self._line()
        self._line(self._paint(BOLD, f"{rule * 2} {text} ".ljust(self.width, rule)))

    def say(self, text: str) -> None:
        """Explain, in lines as wide as the screen."""
        for line in textwrap.wrap(" ".join(text.split()), self.width - 2):
            self._line(f"  {line}")

    def done(self, what: str, detail: str = "") -> None:
        """Report one finished preparation."""
        self._line(f"  {self._paint(GREEN, self._mark(good=True))} {what:<22}{self._paint(DIM, detail)}")

    def command(self, prompt: str, text: str) -> None:
        """Show what is run, and where."""
        first, *rest = textwrap.dedent(text).strip().splitlines()
        self._line()
        self._line(f"  {self._paint(BLUE, prompt)} {self._paint(BOLD, first)}")
        for line in rest:
            self._line(f"  {' ' * len(prompt)} {self._paint(BOLD, line)}")

    def output(self, text: str) -> None:
        """Show what came back, cut at the right edge."""
        for line in text.rstrip().splitlines():
            is_error = line.startswith(("ERROR:", "FATAL:"))
            cut = line if len(line) <= self.width - 4 else line[: self.width - 5] + ("…" if self._unicode else ">")
            self._line(f"    {self._paint(RED, cut) if is_error else cut}".rstrip())

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines as they are."""
        for line in lines:
            self._line(f"  {line}".rstrip())

    def check(self, what: str, *, holds: bool) -> None:
        """Print a verdict on the step; a bad one fails the tour."""
        self.checked += 1
        if not holds:
            self.failed.append(what)
        self._line(f"  {self._paint(GREEN if holds else RED, self._mark(good=holds))} {what}")

    def blank(self) -> None:
        """Print an empty line."""
        self._line()

    def _mark(self, *, good: bool) -> str:
        if self._unicode:
            return "✓" if good else "✗"
        return "ok" if good else "NOT SO:"

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and text else text

    def _line(self, text: str = "") -> None:
        encoding = self._stream.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)
