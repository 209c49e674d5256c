"""Random SELECTs whose rows do not depend on the order in which a plan finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.differential.fuzz.expressions import Expressions
from tests.differential.fuzz.scope import (
    ANIMALS,
    ARRAY,
    BOOL,
    DEPT,
    EV,
    INT,
    JSON,
    MOOD,
    NUM,
    PEOPLE,
    PUBREF,
    SCALARS,
    TABLES,
    TAGGED,
    TEXT,
    TS,
    TZ,
    Columns,
    Item,
    Scope,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUTS = (INT, INT, INT, TEXT, TEXT, NUM, BOOL, TZ, TS, JSON, ARRAY, MOOD)


@dataclass(frozen=True, slots=True)
class Select:
    """A query, the names and types of its columns, and whether its rows come in one order only."""

    sql: str
    columns: Columns
    is_ordered: bool = False


KEYS = ("id", "id", "dept_id", "mgr_id", "n", "vlen", "tenant_id", "k1", "salary")
"""Columns of numbers that join something to something."""


def nested(query: Select) -> Select:
    """Return a query as it can stand behind WITH."""
    if not query.sql.startswith("with"):
        return query
    return Select(f"select * from ({query.sql}) z", query.columns)


class Queries(Expressions):
    """The part of the generator that writes queries."""

    # -- whole queries -------------------------------------------------------------------------------------------------------------

    def query(self, scope: Scope, depth: int = 2, kinds: tuple[str, ...] | None = None) -> Select:
        """Write any query; `kinds`: the types of its columns."""
        draw = self.random.random()
        if kinds is None and depth == 2 and scope.outer is None and not scope.ctes and self.chance(0.1):
            return self.one_of_two(self._star, self._by_key)
        if depth > 0 and draw < 0.12:
            return self._set_operation(scope, depth - 1, kinds)
        if depth > 0 and draw < 0.24:
            return self._with(scope, depth - 1, kinds)
        if draw < 0.42:
            return self._grouped(scope, depth, kinds)
        if draw < 0.46 and kinds is None and depth > 0:
            return self._recursive(scope)
        return self._plain(scope, depth, kinds)

    def _kinds(self, scope: Scope) -> tuple[str, ...]:
        drawn = [self.random.choice(OUTPUTS) for _ in range(self.random.randint(1, 4))]
        return tuple(kind if scope.columns(kind) or self.chance(0.2) else INT for kind in drawn)

    def one_of_two(self, first: Callable[[], Select], second: Callable[[], Select]) -> Select:
        """Call one of them."""
        return first() if self.chance(0.5) else second()

    def _named_columns(self, kinds: tuple[str, ...]) -> Columns:
        return {self.name("c"): kind for kind in kinds}

    def _end(self, sql: str, columns: Columns, chance: float = 0.4) -> Select:
        """Order by every column, now and then with LIMIT."""
        if not self.chance(chance):
            return Select(sql, columns)
        places = list(range(1, len(columns) + 1))
        self.random.shuffle(places)
        by = ", ".join(f"{place}{self.one_of('', '', ' desc', ' desc nulls last', ' nulls first')}" for place in places)
        limit = self.one_of(
            "", "", " limit 5", " limit 3 offset 1", " offset 2", " fetch first 2 rows with ties", " limit 0"
        )
        return Select(f"{sql} order by {by}{limit}", columns, is_ordered=True)

    def _plain(self, scope: Scope, depth: int, kinds: tuple[str, ...] | None) -> Select:
        inner = scope.inner()
        sources = self.sources(inner, depth)
        kinds = kinds or self._kinds(inner)
        columns = self._named_columns(kinds)
        values = [self._output(kind, inner, depth) for kind in kinds]
        outputs = ", ".join(f"{value} as {name}" for value, name in zip(values, columns, strict=True))
        where = self.where(inner, depth)
        if self.chance(0.08):
            sql = f"select distinct on (1) {outputs} from {sources}{where} order by {', '.join(columns)}"
            return Select(sql, columns, is_ordered=True)
        distinct = self.one_of("", "", "", "", "distinct ")
        made = self._end(f"select {distinct}{outputs} from {sources}{where}", columns)
        return self._locking(made, inner) if self.chance(0.05) and not distinct else made

    def _locking(self, select: Select, scope: Scope) -> Select:
        names = [item.alias for item in scope.items if item.table is not None]
        only = f" of {self.random.choice(names)}" if names and self.chance(0.5) else ""
        how = self.one_of("update", "share", "no key update", "key share")
        sql = f"{select.sql} for {how}{only}{self.one_of('', '', ' nowait', ' skip locked')}"
        return Select(sql, select.columns, select.is_ordered)

    def _star(self) -> Select:
        """Take every column of tables that hide none."""
        table = self.random.choice((DEPT, PUBREF, EV, ANIMALS, TAGGED))
        other = self.random.choice((DEPT, ANIMALS, TAGGED))
        scope = Scope([Item("a", table.columns, table.key, table)])
        where = self.where(scope, 1)
        sql = self.one_of(
            f"select * from {table.name} a{where}",
            f"select a.* from {table.name} a{where}",
            f"table {table.name}",
            f"select * from {table.name} a natural join {other.name} b",
            f"select a.*, b.id as bid from {table.name} a left join {other.name} b using (tenant_id){where}",
            f"select * from (select * from {table.name} a{where}) x natural full join (select * from {other.name} b) y",
            f"select * from {table.name} a(c1, c2) where c1 is not null",
            f"select count(a), count(distinct a.*) from {table.name} a{where}",
            f"select (a).* from {table.name} a{where}",
            f"select f.* from {table.name} a, lateral jsonb_each_text(to_jsonb(a)) f",
            f"select a::text, b::text from {table.name} a, lateral (select a.*) b",
        )
        return Select(sql, {"z": INT})

    def _by_key(self) -> Select:
        """Group by a key and take other columns of its table."""
        table = self.random.choice((PEOPLE, PEOPLE, DEPT, PUBREF, TAGGED))
        scope = Scope([Item("a", table.columns, table.key, table)])
        sources = f"{table.name} a"
        if self.chance(0.6):
            sources += f" left join {self._joined(scope, 0, 0.3)}"
        kinds = self._kinds(Scope(scope.items[:1]))
        values = [self.value(kind, Scope(scope.items[:1]), 1) for kind in kinds]
        columns = self._named_columns((*kinds, INT))
        outputs = ", ".join(f"{v} as {n}" for v, n in zip([*values, "count(*)"], columns, strict=True))
        keys = ", ".join(f"a.{name}" for name in table.key)
        return self._end(f"select {outputs} from {sources}{self.where(scope, 1)} group by {keys}", columns)

    def _output(self, kind: str, scope: Scope, depth: int) -> str:
        if kind in {INT, NUM} and self.chance(0.12):
            return self._window(kind, scope)
        value = self.value(kind, scope, depth)
        return f"{value}::mood" if kind == MOOD and "'" in value and "." not in value else value

    def _window(self, kind: str, scope: Scope) -> str:
        part = self.value(self.random.choice((INT, TEXT)), scope, 0)
        key = scope.key
        over = f"partition by {part} order by {self.column(INT, scope)}"
        if kind == NUM:
            return f"sum({self.value(NUM, scope, 1)}) over (partition by {part})"
        value = self.value(INT, scope, 1)
        if key is not None and self.chance(0.6):
            unique = ", ".join(key)
            return self.one_of(
                f"row_number() over (order by {unique})",
                f"lag({value}) over (partition by {part} order by {unique})",
                f"first_value({value}) over (order by {unique} desc)",
                f"count(*) over (order by {unique} rows between 1 preceding and 1 following)",
                f"max({value}) filter (where {self.condition(scope, 1)}) over (order by {unique})",
            )
        return self.one_of(
            f"rank() over ({over})",
            f"dense_rank() over ({over})",
            f"count(*) over ({over})",
            f"max({value}) over ({over})",
        )

    def where(self, scope: Scope, depth: int = 2) -> str:
        """Write WHERE, or nothing."""
        if not self.chance(0.6):
            return ""
        conditions = [self.condition(scope, depth) for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        return f" where {' and '.join(conditions)}"

    # -- aggregates ----------------------------------------------------------------------------------------------------------------

    def _grouped(self, scope: Scope, depth: int, kinds: tuple[str, ...] | None) -> Select:
        inner = scope.inner()
        sources = self.sources(inner, depth)
        where = self.where(inner, depth)
        kinds = kinds or self._kinds(inner)
        columns = self._named_columns(kinds)
        grouped = [self.column(self.random.choice((INT, TEXT, NUM)), inner) for _ in range(self.random.randint(0, 2))]
        grouped = list(dict.fromkeys(g for g in grouped if any(g in inner.columns(kind) for kind in (INT, TEXT, NUM))))
        values = []
        for kind in kinds:
            same = [g for g in grouped if g in inner.columns(kind)]
            values.append(self.random.choice(same) if same and self.chance(0.5) else self.aggregate(kind, inner, depth))
        outputs = ", ".join(f"{value} as {name}" for value, name in zip(values, columns, strict=True))
        sql = f"select {outputs} from {sources}{where}{self._group_by(grouped)}"
        if self.chance(0.3):
            sql += f" having {self._having(grouped, inner, depth)}"
        return self._end(sql, columns)

    def _group_by(self, grouped: list[str]) -> str:
        if not grouped:
            return ""
        listed = ", ".join(grouped)
        return " group by " + self.one_of(
            listed, listed, f"rollup({listed})", f"cube({listed})", f"grouping sets (({listed}), ())", f"{listed}, ()"
        )

    def _having(self, grouped: list[str], scope: Scope, depth: int) -> str:
        numbers = [g for g in grouped if g in scope.columns(INT)]
        notes = [g for g in grouped if g.endswith(".note")]
        if notes:
            return f"{notes[0]}::numeric > 3"
        if numbers and self.chance(0.5):
            return f"1000 / ({numbers[0]} - 777) >= -1000"
        return f"{self.aggregate(INT, scope, depth)} > {self.one_of('0', '1', '2')}"

    def aggregate(self, kind: str, scope: Scope, depth: int) -> str:
        """Write an aggregate that does not depend on the order of rows."""
        only = f" filter (where {self.condition(scope, 1)})" if self.chance(0.2) else ""
        distinct = self.one_of("", "", "distinct ")
        depth = min(depth, 1)
        scope = scope if self.chance(0.1) else Scope(scope.items, None, scope.ctes)
        number, text = self.value(INT, scope, depth), self.value(TEXT, scope, depth)
        text = f"{text}::text" if text.startswith("'") else text
        match kind:
            case "int":
                name = self.one_of("sum", "max", "min", "bit_or")
                made = self.one_of(f"count({distinct}{text})", "count(*)", f"{name}({number})", f"{name}({number})")
                return f"({made}{only})::int"
            case "numeric":
                return self.one_of(
                    f"sum({distinct}{self.value(NUM, scope, depth)}){only}",
                    f"avg({number}){only}",
                    f"percentile_disc(0.5) within group (order by {number}::numeric){only}",
                )
            case "text":
                return self.one_of(
                    f"string_agg({text}, ',' order by {text}){only}", f"max({text}){only}", f"min({text}){only}"
                )
            case "bool":
                return self.one_of(
                    f"bool_and({self.condition(scope, depth)}){only}", f"bool_or({self.condition(scope, depth)}){only}"
                )
            case "jsonb":
                return f"jsonb_agg({number} order by {number}){only}"
            case "text[]":
                return f"array_agg({distinct}{text} order by {text}){only}"
        given = f"{self.literal(kind)}::{'mood' if kind == MOOD else self.cast_type(kind)}"
        return f"max({self.column(kind, scope) if scope.columns(kind) else given}){only}"

    # -- queries of several --------------------------------------------------------------------------------------------------------

    def _set_operation(self, scope: Scope, depth: int, kinds: tuple[str, ...] | None) -> Select:
        kinds = kinds or tuple(self.random.choice((INT, TEXT, NUM, TZ)) for _ in range(self.random.randint(1, 3)))
        left, right = self.query(scope, depth, kinds), self.query(scope, depth, kinds)
        operator = self.one_of("union", "union all", "union all", "intersect", "except", "except all", "intersect all")
        return self._end(f"({left.sql}) {operator} ({right.sql})", left.columns)

    def _with(self, scope: Scope, depth: int, kinds: tuple[str, ...] | None) -> Select:
        """CTEs; one of them may have the name of a table."""
        inner = scope.inner()
        inner.items, inner.outer = scope.items, scope.outer
        made = []
        for _ in range(self.random.randint(1, 2)):
            body = self.query(inner, depth)
            name = self.one_of("dept", "pubref", "hidden_t") if self.chance(0.15) else self.name("w")
            if name in inner.ctes:
                continue
            how = self.one_of("as", "as", "as materialized", "as not materialized")
            made.append(f"{name} {how} ({body.sql})")
            inner.ctes[name] = body.columns
        main = nested(self.query(inner, depth, kinds))
        return Select(f"with {', '.join(made)} {main.sql}", main.columns, main.is_ordered)

    def _recursive(self, scope: Scope) -> Select:
        name, inner = self.name("r"), scope.inner()
        inner.items.append(Item("p", PEOPLE.columns, PEOPLE.key, PEOPLE))
        start, step = self.condition(inner, 1), self.condition(inner, 1)
        sql = (
            f"with recursive {name}(id, lvl) as (select p.id, 1 from people p where p.mgr_id is null or {start}"
            f" union select p.id, {name}.lvl + 1 from people p join {name} on p.mgr_id = {name}.id"
            f" where {name}.lvl < 4 and {step}) select id, max(lvl) as lvl from {name} group by id"
        )
        return self._end(sql, {"id": INT, "lvl": INT})

    # -- FROM ----------------------------------------------------------------------------------------------------------------------

    def sources(self, scope: Scope, depth: int) -> str:
        """Write FROM's list and put what it names into the scope."""
        text = self.source(scope, depth)
        for more in reversed(range(self.random.choice((0, 0, 1, 1, 2)))):
            draw = self.random.random()
            comma = ", " if more == 0 and self.chance(0.4) else " cross join "
            if draw < 0.2:
                text += f"{comma}lateral {self._lateral(scope, depth)}"
            elif draw < 0.25:
                text += f"{comma}{self.source(scope, depth)}"
            elif draw < 0.36 and scope.items[0].table is PEOPLE and len(scope.items) == 1:
                alias = self.name("t")
                scope.items.append(Item(alias, DEPT.columns, DEPT.key, DEPT))
                text += f" {self.one_of('', 'left ')}join dept {alias} using (tenant_id)"
                scope.items[0] = Item(scope.items[0].alias, PEOPLE.columns, PEOPLE.key, PEOPLE)
            else:
                how = self.one_of("", "", "left ", "left ", "right ", "full ")
                text += f" {how}join " + self._joined(scope, depth, 0.0 if how == "full " else 0.3)
        return text

    def _joined(self, scope: Scope, depth: int, more: float) -> str:
        before = len(scope.items)
        text = self.source(scope, depth)
        here, there = Scope(scope.items[:before]), Scope(scope.items[before:])
        kind = INT if there.columns(INT) and here.columns(INT) else TEXT
        condition = f"{self._joining(kind, here)} = {self._joining(kind, there)}"
        if self.chance(more):
            condition += f" and {self.condition(scope, 1)}"
        return f"{text} on {condition}"

    def _joining(self, kind: str, scope: Scope) -> str:
        keys = [column for column in scope.columns(kind) if column.partition(".")[2] in KEYS]
        return self.random.choice(keys) if keys and self.chance(0.8) else self.column(kind, scope)

    def _lateral(self, scope: Scope, depth: int) -> str:
        alias = self.name("l")
        inner = scope.inner()
        if self.chance(0.4):
            value = self.value(INT, scope, 1)
            scope.items.append(Item(alias, {"x": INT}))
            return f"(values ({value}::int)) {alias}(x)"
        if self.chance(0.1):
            document = self.column(JSON, scope)
            scope.items.append(Item(alias, {"a": INT, "b": TEXT}))
            return f"json_table({document}, '$' columns (a int path '$.a', b text path '$.b')) {alias}"
        if self.chance(0.2):
            listed = self.column(ARRAY, scope)
            if self.chance(0.3):
                scope.items.append(Item(alias, {"x": TEXT, "n": NUM}))
                return f"rows from (unnest({listed})) with ordinality {alias}(x, n)"
            scope.items.append(Item(alias, {"x": TEXT}))
            return f"unnest({listed}) {alias}(x)"
        inner.ctes = scope.ctes
        body = self.query(scope, min(depth, 1) - 1)
        scope.items.append(Item(alias, body.columns))
        return f"({body.sql}) {alias}"

    def source(self, scope: Scope, depth: int = 1) -> str:
        """Write one table, CTE, sub-select or function."""
        draw, alias = self.random.random(), self.name("t")
        if scope.ctes and draw < 0.4:
            name = self.random.choice(list(scope.ctes))
            scope.items.append(Item(alias, scope.ctes[name]))
            return f"{name} {alias}"
        if draw < 0.55 and depth > 0:
            body = self.query(Scope(ctes=scope.ctes), depth - 1)
            scope.items.append(Item(alias, body.columns))
            return f"({body.sql}) {alias}"
        if draw > 0.98:
            scope.items.append(Item(alias, {"x": INT, "y": TEXT}, ("x",)))
            return f"(values (1, 'x'), (3, 'n3'), (42, null)) {alias}(x, y)"
        if draw > 0.96:
            scope.items.append(Item(alias, {"x": INT}, ("x",)))
            return f"generate_series(1, {self.one_of('3', '10')}) {alias}(x)"
        return self._table(scope, alias)

    def _table(self, scope: Scope, alias: str) -> str:
        table = self.random.choice(TABLES)
        shadowed = table.name in scope.ctes
        item = Item(alias, table.columns, table.key, table)
        taken = {item.alias for item in scope.items}
        name = f"public.{table.name}" if shadowed or self.chance(0.1) else table.name
        if table.name in {"animals", "ev"} and self.chance(0.1):
            name = f"only {name}"
        if self.chance(0.15) and table.name not in taken and not shadowed:
            scope.items.append(Item(table.name, table.columns, table.key, table))
            return name
        if self.chance(0.05) and table is DEPT:
            scope.items.append(Item(alias, {"k1": INT, "k2": INT, "dname": TEXT, "budget": NUM}, ("k1",)))
            return f"{name} as {alias}(k1, k2)"
        scope.items.append(item)
        return f"{name} {alias}"

    # -- sub-selects in expressions ------------------------------------------------------------------------------------------------

    def scalar_select(self, kind: str, scope: Scope, depth: int) -> str:
        """Write a sub-select of one value: an aggregate, or the first of an order."""
        inner = scope.inner()
        sources = self.source(inner, 0)
        where = self.where(inner, min(depth, 1))
        if kind in {*SCALARS, ARRAY, JSON} and self.chance(0.6):
            return f"(select {self.aggregate(kind, inner, 0)} from {sources}{where})"
        return f"(select {self.value(kind, inner, depth)} from {sources}{where} order by 1 limit 1)"

    def sub_condition(self, scope: Scope, depth: int) -> str:
        """Write EXISTS, IN, ANY or ALL with a sub-select."""
        inner = scope.inner()
        sources = self.source(inner, 0)
        where = self.where(inner, min(depth, 1))
        kind = self.random.choice((INT, INT, TEXT))
        value = self.column(kind, inner) if self.chance(0.7) else self.value(kind, inner, depth)
        left = self.column(kind, scope)
        draw = self.random.random()
        if draw < 0.4:
            return f"{self.one_of('', '', 'not ')}exists (select {self.one_of('1', value)} from {sources}{where})"
        if draw < 0.7:
            return f"({left} {self.one_of('in', 'in', 'not in')} (select {value} from {sources}{where}))"
        return f"({left} {self.one_of('=', '<', '>', '<>')} {self.one_of('any', 'some', 'all')} (select {value} from {sources}{where}))"
