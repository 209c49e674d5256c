"""`pgfaucet audit`: proves that logs were not edited, and finds records in them."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
import orjson

from pgfaucet.cli.main import ENVIRONMENT, REFUSED, complain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from pgfaucet.audit.search import Wanted
    from pgfaucet.audit.verify import Verdict

FOLLOW_SECONDS = 0.2
TAIL_RECORDS = 10

files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group(
    epilog="""\b
Example:
  pgfaucet audit verify audit.jsonl
  pgfaucet audit search audit.jsonl --label 'agent:*' --table orders --since 24h
"""
)
def command() -> None:
    """Verify and search audit logs."""


@command.command(
    epilog="""\b
Example:
  pgfaucet audit verify audit.jsonl
  pgfaucet audit verify *.jsonl --public-key /safe/audit.key.pub
  pgfaucet audit verify audit.jsonl* --checkpoints /elsewhere/checkpoints.jsonl
"""
)
@files_argument
@click.option(
    "--public-key", type=click.Path(path_type=Path), help="The public key; by default audit.key.pub beside each FILE."
)
@click.option(
    "--checkpoints",
    "copies",
    type=click.Path(path_type=Path),
    help="A copy of the checkpoints that was kept elsewhere, by server.audit.sinks: the log must agree with it, and reach as far.",
)
@click.pass_context
def verify(context: click.Context, files: tuple[Path, ...], public_key: Path | None, copies: Path | None) -> None:
    """Check that no record was changed, removed, inserted or moved, and that the log was not cut off.

    Uses the signed checkpoints in FILE.checkpoints. Of a log that was rotated, give all files: audit.jsonl*. A key that lies beside the log proves little against who could replace both: keep a
    copy elsewhere and name it. Exit code 0 if every record of every FILE holds, 1 if one does not.
    """
    from pgfaucet.audit.verify import chain_name, in_order, missing_logs, verify_log

    logs, missing = in_order(files), missing_logs(files)
    for path in missing:
        complain(f"{path}: it is missing, though its signed checkpoints are there")
    if not logs and not missing:
        raise click.UsageError("none of these is an audit log; write audit.jsonl*")
    holds = not missing
    before: dict[Path, Verdict] = {}  # by chain
    for path in logs:
        path.stat()  # a file that is not there is told of before its key
        key, held = _key_and_copies(context, path, public_key, copies)
        verdict = verify_log(path, key, held)
        holds = _report(path, verdict, before.get(chain_name(path))) and holds
        before[chain_name(path)] = verdict
        is_last = not any(chain_name(other) == chain_name(path) for other in logs[logs.index(path) + 1 :])
        if is_last and verdict.broken is None and verdict.end.sequence < max(held, default=0):
            complain(f"{path}: cut off: a copy of a signed checkpoint stands for record {max(held)}")
            holds = False
    if not holds:
        context.exit(REFUSED)


def _key_and_copies(
    context: click.Context, log: Path, public_key: Path | None, copies: Path | None
) -> tuple[Ed25519PublicKey, dict[int, str]]:
    from pgfaucet.audit.keys import KeyUnusable, load_public_key
    from pgfaucet.audit.verify import ForeignCopies, public_key_beside, read_copies

    try:
        key = load_public_key(public_key or public_key_beside(log))
        held = read_copies(copies.read_bytes().splitlines(keepends=True), key) if copies is not None else {}
    except KeyUnusable as problem:
        complain(str(problem))
        context.exit(ENVIRONMENT)
    except ForeignCopies as problem:
        complain(f"{copies}: {problem}; name copies of this log's checkpoints, and the key that signed them")
        context.exit(REFUSED)
    return key, held


def _report(path: Path, verdict: Verdict, before: Verdict | None) -> bool:
    from pgfaucet.audit.verify import why_not_next

    broken = verdict.broken
    gap = why_not_next(before, verdict) if broken is None else None
    if gap is not None:
        complain(f"{path}: does not hold: {gap}")
        return False
    if broken is None:
        behind = verdict.end.sequence - verdict.attested
        tail = f"; {_counted(behind, 'record')} behind the last one" if behind else ""
        if verdict.start.sequence and before is None:
            tail += f"; continues record {verdict.start.sequence} of a file that was not given"
        click.echo(
            f"{path}: {_counted(verdict.records, 'record')} hold, {_counted(verdict.checkpoints, 'signed checkpoint')} in agreement{tail}"
        )
        return True
    what = f"record {broken.sequence} " if broken.sequence is not None else ""
    held = (
        "no record before it holds"
        if verdict.records == 0
        else f"the {_counted(verdict.records, 'record')} before it hold"
    )
    complain(f"{path}:{broken.line}: {what}does not hold: {broken.why}; {held}")
    return False


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _filters(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both `search` and `tail` take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The records as they are, one a line."),
        click.option("--decision", type=click.Choice(["allow", "deny"]), help="Only what was allowed, or refused."),
        click.option("--until", metavar="T", help="Before a time."),
        click.option(
            "--since", metavar="T", help="From a time on: 2026-05-05, 2026-05-05T14:32 (UTC), or 15m, 24h, 7d ago."
        ),
        click.option("--role", help="Only records of a role."),
        click.option("--table", metavar="T", help="Only statements on a table: orders, or public.orders."),
        click.option("--label", metavar="GLOB", help="Only tokens whose label fits."),
    ):
        function = option(function)
    return function


@command.command(
    epilog="""\b
