"""Text -> statements: size and depth bounded before anything recurses, errors worded as the server words them.

Never crashes the process, whatever the text: the C parser recurses 350-550 bytes of stack for each level of a chain, and a level costs
as little as one byte of text, so that texts above a bound that fits the running thread are parsed in a thread with a stack of its own.
"""

from __future__ import annotations

import re
import resource
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson
from pglast.parser import ParseError, parse_sql_json

from pgfaucet.errors import FaucetError, Sqlstate

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node

INLINE_BYTES: Final = 4096  # of text; parsing and deciding it stays well under 5 ms
_BYTES_PER_LEVEL: Final = 600  # of stack
_THREAD_STACK_BYTES: Final = 64 << 20  # virtual memory; survives 116,000 levels of any chain
_UNKNOWN_STACK_BYTES: Final = 512 << 10  # where RLIMIT_STACK says nothing: macOS gives a thread no more

# The scanner takes a run of operator characters whole and gives back all but the first, again and again: `-+-+-+...` and `/*/*/*...` cost
# the square of their length, 2 ns each on our machine.
_OPERATOR_RUN: Final = re.compile(r"[-+*/<>=~!@#%^&|`?]{256,}")
_MAX_SQUARES: Final = 500_000_000

# The message quotes the client's text, which has no place in an audit record.
_SYNTAX_REASON: Final = "the text does not parse"
_SQLSTATES: Final = (
    ("invalid byte sequence for encoding", Sqlstate.CHARACTER_NOT_IN_REPERTOIRE),
    ("stack depth limit exceeded", Sqlstate.STATEMENT_TOO_COMPLEX),
    ("memory exhausted", Sqlstate.STATEMENT_TOO_COMPLEX),
)


@dataclass(frozen=True, slots=True)
class RawStatement:
    """One statement of a query string: its tree, and where it stands in the text, counted in characters."""

    stmt: Node
    location: int
    length: int
    text: str  # without the white space and comments around it
    with_comments: str  # with those before it, and after the last statement those too


def parse(text: str, *, max_bytes: int, max_depth: int) -> list[RawStatement]:
    """Parse a query string into its statements, none for an empty one.

    `max_depth` counts nodes inside nodes. Raises FaucetError: 22021 for NUL and lone surrogates, 54000 for more than `max_bytes`,
    54001 for a tree that is too deep, 42601 (as the server: sometimes another) for what is not SQL.
    """
    encoded = _encoded(text, max_bytes)
    raws = _parse_in_thread(text, max_depth) if needs_thread(text) else _parse_here(text, max_depth)
    return _statements(raws, encoded)


def needs_thread(text: str) -> bool:
    """Say whether parsing the text may take long or needs more stack than the running thread is sure to have."""
    return len(text) > _INLINE_CHARACTERS or _OPERATOR_RUN.search(text) is not None


