"""Types of the values in policy files: how each is read from the text that was written, and its JSON Schema.

Every value arrives as text, so that YAML's own ideas about `off`, `no` or `010` never apply. An error carries what is wrong and what
to do; where it stands is added by `reading`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from pgfaucet.auth.principal import read_network
from pgfaucet.config import SSO_ALGORITHMS, parse_address, parse_tcp_address
from pgfaucet.policy import units
from pgfaucet.policy.problem import known_names

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Schema = dict[str, Any]

STATEMENT_KINDS: Final = ("ddl", "temp", "copy", "listen", "lock", "do", "call", "two_phase")
MAX_STATEMENT_BYTES: Final = 1 << 20

_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}", re.ASCII)
_TRUTH: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_ENVIRONMENT: Final[Schema] = {"type": "string", "pattern": r"\$\{"}
_STRING: Final[Schema] = {"type": "string"}
_NAMES: Final[Schema] = {"type": "array", "items": _STRING, "uniqueItems": True}


Mistake = tuple[str, str, tuple[str | int, ...]]
"""What is wrong, what to do, and the path from the value that is read to the one that is wrong."""


def refusal(what: str, fix: str, *path: str | int) -> PydanticCustomError:
    """Make the error for one mistake."""
    return refusals([(what, fix, path)])


def refusals(mistakes: list[Mistake]) -> PydanticCustomError:
    """Make the error for all mistakes in a value; `mistakes_in` gives them back."""
    return PydanticCustomError("policy", "{mistakes}", {"mistakes": mistakes})


def mistakes_in(context: dict[str, Any]) -> list[Mistake]:
    """Return the mistakes that an error carries in its context."""
    found: list[Mistake] = context["mistakes"]
    return found


def kind_of(value: object) -> str:
    """Say what was written, for an error."""
    return {list: "a list", dict: "a mapping", type(None): "nothing"}.get(type(value), f'the text "{value}"')


def read_text(value: object) -> str:
    """Take a text that is not empty."""
    if isinstance(value, str) and value.strip():
        return value
    if value is None or isinstance(value, str):
        raise refusal("this has no value", "write one, or remove the key")
    raise refusal(f"this is {kind_of(value)} where one value is expected", "write a single value")


def _read_any_text(value: object) -> str:
    return "" if value == "" else read_text(value)


def _read_password(value: object) -> str | None:
    return None if value == "" else read_text(value)  # ${NAME:-} with nothing set


def _read_flag(value: object) -> bool:
    text = read_text(value)
    if text not in _TRUTH:
        raise refusal(f'"{text}" is neither true nor false', "write true or false")
    return _TRUTH[text]


def _read_columns(value: object) -> bool | tuple[str, ...]:
    if not isinstance(value, list):
        text = read_text(value)
        if text not in _TRUTH:
            raise refusal(
                f'"{text}" is neither true nor false nor a list of columns', f"write true, false, or [{text}]"
            )
        return _TRUTH[text]
    return _distinct(value) or False


def _distinct(items: list[object]) -> tuple[str, ...]:
    names = _each(items, _read_name)
    first = {name: index for index, name in reversed(list(enumerate(names)))}
    repeated: list[Mistake] = [
        (f'"{name}" is written twice', "keep one", (index,)) for index, name in enumerate(names) if first[name] != index
    ]
    if repeated:
        raise refusals(repeated)
    return names


def _each(items: list[object], read: Callable[[object], T]) -> tuple[T, ...]:
    """Read every item of a list; the mistakes of all of them make one error."""
    found: list[T] = []
    mistakes: list[Mistake] = []
    for index, item in enumerate(items):
        try:
            found.append(read(item))
        except PydanticCustomError as error:
            mistakes += [(what, fix, (index, *path)) for what, fix, path in mistakes_in(error.context or {})]
    if mistakes:
        raise refusals(mistakes)
    return tuple(found)


def _read_name(item: object) -> str:
    if not isinstance(item, str) or not item:
        raise refusal(f"this is {kind_of(item)} where a name is expected", "write one name")
    return item


def _read_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise refusal(f"this is {kind_of(value)} where a list is expected", "write it in brackets, as in [one, two]")
    return _distinct(value)


def _read_addresses(value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        return (_address(parse_address, read_text(value)),)
    if not value:
        raise refusal("this list is empty", "name at least one address, or remove the key")
    return _each(value, lambda item: _address(parse_address, read_text(item)))


def _address(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as problem:
        what, _, fix = str(problem).partition("; ")
        raise refusal(what, fix) from None


def _read_store(value: object) -> str:
    text = read_text(value)
    if not text.startswith(("sqlite:", "postgresql://", "postgres://")) or text.endswith((":", "/")):
        raise refusal("this is no place for tokens", "write sqlite:FILE or postgresql://USER@HOST/DATABASE")
    return text


_LOCAL: Final = ("http://127.0.0.1:", "http://localhost:", "http://[::1]:")


def _read_audience(value: object) -> tuple[str, ...]:
    return _read_names(value) if isinstance(value, list) and value else (read_text(value),)


def _read_networks(value: object) -> tuple[str, ...]:
    try:
        return tuple(map(read_network, _read_names(value)))
    except ValueError as problem:
        if isinstance(problem, PydanticCustomError):
            raise
        raise refusal("this is no network", "write 10.0.0.0/8, 2001:db8::/32, or local") from None


def _read_jwks(value: object) -> str:
    text = read_text(value)
    if not text.startswith(("https://", "file:", *_LOCAL)):
        raise refusal("keys must come over https or from a file", "write https://HOST/PATH, or file:PATH")
    return text


def _read_sink(value: object) -> str:
    text = read_text(value)
    kinds = ("file:", "syslog:/", "syslog:udp://", "syslog:tcp://", "postgresql://", "postgres://", "https://")
    if text != "stdout" and not text.startswith((*kinds, *_LOCAL)):
        raise refusal(
            "this is no place for audit records",
            "write stdout, file:PATH, syslog:/dev/log, syslog:tcp://HOST:PORT, postgresql://... or https://...",
        )
    return text


def _read_algorithm(item: object) -> str:
    name = read_text(item)
    if name not in SSO_ALGORITHMS:
        raise refusal(f'"{name}" is not an algorithm for SSO', f"use {', '.join(SSO_ALGORITHMS)}")
    return name


def _read_algorithms(value: object) -> tuple[str, ...]:
    names = _read_names(value)
    if not names:
        raise refusal("this list is empty", "name at least one algorithm, or remove the key")
    return _each(list(names), _read_algorithm)


def _read_dsn(value: object) -> str:
    text = read_text(value)
    if not text.startswith(("postgresql://", "postgres://")) and "=" not in text:
        raise refusal(
            "this is not a connection string", "write postgresql://USER@HOST:PORT/DATABASE"
        )  # never quoted: it may hold a password
    return text


def _read_statement_kinds(value: object) -> tuple[str, ...]:
    return _each(list(_read_names(value)), _read_statement_kind)


def _read_statement_kind(item: object) -> str:
    name = read_text(item)
    if name not in STATEMENT_KINDS:
        raise refusal(f'"{name}" is not a statement kind', known_names(name, STATEMENT_KINDS))
    return name


def _read_sqlstate(value: object) -> str:
    text = read_text(value)
    if _SQLSTATE.fullmatch(text) is None:
        raise refusal(f'"{text}" is not a SQLSTATE', 'write its five characters in quotes, as in "42501"')
    return text


def _number(parse: Callable[[str], T], kind: str, example: str, schema: Schema) -> PlainValidator:
    def read(value: object) -> T:
        text = read_text(value)
        try:
            return parse(text)
        except ValueError:
            raise refusal(f'"{text}" is not {kind}', f"write it as in {example}") from None

    return _field(read, schema)


def _count(low: int, high: int) -> PlainValidator:
    """Read a whole number that may come from the environment."""

    def parse(text: str) -> int:
        return _within(units.parse_integer(text), low, high)

    schema = {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, _ENVIRONMENT]}
    return _number(parse, f"a whole number from {low} to {high}", str(max(low, 1)), schema)


def _within(number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise ValueError(number)
    return number


def _choice(*choices: str) -> PlainValidator:
    def read(value: object) -> str:
        text = read_text(value)
        if text not in choices:
            raise refusal(f'"{text}" is not known here', known_names(text, choices))
        return text

    return _field(read, {"enum": list(choices)})


def _field(read: Callable[[object], object], schema: Schema) -> PlainValidator:
    return PlainValidator(read, json_schema_input_type=Annotated[Any, WithJsonSchema(schema)])


Text = Annotated[str, _field(read_text, _STRING)]
Value = Annotated[str, _field(_read_any_text, {"type": ["string", "number", "boolean"]})]
Password = Annotated[str | None, _field(_read_password, _STRING)]
Store = Annotated[str, _field(_read_store, _STRING)]
Dsn = Annotated[str, _field(_read_dsn, _STRING)]
SinkPlace = Annotated[str, _field(_read_sink, _STRING)]
SinkWhat = Annotated[str, _choice("all", "records", "checkpoints")]
SinkFormat = Annotated[str, _choice("json", "ocsf", "otlp", "spans")]
Audience = Annotated[tuple[str, ...], _field(_read_audience, {"anyOf": [_STRING, _NAMES]})]
Networks = Annotated[tuple[str, ...], _field(_read_networks, _NAMES)]
Jwks = Annotated[str, _field(_read_jwks, _STRING)]
Algorithms = Annotated[
    tuple[str, ...], _field(_read_algorithms, {**_NAMES, "items": {"enum": list(SSO_ALGORITHMS)}, "minItems": 1})
]
Flag = Annotated[bool, _field(_read_flag, {"type": "boolean"})]
Names = Annotated[tuple[str, ...], _field(_read_names, _NAMES)]
Columns = Annotated[bool | tuple[str, ...], _field(_read_columns, {"oneOf": [{"type": "boolean"}, _NAMES]})]
StatementKinds = Annotated[
    tuple[str, ...], _field(_read_statement_kinds, {**_NAMES, "items": {"enum": list(STATEMENT_KINDS)}})
]
SqlState = Annotated[str, _field(_read_sqlstate, {"type": "string", "pattern": f"^{_SQLSTATE.pattern}$"})]

Addresses = Annotated[tuple[Any, ...], _field(_read_addresses, {"anyOf": [_STRING, _NAMES]})]
TcpAddress = Annotated[Any, _field(lambda value: _address(parse_tcp_address, read_text(value)), _STRING)]
Workers = Annotated[int, _count(0, 256)]
PoolSize = Annotated[int, _count(1, 10_000)]
PoolMinimum = Annotated[int, _count(0, 10_000)]
Durability = Annotated[str, _choice("async", "batch", "strict")]
AuditParams = Annotated[str, _choice("hash", "full", "none")]
PoolMode = Annotated[str, _choice("transaction", "session")]
Explain = Annotated[str, _choice("off", "safe", "full")]
Mode = Annotated[str, _choice("enforce", "observe")]
Access = Annotated[str, _choice("policy", "full")]

Duration = Annotated[
    float,
    _number(
        units.parse_duration,
        "a time with its unit",
        "500ms, 5s, 10m, 1h or 7d",
        {"type": "string", "examples": ["5s", "10m"]},
    ),
]
Size = Annotated[
    int, _number(units.parse_size, "a size", "64KB or 16MB", {"type": "string", "examples": ["64KB", "16MB"]})
]
StatementSize = Annotated[
    int,
    _number(
        lambda text: _within(units.parse_size(text), 1, MAX_STATEMENT_BYTES),
        "a size of at most 1MB",
        "64KB",
        {"type": "string", "examples": ["64KB"]},
    ),
]
Rate = Annotated[float, _number(units.parse_rate, "a rate", "50/s or 600/m", {"type": "string", "examples": ["50/s"]})]
Cost = Annotated[
    float, _number(units.parse_number, "a number above 0", "1e6", {"type": "number", "exclusiveMinimum": 0})
]
Positive = Annotated[
    int,
    _number(
        lambda text: _within(units.parse_integer(text), 1, 10**15),
        "a whole number above 0",
        "1000",
        {"type": "integer", "minimum": 1},
    ),
]