Example:
  pgfaucet audit search audit.jsonl --label 'agent:reporting-*' --table orders --since 2026-05-05T14:00
"""
)
@files_argument
@_filters
def search(files: tuple[Path, ...], *, as_json: bool, **filters: str | None) -> None:
    """Find records, oldest first in each FILE."""
    wanted = _wanted(**filters)
    _heading(as_json=as_json)
    for path in files:
        with path.open("rb") as file:
            _print(file, wanted, as_json=as_json)


@command.command(
    epilog="""\b
Example:
  pgfaucet audit tail -f audit.jsonl --decision deny
"""
)
@files_argument
@_filters
@click.option("-f", "--follow", is_flag=True, help="Go on as records are written, until interrupted.")
@click.option(
    "-n",
    "--lines",
    default=TAIL_RECORDS,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many of each FILE to begin with.",
)
def tail(files: tuple[Path, ...], *, follow: bool, lines: int, as_json: bool, **filters: str | None) -> None:
    """Show the last records of each FILE."""
    from collections import deque

    from pgfaucet.audit.search import search

    wanted = _wanted(**filters)
    _heading(as_json=as_json)
    with ExitStack() as stack:
        growing = [stack.enter_context(_Growing(path)) for path in files]
        for log in growing:
            for record in deque(search(log, wanted), maxlen=lines):
                _line(record, as_json=as_json)
        while follow:
            time.sleep(FOLLOW_SECONDS)
            for log in growing:
                _print(log, wanted, as_json=as_json)


class _Growing:
    """The whole lines of a file that is being written; each iteration goes on where the one before it ended, in a new file after rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._part = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        was_rotated = True
        while was_rotated:
            was_rotated = not self._is_current()  # looked at first: what was written before that is read to its end
            while part := self._file.readline():
                self._part += part
                if part.endswith(b"\n"):
                    line, self._part = self._part, b""
                    yield line
            if was_rotated:
                self._file.close()
                self._file, self._part = self._path.open("rb"), b""

    def _is_current(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:  # for a moment
            return True
        held = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _wanted(*, since: str | None, until: str | None, **filters: str | None) -> Wanted:
    from pgfaucet.audit.search import Wanted

    return Wanted(since=_moment("--since", since), until=_moment("--until", until), **filters)


def _print(lines: Iterable[bytes], wanted: Wanted, *, as_json: bool) -> None:
    from pgfaucet.audit.search import search

    for record in search(lines, wanted):
        _line(record, as_json=as_json)


def _heading(*, as_json: bool) -> None:
    if not as_json:
        click.echo(
            f"{'time':<24}  {'decision':<8}  {'sqlstate':<8}  {'rows':>6}  {'label':<28}  {'claims':<16}  statement"
        )


def _line(record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", orjson.dumps(record).decode()))
        return
    what = " ".join(str(record.get("query") or f"({record.get('event')})").split())
    ts, decision, sqlstate, rows, label = (
        "" if record.get(name) is None else str(record[name])
        for name in ("ts", "decision", "sqlstate", "row_count", "token_label")
    )
    claims = " ".join(f"{name}={value}" for name, value in (record.get("claims") or {}).items())
    text = f"{ts:<24}  {decision:<8}  {sqlstate:<8}  {rows:>6}  {label:<28}  {claims:<16}  {what}"
    click.echo(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )  # a terminal would obey some


_CONTROLS = re.compile(r"[\x7f-\x9f]")  # JSON may hold them as they are, and a terminal would obey some
_AGO = re.compile(r"(\d{1,6})(s|m|h|d)", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _moment(option: str, text: str | None) -> str | None:
    """Bring a time to the records' notation, in which later means greater."""
    if text is None:
        return None
    from pgfaucet.audit.record import timestamp

    ago = _AGO.fullmatch(text)
    if ago is not None:
        return timestamp(max(0.0, time.time() - int(ago[1]) * _UNITS[ago[2]]))
    try:
        moment = datetime.fromisoformat(text)
        in_utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.UsageError(
            f'"{text}" is no time; write {option} 2026-05-05T14:32, or 24h for that long ago'
        ) from None
    return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
