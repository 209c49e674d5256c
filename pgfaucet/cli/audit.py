"""`pgfaucet audit`: proves that logs were not edited, and finds records in them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import orjson

from pgfaucet.cli.main import ENVIRONMENT, REFUSED, complain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
"""
)
@files_argument
@click.option(
    "--public-key", type=click.Path(path_type=Path), help="The public key; by default audit.key.pub beside each FILE."
)
@click.pass_context
def verify(context: click.Context, files: tuple[Path, ...], public_key: Path | None) -> None:
    """Check that no record was changed, removed, inserted or moved, and that the log was not cut off.

    Uses the signed checkpoints in FILE.checkpoints. A key that lies beside the log proves little against who could replace both: keep a
    copy elsewhere and name it. Exit code 0 if every record of every FILE holds, 1 if one does not.
    """
    from pgfaucet.audit.keys import KeyUnusable, load_public_key
    from pgfaucet.audit.verify import public_key_beside, verify_log

    holds = True
    for path in files:
        try:
            if not path.exists():
                raise FileNotFoundError(2, "No such file or directory", str(path))
            verdict = verify_log(path, load_public_key(public_key or public_key_beside(path)))
        except KeyUnusable as problem:
            complain(str(problem))
            context.exit(ENVIRONMENT)
        holds = _report(path, verdict) and holds
    if not holds:
        context.exit(REFUSED)


def _report(path: Path, verdict: Verdict) -> bool:
    broken = verdict.broken
    if broken is None:
        behind = verdict.records - verdict.attested
        tail = f"; {_counted(behind, 'record')} behind the last one" if behind else ""
        click.echo(
            f"{path}: {_counted(verdict.records, 'record')} hold, {_counted(verdict.checkpoints, 'signed checkpoint')} agree{tail}"
        )
        return True
    what = f"record {broken.sequence} " if broken.sequence is not None else ""
    before = (
        "no record before it holds"
        if verdict.records == 0
        else f"the {_counted(verdict.records, 'record')} before it hold"
    )
    complain(f"{path}:{broken.line}: {what}does not hold: {broken.why}; {before}")
    return False


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _filters(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both `search` and `tail` take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The records as they are, one a line."),
        click.option("--decision", type=click.Choice(["allow", "deny"]), help="Only what was allowed, or refused."),
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
@click.option("--since", metavar="T", help="From a time on: 2026-05-05, 2026-05-05T14:32 (UTC), or 15m, 24h, 7d ago.")
@click.option("--until", metavar="T", help="Before a time.")
def search(
    files: tuple[Path, ...], *, since: str | None, until: str | None, as_json: bool, **filters: str | None
) -> None:
    """Find records, oldest first in each FILE."""
    from pgfaucet.audit.search import Wanted

    wanted = Wanted(since=_moment("--since", since), until=_moment("--until", until), **filters)
    if not as_json:
        _heading()
    for path in files:
        with path.open("rb") as file:
            _print(file, wanted, as_json=as_json)


@command.command(
    epilog="""\b
Example:
  pgfaucet audit tail -f audit.jsonl --decision deny
"""
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_filters
@click.option("-f", "--follow", is_flag=True, help="Go on as records are written, until interrupted.")
@click.option("-n", "--lines", default=TAIL_RECORDS, show_default=True, help="How many to begin with.")
def tail(file: Path, *, follow: bool, lines: int, as_json: bool, **filters: str | None) -> None:
    """Show the last records of FILE."""
    from collections import deque

    from pgfaucet.audit.search import Wanted, search

    wanted = Wanted(**filters)
    if not as_json:
        _heading()
    with file.open("rb") as opened:
        for record in deque(search(opened, wanted), maxlen=lines):
            _line(record, as_json=as_json)
        if follow:
            _print(_followed(opened), wanted, as_json=as_json)


def _followed(file: BinaryIO) -> Iterator[bytes]:
    part = b""
    while True:
        part += file.readline()
        if part.endswith(b"\n"):
            yield part
            part = b""
        else:
            time.sleep(FOLLOW_SECONDS)


def _print(lines: Any, wanted: Wanted, *, as_json: bool) -> None:
    from pgfaucet.audit.search import search

    for record in search(lines, wanted):
        _line(record, as_json=as_json)


def _heading() -> None:
    click.echo(f"{'time':<24}  {'decision':<8}  {'sqlstate':<8}  {'rows':>6}  {'label':<28}  statement")


def _line(record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(record).decode())
        return
    what = " ".join(str(record.get("query") or f"({record.get('event')})").split())
    rows = record.get("row_count")
    click.echo(
        f"{record['ts']:<24}  {record.get('decision') or '':<8}  {record.get('sqlstate') or '':<8}  "
        f"{'' if rows is None else rows:>6}  {record.get('token_label') or '':<28}  {what}"
    )


_AGO = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_STAMP = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?)?Z?")


def _moment(option: str, text: str | None) -> str | None:
    """Bring a time to the records' notation, in which later means greater."""
    if text is None:
        return None
    from pgfaucet.audit.record import timestamp

    ago = _AGO.fullmatch(text)
    if ago is not None:
        return timestamp(time.time() - int(ago[1]) * _UNITS[ago[2]])
    if _STAMP.fullmatch(text.replace(" ", "T")) is None:
        raise click.UsageError(f'"{text}" is no time; write {option} 2026-05-05T14:32, or 24h for that long ago')
    return text.replace(" ", "T").removesuffix("Z")
