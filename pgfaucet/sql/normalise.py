"""What the audit says of a statement's text: the text without a literal or a comment in it, a fingerprint, and what comments tell.

Works on the scanner's tokens, not on the tree: libpg_query's own `normalize` leaves comments, and literals in most utility statements.
Nothing here may put a literal into the query or make the fingerprint depend on one that could be a password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from pglast.parser import ParseError, fingerprint, scan

if TYPE_CHECKING:
    from pglast.parser import Token

MAX_CONTEXT_PAIRS: Final = 16
MAX_CONTEXT_BYTES: Final = 1024

_LITERALS: Final = frozenset({"SCONST", "USCONST", "BCONST", "XCONST", "ICONST", "FCONST"})
_COMMENTS: Final = frozenset({"C_COMMENT", "SQL_COMMENT"})
_WORDS: Final = frozenset({"IDENT", "UIDENT"})
_QUERIES: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE_P", "MERGE", "WITH", "VALUES", "TABLE", "ASCII_40"})

_PLAIN_STRING: Final = re.compile(r"'((?:[^']|'')*)'", re.DOTALL)
_DOLLAR_STRING: Final = re.compile(r"(\$[^$]*\$)(.*)\1", re.DOTALL)
_WIDE: Final = re.compile(r"[^\x00-\x7f]")
_WIDE_TAG: Final = re.compile(r"\$[^\s$']*[^\x00-\x7f\s$'][^\s$']*\$")
_MAX_WIDE_SCAN: Final = 500  # characters; the scanner's wrapper takes the square of the wide ones

_DIGITS: Final = re.compile(r"[0-9]{1,100}")
_DECIMAL: Final = re.compile(
    r"[0-9]{1,100}(?:\.[0-9]{0,100})?(?:[eE][+-]?[0-9]{1,4})?|\.[0-9]{1,100}(?:[eE][+-]?[0-9]{1,4})?"
)
_PAIR: Final = re.compile(r"\s*([^\s=,']+)='((?:[^'\\]|\\.)*)'\s*(?:,|$)", re.DOTALL)


def normalise(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Return a statement's normalised text, its fingerprint (16 hex digits, libpg_query's), and its literals in order.

    Each literal becomes $n, counted from the highest that the statement has itself. Text that cannot be scanned is one literal, whole.
    """
    try:
        tokens = _tokens(text)
    except ParseError:
        return "", "", (text,)
    pieces: list[str] = []
    literals: list[str] = []
    number = max((int(text[token.start + 1 : token.end + 1]) for token in tokens if token.name == "PARAM"), default=0)
    value_from = _first_value(tokens)
    end = -1
    for index, token in enumerate(tokens):
        if token.name in _COMMENTS:
            continue
        if token.start > end + 1 and pieces:
            pieces.append(" ")
        end = token.end
        written = text[token.start : end + 1]
        if token.name in _LITERALS or (index >= value_from and _is_word(token)):
            number += 1
            literals.append(_value(written))
            pieces.append(f"${number}")
        else:
            pieces.append(written)
    return "".join(pieces), _fingerprint(text, tokens), tuple(literals)


class TextShape(NamedTuple):
    """A text without its literals, and what they were."""

    key: str  # the normalised text, and the kind of each literal
    query: str  # as `normalise` returns it
    literals: tuple[str, ...]
    kinds: str  # of each literal: i int4, d int8 and more digits, n numeric, s string
    places: tuple[
        tuple[int, ...], ...
    ]  # where a constant may begin in the tree: at the literal, or at a minus before it


def scan_shape(text: str) -> TextShape | None:
    """Take the literals out of a text that is one query of plain literals; None for any other text."""
    try:
        tokens = _tokens(text)
    except ParseError:
        return None
    words = [token for token in tokens if token.name not in _COMMENTS]
    if words and words[-1].name == "ASCII_59":
        words.pop()
    if not words or words[0].name not in _QUERIES:
        return None
    pieces: list[str] = []
    literals: list[str] = []
    kinds: list[str] = []
    places: list[tuple[int, ...]] = []
    end, minus = words[0].start - 1, -1
    for token in words:
        name = token.name
        if token.start > end + 1:
            pieces.append(" ")
        end = token.end
        written = text[token.start : end + 1]
        if name in _LITERALS:
            kind, value = _kind_of(name, written)
            if not kind:
                return None
            literals.append(value)
            kinds.append(kind)
            places.append((token.start, minus) if minus >= 0 else (token.start,))
            pieces.append(f"${len(literals)}")
        elif name in ("ASCII_59", "PARAM"):
            return None
        else:
            pieces.append(written)
        minus = token.start if name == "ASCII_45" else -1
    query = "".join(pieces)
    return TextShape(f"{''.join(kinds)} {query}", query, tuple(literals), "".join(kinds), tuple(places))


