"""Adds up the metrics of several processes, in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def merge_metrics(texts: Iterable[str]) -> str:
    """Return one exposition: samples of the same name and labels are added up, but for *_info, which says the same everywhere."""
    lines: dict[str, float | None] = {}  # comments have no value; in order of appearance
    for text in texts:
        for line in text.splitlines():
            if line.startswith("#") or not line:
                lines.setdefault(line, None)
                continue
            sample, _, value = line.rpartition(" ")
            known = lines.get(sample) or 0.0
            lines[sample] = max(known, float(value)) if "_info{" in sample else known + float(value)
    return "".join(f"{line}\n" if value is None else f"{line} {value!r}\n" for line, value in lines.items() if line)
