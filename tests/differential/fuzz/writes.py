"""Random INSERT, UPDATE, DELETE and MERGE whose effect does not depend on the order in which a plan finds rows."""

from __future__ import annotations

from dataclasses import dataclass

from tests.differential.fuzz.queries import Queries, Select, nested
from tests.differential.fuzz.scope import (
    ANIMALS,
    ARRAY,
    DEPT,
    EV,
    INT,
    PEOPLE,
    PUBREF,
    TAGGED,
    TEXT,
    Item,
    Scope,
    Table,
)

TENANTS = (*("42",) * 12, "7", "8", "null", "40 + 2")
WRITTEN = (PEOPLE, PEOPLE, PUBREF, EV, TAGGED, TAGGED)
SOURCES = (DEPT, PUBREF, TAGGED, EV)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the fuzzer, and what may be expected of it."""

    sql: str
    is_ordered: bool
    is_write: bool
    may_raise: bool


class Writes(Queries):
    """The part of the generator that writes statements that write."""

    def write(self) -> Select:
        """Write one of them."""
        draw = self.random.random()
        if draw < 0.28:
            return self._insert()
        if draw < 0.53:
            return self._update()
        if draw < 0.68:
            return self._delete()
        return self._merge() if draw < 0.82 else self._with_writes()

    # -- values --------------------------------------------------------------------------------------------------------------------

    def _new_value(self, table: Table, column: str, number: int = 0) -> str:
        """Write a value for a column of a new row; `number` tells the rows of one statement apart."""
        match column:
            case "tenant_id":
                return self.one_of(*TENANTS)
            case "id":
                taken = ("3", "6", "1", "2", "4", "9", "30")
                return self.random.choice(taken) if number == 0 and self.chance(0.35) else str(1000 + number)
            case "code":
                return self.one_of("'a'", "'b'", "'new'") if number == 0 else f"'code{number}'"
            case "k":
                return self.one_of("'k1'", "'k2'", "'k9'", "'fresh'", "null") if number == 0 else f"'key{number}'"
            case "email":
                return (
                    self.one_of("'e33@x'", "'e11@x'", f"'mail{number}'", "null") if number == 0 else f"'mail{number}'"
                )
        value = self.literal(table.columns[column])
        return f"{value}::text[]" if table.columns[column] == ARRAY else value

    def _assignments(self, table: Table, scope: Scope) -> str:
        """Write the right side of SET: values that depend on the row that is changed alone."""
        names = self.random.sample(table.updated, k=self.random.randint(1, min(3, len(table.updated))))
        if self.chance(0.75):
            names = [name for name in names if name != "tenant_id"] or [table.updated[0]]
        made = []
        for name in names:
            kind = table.columns[name]
            if name in {"tenant_id", "id", "code", "k", "email"}:
                value = self._unique_value(name, kind, scope)
            else:
                value = self.value(kind, scope, 1)
            made.append(f"{name} = {value}")
        if len(names) == 2 and "tenant_id" not in names and self.chance(0.1):
            inner = scope.inner()
            source = self.source(inner, 0)
            first, second = (self.aggregate(table.columns[name], inner, 0) for name in names)
            return f"({', '.join(names)}) = (select {first}, {second} from {source}{self.where(inner, 1)})"
        if len(names) == 2 and self.chance(0.15):
            first, second = (part.split(" = ", 1) for part in made)
            return f"({first[0]}, {second[0]}) = ({first[1]}, {second[1]})"
        return ", ".join(made)

    def _unique_value(self, name: str, kind: str, scope: Scope) -> str:
        alias = scope.items[0].alias
        match name:
            case "tenant_id":
                return self.one_of(*TENANTS, "tenant_id")
            case "id":
                return f"{alias}.id + {self.one_of('1', '500', '2000')}"
            case "email" | "code" | "k":
                return self.one_of(f"{alias}.{name} || 'z'", f"upper({alias}.{name})", "'same'", f"{alias}.{name}")
        return self.column(kind, scope)

    def _returning(self, table: Table, scope: Scope, chance: float = 0.6) -> Select | None:
        """Write RETURNING, or nothing."""
        if not self.chance(chance):
            return None
        kinds = self._kinds(scope)
        columns = self._named_columns(kinds)
        listed = [f"{self._output_of(kind, scope)} as {name}" for kind, name in zip(kinds, columns, strict=True)]
        if self.chance(0.1) and not table.has_hidden_columns and len(scope.items) == 1:
            return Select(" returning *", dict(table.columns))
        old = self.one_of("old", "new", "")
        column = next(iter(table.columns))
        if old and self.chance(0.3):
            return Select(
                f" returning {', '.join(listed)}, {old}.{column} as o", {**columns, "o": table.columns[column]}
            )
        return Select(f" returning {', '.join(listed)}", columns)

    def _output_of(self, kind: str, scope: Scope) -> str:
        value = self.value(kind, scope, 1)
        return f"{value}::mood" if kind == "mood" and "'" in value and "." not in value else value

    # -- statements ----------------------------------------------------------------------------------------------------------------

    def _insert(self) -> Select:
        table = self.random.choice(WRITTEN)
        names = [name for name in table.inserted if name in table.required or self.chance(0.5)]
        if self.chance(0.06):
            names = [name for name in names if name != "tenant_id"]
        source = self._values(table, names) if self.chance(0.75) else self._source_query(table, names)
        alias = self.name("i") if self.chance(0.3) else ""
        target = Scope([Item(alias or table.name, table.columns, table.key, table)])
        named = f" as {alias}" if alias else ""
        conflict = self._on_conflict(table, target) if self.chance(0.3) else ""
        returning = self._returning(table, target)
        sql = f"insert into {table.name}{named} ({', '.join(names)}) {source}{conflict}"
        return Select(sql + (returning.sql if returning else ""), returning.columns if returning else {})

    def _values(self, table: Table, names: list[str]) -> str:
        rows = []
        default = self.random.choice(names) if self.chance(0.1) else None
        for number in range(self.random.choice((1, 1, 2, 3))):
            values = ["default" if name == default else self._new_value(table, name, number) for name in names]
            rows.append(f"({', '.join(values)})")
        return f"values {', '.join(rows)}"

    def _source_query(self, table: Table, names: list[str]) -> str:
        source = self.random.choice((PEOPLE, DEPT, TAGGED, EV))
        scope = Scope([Item("s", source.columns, source.key, source)])
        values = []
        for name in names:
            kind = table.columns[name]
            match name:
                case "id":
                    values.append("s.id + 3000")
                case "tenant_id":
                    values.append(self.one_of("42", "s.tenant_id", "s.tenant_id", "7"))
                case "code" | "k" | "email":
                    values.append("'g' || s.id")
                case _:
                    values.append(self.column(kind, scope) if self.chance(0.6) else f"{self.literal(kind)}")
        return f"select {', '.join(values)} from {source.name} s{self.where(scope, 1)}"

    def _on_conflict(self, table: Table, target: Scope) -> str:
        if self.chance(0.3):
            return " on conflict do nothing"
        arbiter = self.random.choice(table.arbiters)
        if self.chance(0.3):
            return f" on conflict ({arbiter}) do nothing"
        excluded = Item("excluded", {name: table.columns[name] for name in table.inserted})
        scope = Scope([*target.items, excluded])
        where = f" where {self.condition(scope, 1)}" if self.chance(0.4) else ""
        return f" on conflict ({arbiter}) do update set {self._assignments(table, scope)}{where}"

    def _update(self) -> Select:
        table = self.random.choice((*WRITTEN, ANIMALS))
        alias = self.name("u")
        item = Item(alias, table.columns, table.key, table)
        scope = Scope([item])
        sets = self._assignments(table, scope)
        only = "only " if table is ANIMALS and self.chance(0.2) else ""
        sql = f"update {only}{table.name} {alias} set {sets}"
        if self.chance(0.3):
            sql += f" from {self._other_source(scope)}"
        else:
            sql += self.where(scope, 2)
        returning = self._returning(table, Scope([item]))
        return Select(sql + (returning.sql if returning else ""), returning.columns if returning else {})

    def _other_source(self, scope: Scope) -> str:
        """Write FROM or USING, and WHERE: at most one row of it for each row of the target."""
        target = scope.items[0]
        if self.chance(0.3):
            inner = Scope()
            kinds = (INT, INT)
            query = self._grouped(inner, 1, kinds)
            names = list(query.columns)
            alias = self.name("f")
            column = self.column(INT, Scope([target]))
            scope.items.append(Item(alias, {"k": INT, "n": INT}))
            one = f"(select {names[0]} as k, max({names[1]}) as n from ({query.sql}) y group by 1) {alias}"
            return f"{one} where {column} = {alias}.k and {self.condition(scope, 1)}"
        source = self.random.choice(SOURCES)
        alias = self.name("f")
        scope.items.append(Item(alias, source.columns, source.key, source))
        keyed = " and ".join(
            f"{alias}.{name} = {self.column(source.columns[name], Scope([target]))}" for name in source.key
        )
        return f"{source.name} {alias} where {keyed} and {self.condition(scope, 1)}"

    def _delete(self) -> Select:
        table = self.random.choice((*WRITTEN, ANIMALS))
        alias = self.name("d")
        item = Item(alias, table.columns, table.key, table)
        scope = Scope([item])
        sql = f"delete from {table.name} {alias}"
        sql += f" using {self._other_source(scope)}" if self.chance(0.35) else self.where(scope, 2)
        returning = self._returning(table, Scope([item]))
        return Select(sql + (returning.sql if returning else ""), returning.columns if returning else {})

    # -- MERGE ---------------------------------------------------------------------------------------------------------------------

    def _merge(self) -> Select:
        table, source = self.random.choice((PEOPLE, PUBREF, EV, TAGGED)), self.random.choice((DEPT, PEOPLE, TAGGED))
        if self.chance(0.3):
            source = table
        target = Item("t", table.columns, table.key, table)
        given = Item("s", source.columns, source.key, source)
        if "id" in table.columns:
            on = "t.id = s.id" + (
                " and t.tenant_id = s.tenant_id" if "tenant_id" in source.columns and table is EV else ""
            )
        else:
            on = f"t.{table.key[0]} = s.{source.key[0]}" if source.columns[source.key[0]] == TEXT else "t.n = s.id"
        both = Scope([target, given])
        if self.chance(0.3):
            on += f" and {self.condition(both, 1)}"
        arms = "".join(self._arm(table, both) for _ in range(self.random.randint(1, 3)))
        returning = self._returning(table, both, 0.4)
        using = (
            source.name
            if self.chance(0.7)
            else f"(select * from {source.name} x{self.where(Scope([Item('x', source.columns, source.key, source)]), 1)})"
        )
        if source is PEOPLE and using.startswith("("):
            using = using.replace("select *", f"select {', '.join(f'x.{name}' for name in PEOPLE.columns)}")
        sql = f"merge into {table.name} t using {using} s on {on}{arms}"
        return Select(sql + (returning.sql if returning else ""), returning.columns if returning else {})

    def _arm(self, table: Table, both: Scope) -> str:
        target, given = Scope([both.items[0]]), Scope([both.items[1]])
        draw = self.random.random()
        if draw < 0.3:
            only = f" and {self.condition(given, 1)}" if self.chance(0.75) else ""
            names = [name for name in table.inserted if name in table.required or self.chance(0.3)]
            values = [self._merged_value(table, name, both.items[1]) for name in names]
            return f" when not matched{only} then insert ({', '.join(names)}) values ({', '.join(values)})"
        if draw < 0.5:
            only = f" and {self.condition(target, 1)}" if self.chance(0.75) else ""
            return f" when not matched by source{only} then {self._action(table, target)}"
        only = f" and {self.condition(both, 1)}" if self.chance(0.75) else ""
        return f" when matched{only} then {self._action(table, both)}"

    def _action(self, table: Table, scope: Scope) -> str:
        return self.random.choice(
            (
                "delete",
                "do nothing",
                f"update set {self._assignments(table, scope)}",
                f"update set {self._assignments(table, scope)}",
            )
        )

    def _merged_value(self, table: Table, name: str, given: Item) -> str:
        key = f"{given.alias}.{given.key[0]}"
        is_number = given.columns[given.key[0]] == INT
        match name:
            case "id":
                return f"{key} + 4000" if is_number else "4000"
            case "tenant_id":
                return self.one_of(*TENANTS)
            case "code" | "k" | "email":
                return f"'m' || {key}"
        return (
            self.column(table.columns[name], Scope([given])) if self.chance(0.5) else self.literal(table.columns[name])
        )

    # -- data-modifying CTEs -------------------------------------------------------------------------------------------------------

    def _with_writes(self) -> Select:
        scope = Scope()
        made = []
        for maker in self.random.sample((self._insert, self._update, self._delete), k=self.random.choice((1, 1, 2))):
            body, name = maker(), self.name("w")
            made.append(f"{name} as ({body.sql})")
            if body.columns:
                scope.ctes[name] = body.columns
        main = nested(self.query(scope, 1))
        return Select(f"with {', '.join(made)} {main.sql}", main.columns, main.is_ordered)