def _kind_of(name: str, written: str) -> tuple[str, str]:
    """Return the kind and the value of a literal; no kind for one that is written in another way than plainly."""
    if name == "SCONST":
        plain = _PLAIN_STRING.fullmatch(written)
        return ("s", plain[1].replace("''", "'")) if plain is not None else ("", "")
    if name == "ICONST" and _DIGITS.fullmatch(written) is not None:
        return "i", written
    if name == "FCONST" and _DIGITS.fullmatch(written) is not None:
        value = int(written)  # 1 << 63 is an int8 with a minus before it, else none
        return ("d" if value < 1 << 63 else "n" if value > 1 << 63 else ""), written
    if name == "FCONST" and _DECIMAL.fullmatch(written) is not None:
        return "n", written
    return "", ""


def context_of(text: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of the sqlcommenter comments in a text: at most 16, and 1 KiB of names and values in all; what goes beyond is left out.

    Source: https://google.github.io/sqlcommenter/spec/.
    """
    if "/*" not in text or "='" not in text:
        return ()
    try:
        tokens = _tokens(text)
    except ParseError:
        return ()
    pairs: list[tuple[str, str]] = []
    left = MAX_CONTEXT_BYTES
    for token in tokens:
        if token.name == "C_COMMENT":
            for name, value in _pairs(text[token.start + 2 : token.end - 1]):
                left -= len(name.encode()) + len(value.encode())
                if left < 0 or len(pairs) == MAX_CONTEXT_PAIRS:
                    return tuple(pairs)
                pairs.append((name, value))
    return tuple(pairs)


def session_context(text: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs in a value of pgfaucet.context: as in a sqlcommenter comment; any other text is one pair named `context`."""
    if not text:
        return ()
    return tuple(_pairs(text)) or (("context", text[:MAX_CONTEXT_BYTES]),)


def _pairs(comment: str) -> list[tuple[str, str]]:
    """Read `key='value',key='value'`; anything else in the comment makes it another kind of comment."""
    pairs: list[tuple[str, str]] = []
    place = 0
    while place < len(comment) and len(pairs) <= MAX_CONTEXT_PAIRS:
        match = _PAIR.match(comment, place)
        if match is None:
            return []
        pairs.append((_decoded(match[1]), _decoded(match[2])))
        place = match.end()
    return pairs


def _decoded(part: str) -> str:
    return unquote(re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL), errors="replace")


def _tokens(text: str) -> list[Token]:
    """Scan; start and end (inclusive) count characters.

    The wrapper's own counting takes the square of the wide characters, so they are scanned as `z`, which starts no literal and is an
    identifier's character as they are. In the tag of a dollar quote that could make two tags one.
    """
    if text.isascii():
        return scan(text)
    if _WIDE_TAG.search(text) is None:
        return scan(_WIDE.sub("z", text))
    if len(text) <= _MAX_WIDE_SCAN:
        return scan(text)
    raise ParseError("too long to scan")


def _first_value(tokens: list[Token]) -> int:
    """Return where the values of a SET begin, where a bare word is a literal too."""
    if tokens and tokens[0].name == "SET":
        for index, token in enumerate(tokens):
            if token.name in ("ASCII_61", "TO"):
                return index + 1
    return len(tokens)


def _is_word(token: Token) -> bool:
    return token.name in _WORDS or (token.kind != "NO_KEYWORD" and token.name != "DEFAULT")


def _value(written: str) -> str:
    """Take the quotes off where that is simple; E'', U&'', x'' and continued strings stay as written."""
    if (plain := _PLAIN_STRING.fullmatch(written)) is not None:
        return plain[1].replace("''", "'")
    if (dollar := _DOLLAR_STRING.fullmatch(written)) is not None:
        return dollar[2]
    return written


def _fingerprint(text: str, tokens: list[Token]) -> str:
    """Fingerprint the statement; in a utility statement libpg_query's depends on the strings, so they are taken out first."""
    first = next((token.name for token in tokens if token.name not in _COMMENTS), "")
    try:
        if first in _QUERIES or not any(token.name in _LITERALS for token in tokens):
            return fingerprint(text)
        return fingerprint(_blanked(text, tokens))
    except ParseError:
        return ""


def _blanked(text: str, tokens: list[Token]) -> str:
    pieces: list[str] = []
    end = -1
    previous = ""
    for token in tokens:
        pieces.append(text[end + 1 : token.start])
        end = token.end
        is_string = token.name in ("SCONST", "USCONST") and previous != "UESCAPE"
        pieces.append(("U&'0'" if token.name == "USCONST" else "'0'") if is_string else text[token.start : end + 1])
        previous = token.name
    return "".join(pieces)
