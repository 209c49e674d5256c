"""Random expressions of a wanted type. What raises errors raises them for hidden rows above all, so that an error tells of a leak."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tests.differential.fuzz.scope import ARRAY, BOOL, INT, JSON, MOOD, NUM, SCALARS, SQL_TYPES, TEXT, TS, TZ, Scope

if TYPE_CHECKING:
    from random import Random

LITERALS = {
    INT: ("0", "1", "2", "3", "6", "7", "9", "42", "103", "110", "777", "-1", "1000", "null::int"),
    TEXT: (
        "'x'",
        "'y'",
        "'n3'",
        "'u'",
        "'k1'",
        "'a'",
        "'SECRET1'",
        "'d2'",
        "''",
        "'HID'",
        "'cat'",
        "'12'",
        "null::text",
    ),
    NUM: ("0", "1.5", "3.0", "100.00", "200", "0.5", "777.0"),
    BOOL: ("true", "false", "null::bool"),
    TZ: ("timestamptz '2024-01-10 00:00+00'", "timestamptz '2024-02-01 00:00+00'"),
    TS: ("timestamp '2024-01-01 06:00'", "timestamp '2024-01-02'"),
    JSON: ('\'{"b": "ok"}\'::jsonb', "'{\"a\": 3}'::jsonb", '\'{"b": "hid"}\'::jsonb'),
    ARRAY: ("array['u']", "array['t0','u']", "'{}'::text[]"),
    MOOD: ("'sad'", "'ok'", "'happy'"),
}
COMPARISONS = ("=", "=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from")


class Expressions:
    """The part of the generator that writes expressions; the random source decides everything."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.may_raise = False
        """Whether the statement has an expression that raises an error for some visible row."""
        self._numbers = count(1)

    # -- drawing -------------------------------------------------------------------------------------------------------------------

    def one_of(self, *things: str) -> str:
        """Pick one."""
        return self.random.choice(things)

    def chance(self, probability: float) -> bool:
        """Be True so often."""
        return self.random.random() < probability

    def name(self, letter: str = "q") -> str:
        """Return a name that this statement has not used."""
        return f"{letter}{next(self._numbers)}"

    # -- values --------------------------------------------------------------------------------------------------------------------

    def literal(self, kind: str) -> str:
        """Write a constant."""
        return self.random.choice(LITERALS[kind])

    def column(self, kind: str, scope: Scope) -> str:
        """Name a column of this scope, or now and then of one around it; a constant when there is none."""
        around: Scope | None = scope
        while around is not None:
            found = around.columns(kind)
            if (
                found
                and (around is scope or self.chance(0.8))
                and not (around is scope and scope.outer and self.chance(0.2))
            ):
                return self.random.choice(found)
            around = around.outer
        found = scope.columns(kind)
        return self.random.choice(found) if found else self.literal(kind)

    def value(self, kind: str, scope: Scope, depth: int = 2) -> str:
        """Write an expression of a type."""
        if depth <= 0 or self.chance(0.4):
            return self.literal(kind) if self.chance(0.2) else self.column(kind, scope)
        draw = self.random.random()
        if draw < 0.1:
            return self.scalar_select(kind, scope, depth - 1)
        if draw < 0.2:
            return self._choice(kind, scope, depth - 1)
        if draw < 0.28:
            return self.raising(kind, scope)
        if draw < 0.32:
            return self.whole_row(kind, scope) or self.column(kind, scope)
        makers = {
            INT: self._int,
            TEXT: self._text,
            NUM: self._numeric,
            BOOL: self.condition,
            JSON: self._json,
            ARRAY: self._array,
        }
        maker = makers.get(kind)
        return maker(scope, depth - 1) if maker else self.column(kind, scope)

    def _choice(self, kind: str, scope: Scope, depth: int) -> str:
        a, b = self.value(kind, scope, depth), self.value(kind, scope, depth)
        if kind == MOOD or self.chance(0.5):
            return f"case when {self.condition(scope, depth)} then {a} else {self.column(kind, scope)} end"
        return self.one_of(f"coalesce({a}, {b})", f"nullif({a}, {b})", f"case {a} when {b} then {a} else {b} end")

    def whole_row(self, kind: str, scope: Scope) -> str | None:
        """Use a whole row as a value, or a column that is hidden; None where there is no table for it."""
        hiding = [item.alias for item in scope.items if item.table is not None and item.table.has_hidden_columns]
        if hiding and kind == TEXT and self.chance(0.1):
            return f"{hiding[0]}.ssn"
        whole = [item for item in scope.items if item.table is not None and not item.table.has_hidden_columns]
        if not whole:
            return None
        item = self.random.choice(whole)
        name, columns = item.alias, list(item.columns)
        match kind:
            case "text":
                return self.one_of(
                    f"{name}::text", f"concat({name}.*)", f"row_to_json({name})::text", f"({name}.*)::text"
                )
            case "jsonb":
                return f"to_jsonb({name})"
            case "bool":
                return self.one_of(
                    f"({name} is null)",
                    f"({name} is not null)",
                    f"({name} = {name})",
                    f"({name}.* is not distinct from {name}.*)",
                )
        same = [column for column in columns if item.columns[column] == kind]
        return f"({name}).{self.random.choice(same)}" if same else None

    def _int(self, scope: Scope, depth: int) -> str:
        a, b, t = self.value(INT, scope, depth), self.value(INT, scope, depth), self.value(TEXT, scope, depth)
        return self.one_of(
            f"({a} + {b})",
            f"({a} - {b})",
            f"({a} % 7)",
            f"length({t})",
            f"greatest({a}, {b})",
            f"abs({a})",
            f"cardinality({self.column(ARRAY, scope)})",
            f"({self.condition(scope, depth)})::int",
            f"extract(day from {self.column(TZ, scope)})::int",
            f"({self.column(JSON, scope)} ->> 'a')::int",
            f"position({self.literal(TEXT)} in {t})",
        )

    def _text(self, scope: Scope, depth: int) -> str:
        a, b, i = self.value(TEXT, scope, depth), self.value(TEXT, scope, depth), self.value(INT, scope, depth)
        return self.one_of(
            f"({a} || {b})",
            f"upper({a})",
            f"substr({a}, 1, 3)",
            f"substring({a} from 2)",
            f"{i}::text",
            f"concat({a}, '-', {i})",
            f"replace({a}, 'n', {b})",
            f"left({a}, 2)",
            f"({self.column(JSON, scope)} ->> 'b')",
            f"({self.column(ARRAY, scope)})[1]",
            f"{self.column(MOOD, scope)}::text" if scope.columns(MOOD) else f"lower({a})",
            f"md5({a})",
            f"trim(both 'n' from {a})",
            f"to_char({self.column(TZ, scope)} at time zone 'UTC', 'YYYY-MM-DD')",
            f"array_to_string({self.column(ARRAY, scope)}, ',')",
        )

    def _numeric(self, scope: Scope, depth: int) -> str:
        a, b = self.value(NUM, scope, depth), self.value(NUM, scope, depth)
        return self.one_of(
            f"({a} + {b})", f"({a} * 2)", f"round({a}, 1)", f"{self.value(INT, scope, depth)}::numeric", f"abs({a})"
        )

    def _json(self, scope: Scope, depth: int) -> str:
        return self.one_of(
            f"jsonb_build_object('x', {self.value(INT, scope, depth)})",
            f"to_jsonb({self.value(TEXT, scope, depth)}::text)",
            f"({self.column(JSON, scope)} || '{{\"z\": 1}}')",
            f"({self.column(JSON, scope)} -> 'a')",
        )

    def _array(self, scope: Scope, depth: int) -> str:
        inner = scope.inner()
        source = self.source(inner)
        listed = self.value(TEXT, inner, depth)
        return self.one_of(
            f"array[{self.value(TEXT, scope, depth)}, 'q']",
            f"array_append({self.column(ARRAY, scope)}, {self.value(TEXT, scope, depth)}::text)",
            f"array(select {listed} from {source} order by 1)",
        )

    def raising(self, kind: str, scope: Scope) -> str:
        """Write what raises an error where a row has what only hidden rows have, or, seldom, for a visible one."""
        visible = self.chance(0.06)
        self.may_raise |= visible
        number, text = self.column(INT, scope), self.column(TEXT, scope)
        salary = self._named("salary", scope) or f"({number} - 1)"
        note = self._named("note", scope) or f"concat({text}, '1')"
        score = self._named("score", scope) or "nullif(1.5, 0)"
        if not self._named("note", scope):
            note = f"regexp_replace({note}, '[^0-9]', '', 'g')"
        match kind:
            case "int":
                return (
                    f"(100 / ({number} - 6))"
                    if visible
                    else self.one_of(
                        f"(1000 / ({salary} - 777))", f"length(({note})::numeric::text)", f"(1 / ({score}))::int"
                    )
                )
            case "numeric":
                return self.one_of(f"(1 / ({score}))", f"({note})::numeric", f"ln(({score}) + 0.0)")
            case "text":
                return self.one_of(
                    f"({note})::numeric::text",
                    f"(1000 / ({salary} - 777))::text",
                    f"repeat('a', 3 / nullif({salary}, 0))",
                )
            case "bool":
                return self.one_of(
                    f"(1000 / ({salary} - 777) > 0)",
                    f"(({note})::numeric > 3)",
                    f"(1 / ({score}) > 0)",
                    f"({note} like '%\\')" if visible else f"(ln({score}) > -9)",
                )
        return self.column(kind, scope)

    def _named(self, name: str, scope: Scope) -> str | None:
        around: Scope | None = scope
        while around is not None:
            for item in around.items:
                if name in item.columns and item.table is not None:
                    return f"{item.alias}.{name}"
            around = around.outer
        return None

    # -- conditions ----------------------------------------------------------------------------------------------------------------

    def condition(self, scope: Scope, depth: int = 2) -> str:
        """Write a condition."""
        if depth <= 0:
            return self.comparison(scope, 0)
        draw = self.random.random()
        if draw < 0.3:
            return self.comparison(scope, depth - 1)
        if draw < 0.45:
            return f"({self.condition(scope, depth - 1)} {self.one_of('and', 'and', 'or')} {self.condition(scope, depth - 1)})"
        if draw < 0.5:
            return f"not ({self.condition(scope, depth - 1)})"
        if draw < 0.68:
            return self.sub_condition(scope, depth - 1)
        if draw < 0.8:
            return self.raising(BOOL, scope)
        return self._test(scope, depth - 1)

    def comparison(self, scope: Scope, depth: int) -> str:
        """Compare two values of a type."""
        kind = self.random.choice((INT, INT, TEXT, NUM, TZ, MOOD, BOOL))
        if kind == BOOL or (kind in {TZ, MOOD} and not scope.columns(kind)):
            kind = INT
        left = self.column(kind, scope)
        right = self.literal(kind) if self.chance(0.5) else self.value(kind, scope, depth)
        if kind == MOOD and right.startswith("'"):
            return f"{left} {self.one_of('=', '<>', '<')} {right}"
        return f"({left} {self.one_of(*COMPARISONS)} {right})"

    def _test(self, scope: Scope, depth: int) -> str:
        kind = self.random.choice(SCALARS)
        a, text, number = self.value(kind, scope, depth), self.column(TEXT, scope), self.column(INT, scope)
        return self.one_of(
            f"({a} is null)",
            f"({a} is not null)",
            f"({number} in (1, 3, 42, {self.literal(INT)}))",
            f"({number} not in (7, 777))",
            f"({number} > 2)",
            f"({number} < 1000)",
            f"({text} <> 'zz')",
            f"({number} between 2 and {self.value(INT, scope, depth)})",
            f"({text} like {self.one_of(chr(39) + 'n%' + chr(39), chr(39) + '%1%' + chr(39))})",
            f"({text} ilike 'SEC%')",
            f"({text} ~ '^[a-z]')",
            f"({number} = any(array[1, 3, 9, 42]))",
            f"({number} <> all(array[1, 7]))",
            f"({self.column(JSON, scope)} @> {self.literal(JSON)})",
            f"({self.column(ARRAY, scope)} && {self.literal(ARRAY)})",
            f"({self.literal(TEXT)} = any({self.column(ARRAY, scope)}))",
            f"(({number}, {text}) {self.one_of('=', '<', '<>')} ({self.literal(INT)}, {self.literal(TEXT)}))",
            f"(({self.condition(scope, depth)}) is {self.one_of('true', 'not true', 'false', 'unknown')})",
            f"({self.column(BOOL, scope)})",
        )

    # -- what other parts provide --------------------------------------------------------------------------------------------------

    def scalar_select(self, kind: str, scope: Scope, depth: int) -> str:
        """Write a sub-select of one value."""
        raise NotImplementedError

    def sub_condition(self, scope: Scope, depth: int) -> str:
        """Write EXISTS, IN, ANY or ALL with a sub-select."""
        raise NotImplementedError

    def source(self, scope: Scope) -> str:
        """Write one thing for FROM and put it into the scope."""
        raise NotImplementedError

    def cast_type(self, kind: str) -> str:
        """Return SQL's name of a type."""
        return SQL_TYPES.get(kind, "text")