def _inline_characters() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    stack = soft if 0 < soft < _THREAD_STACK_BYTES else _UNKNOWN_STACK_BYTES
    return min(INLINE_BYTES, stack // 2 // _BYTES_PER_LEVEL)


_INLINE_CHARACTERS: Final = _inline_characters()


def _encoded(text: str, max_bytes: int) -> bytes:
    if len(text) > max_bytes:
        _fail_too_long(max_bytes)
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        wrong = text[error.start].encode(errors="surrogatepass")
        _fail_invalid_bytes(" ".join(f"0x{byte:02x}" for byte in wrong))
    if len(encoded) > max_bytes:
        _fail_too_long(max_bytes)
    if b"\0" in encoded:  # the C parser would take what stands before it for the whole
        _fail_invalid_bytes("0x00")
    return encoded


def _fail_too_long(max_bytes: int) -> NoReturn:
    raise FaucetError(
        Sqlstate.PROGRAM_LIMIT_EXCEEDED, "statement is too long", detail=f"The limit is {max_bytes} bytes."
    )


def _fail_invalid_bytes(shown: str) -> NoReturn:
    raise FaucetError(Sqlstate.CHARACTER_NOT_IN_REPERTOIRE, f'invalid byte sequence for encoding "UTF8": {shown}')


def _fail_too_complex(reason: str, detail: str | None = None) -> NoReturn:
    raise FaucetError(Sqlstate.STATEMENT_TOO_COMPLEX, "stack depth limit exceeded", detail=detail, reason=reason)


# -- the C parser ------------------------------------------------------------------------------------------------------------------


def _parse_here(text: str, max_depth: int) -> list[dict[str, Any]]:
    """Return the RawStmts."""
    try:
        json = parse_sql_json(text)
    except ParseError as error:
        raise _syntax_error(text, error) from None
    except UnicodeDecodeError:  # E'\xff': the scanner checks, this is for what it may let pass
        _fail_invalid_bytes("in a string constant")
    try:
        raws: list[dict[str, Any]] = orjson.loads(json)["stmts"]
    except orjson.JSONDecodeError:
        _fail_too_complex("more than 1024 levels of JSON")
    if json.count("{") > max_depth:  # else it cannot be deeper
        _check_depth([raw["stmt"] for raw in raws], max_depth)
    return raws


def _syntax_error(text: str, error: ParseError) -> FaucetError:
    message: str = error.args[0]
    index: int | None = error.args[1]
    sqlstate = next((state for start, state in _SQLSTATES if message.startswith(start)), Sqlstate.SYNTAX_ERROR)
    position = index + 1 if index is not None else None
    if position is None and message.endswith("at end of input"):
        position = len(text) + 1
    return FaucetError(sqlstate, message, position=position, reason=_SYNTAX_REASON)


_starting: Final = threading.Lock()


def _parse_in_thread(text: str, max_depth: int) -> list[dict[str, Any]]:
    if sum((run.end() - run.start()) ** 2 for run in _OPERATOR_RUN.finditer(text)) > _MAX_SQUARES:
        _fail_too_complex("operator characters: too long a run", "A run of operator characters is too long.")
    results: list[list[dict[str, Any]]] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(_parse_here(text, max_depth))
        except Exception as problem:  # noqa: BLE001 - raised again below, in the thread that asked
            errors.append(problem)

    _run_with_stack(threading.Thread(target=run, name="pgfaucet-parse", daemon=True))
    if errors:
        raise errors[0]
    return results[0]


def _run_with_stack(thread: threading.Thread) -> None:
    with _starting:
        before = threading.stack_size(_THREAD_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError:
            _fail_too_complex("no thread to parse in")
        finally:
            threading.stack_size(before)
    thread.join()


# -- the tree ----------------------------------------------------------------------------------------------------------------------


def _statements(raws: list[dict[str, Any]], encoded: bytes) -> list[RawStatement]:
    """Cut the text; the parser counts bytes."""
    statements: list[RawStatement] = []
    taken = characters = 0  # up to the end of the statement before: bytes, characters
    for number, raw in enumerate(raws, 1):
        start: int = raw.get("stmt_location", 0)
        end = start + raw["stmt_len"] if "stmt_len" in raw else len(encoded)
        before, own = encoded[taken:start].decode(), encoded[start:end].decode()
        after = encoded[end:].decode() if number == len(raws) else ""
        location = characters + len(before) + len(own) - len(own.lstrip())
        shown = own.strip()
        statements.append(RawStatement(raw["stmt"], location, len(shown), shown, before + own + after))
        taken, characters = end, characters + len(before) + len(own)
    return statements


def _check_depth(level: list[Node], max_depth: int) -> None:
    """Walk the trees a level of nodes at a time, without recursion."""
    for _ in range(max_depth):
        bodies = [next(iter(node.values())) if _is_wrapped(node) else node for node in level]
        values = [value for body in bodies for value in body.values()]
        level = [value for value in values if type(value) is dict]
        for value in values:
            if type(value) is list:
                level += value
        if not level:
            return
    _fail_too_complex("too deep", f"The statement is nested deeper than {max_depth} levels.")


def _is_wrapped(node: Node) -> bool:
    """Tell `{"ColumnRef": {...}}` from the bare fields of a node."""
    return len(node) == 1 and next(iter(node))[0].isupper()
