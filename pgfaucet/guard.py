"""The guard: decides what one query string may do. Read this first.

    text -> parse -> (resolve against the role's World -> rewrite) -> print -> parse again and compare -> QueryPlan

A string is decided once per role, claims, policy version, catalog version and search_path; after that it is a dictionary
look-up. Nothing here does I/O. An error anywhere is a refusal: there is no path that forwards undecided text.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import LOOKS_AT_NAMES, LOOKS_AT_TEXT, GivenText, InnerPlan, QueryPlan, StatementKind, StatementPlan
from pgfaucet.sql.builtins import is_parameter_type_allowed
from pgfaucet.sql.normalise import context_of, normalise
from pgfaucet.sql.parse import RawStatement, parse
from pgfaucet.sql.prepared import executed_in
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.rewrite import RewriteContext, is_query, rewrite_statement
from pgfaucet.sql.shape import ShapeCache, hide_literals, shape_of, template_of
from pgfaucet.sql.utility import observe_statement
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.sql.normalise import TextShape
    from pgfaucet.sql.rewritten import Inner
    from pgfaucet.sql.shape import Reading, Template
    from pgfaucet.sql.world import Node, World

POISON: Final = "SELECT FROM pg_catalog.pgfaucet_refused"
"""Sent in a refused statement's place where the server has to fail the transaction or the batch itself (42P01)."""

_ID_KEY: Final = os.urandom(16)
BY_NAME: Final = frozenset({StatementKind.PREPARE, StatementKind.EXECUTE, StatementKind.DEALLOCATE})
BY_NAME_NODES: Final = frozenset({"PrepareStmt", "ExecuteStmt", "DeallocateStmt"})
"""Statements about names that are the session's and not the server's, under `access: full` too."""

_ASKED: Final = ("42", Sqlstate.FEATURE_NOT_SUPPORTED, Sqlstate.INTERNAL_ERROR)  # SQLSTATEs and classes of them
_LEXICAL: Final = (Sqlstate.SYNTAX_ERROR, "22")  # of a text that can't be read: bad escapes too

MAX_DEPTH: Final = 200
MAX_PLANS: Final = 4096
MAX_PLAN_BYTES: Final = 16 << 20


PlanKey = tuple[str, tuple[str, ...], tuple[int, ...]]
"""Text, search_path, parameter types: what a decision depends on beside the guard's own role, claims and versions."""


class Epoch:
    """One version of policy and catalog, and how often plans were found in the caches of its guards.

    `is_current` turns False when either moves on: whoever holds a plan of one of its guards must then ask a guard of the next.
    """

    __slots__ = ("__weakref__", "hits", "is_current", "misses")

    def __init__(self, hits: int = 0, misses: int = 0) -> None:
        self.is_current = True
        self.hits = hits
        self.misses = misses


class Guard:
    """Decides for one role and one set of claims in one epoch."""

    def __init__(
        self,
        world: World,
        epoch: Epoch,
        *,
        statement_bytes: int,
        forwards_everything: bool = False,
        observes: bool = False,
    ) -> None:
        """Take the role's world; `forwards_everything` is `access: full`: nothing is refused or rewritten.

        `observes` is `mode: observe`: everything is forwarded too, and plans say what would have been decided.
        """
        self.world = world
        self.epoch = epoch
        self.statement_bytes = statement_bytes
        self.forwards_everything = forwards_everything or observes
        self._observes = observes
        self.has_own_path = self.forwards_everything or world.may_define  # the client's search_path is the server's
        self._plans: OrderedDict[PlanKey, QueryPlan] = OrderedDict()
        self._plan_bytes = 0
        self._shapes = ShapeCache()

    def cached(
        self, text: str, search_path: tuple[str, ...], parameter_types: tuple[int, ...] = ()
    ) -> QueryPlan | None:
        """Return the plan of a string that was decided before, or None."""
        plan = self._plans.get((text, search_path, parameter_types))
        if plan is None:
            return None
        self.epoch.hits += 1
        return plan

    def plan(self, text: str, search_path: tuple[str, ...], parameter_types: tuple[int, ...] = ()) -> QueryPlan:
        """Decide a query string. Never raises: an error is a plan whose last statement is refused."""
        key = (text, search_path, parameter_types)
        found = self._plans.get(key)
        if found is not None:
            self.epoch.hits += 1
            return found
        self.epoch.misses += 1
        plan = self.decide(text, search_path, parameter_types)
        self.remember(key, plan)
        return plan

    def plan_query(self, text: str, search_path: tuple[str, ...]) -> QueryPlan:
        """Decide a query string of the simple protocol, in which clients write their values: once for each shape. Never raises."""
        shape = shape_of(text) if len(text) <= self.statement_bytes and not self.forwards_everything else None
        if shape is None:
            return self.plan(text, search_path)
        key = (shape.key, search_path)
        found = self._shapes.find(key, shape.literals)
        if found is not None:
            self.epoch.hits += 1
            return _filled(*found, shape, text)
        shaped = self._shaped(text, search_path, shape)
        if shaped is None:
            return self.plan(text, search_path)
        self.epoch.misses += 1
        statement, template, reading = shaped
        self._shapes.keep(key, shape.literals, reading.seen, (statement, template))
        return _filled(statement, template, shape, text)

    def _shaped(
        self, text: str, search_path: tuple[str, ...], shape: TextShape
    ) -> tuple[StatementPlan, Template, Reading] | None:
        """Decide a text with its literals hidden; None when it can't be a template, or is refused."""
        try:
            statements = parse(text, max_bytes=self.statement_bytes, max_depth=MAX_DEPTH)
        except FaucetError:
            return None
        reading = hide_literals(statements[0].stmt, text, shape) if len(statements) == 1 else None
        if reading is None:
            return None
        plans = self._decide_statement(statements[0], RewriteContext(self.world, search_path, text), reading)
        if len(plans) != 1 or plans[0].error is not None:
            return None
        template = template_of(plans[0].sql, shape, reading)
        return (plans[0], template, reading) if template is not None else None

    def remember(self, key: PlanKey, plan: QueryPlan) -> None:
        """Keep a plan, within bounds: the oldest go first."""
        size = len(key[0]) + len(plan.text)
        if size > MAX_PLAN_BYTES // 64:
            return
        self._plans[key] = plan
        self._plan_bytes += size
        while len(self._plans) > MAX_PLANS or self._plan_bytes > MAX_PLAN_BYTES:
            old_key, old = self._plans.popitem(last=False)
            self._plan_bytes -= len(old_key[0]) + len(old.text)

    def decide(
        self, text: str, search_path: tuple[str, ...], parameter_types: tuple[int, ...], executed: tuple[str, ...] = ()
    ) -> QueryPlan:
        """Decide a query string without the cache; safe to call in a thread.

        `executed`: tables of the prepared statement that an EXPLAIN EXECUTE names.
        """
        try:
            statements = parse(text, max_bytes=self.statement_bytes, max_depth=MAX_DEPTH)
        except FaucetError as error:
            if self.forwards_everything and error.sqlstate == Sqlstate.SYNTAX_ERROR:
                return query_plan((_forwarded_unparsed(text),), text, parameter_types, self.world.catalog.version)
            made = query_plan((_refused(text, error),), POISON, parameter_types, self.world.catalog.version)
            is_asked = error.sqlstate.startswith(_LEXICAL) and self._may_ask_of(text)
            return replace(made, asked=text) if is_asked else made
        plans: list[StatementPlan] = []
        resets = any(
            statement.stmt.get("VariableSetStmt", {}).get("kind") == "VAR_RESET_ALL" for statement in statements
        )
        context = RewriteContext(
            self.world, search_path, text, parameter_types, executed, self.forwards_everything, resets
        )
        for statement in statements:
            plans += self._decide_statement(statement, context)
            if plans[-1].error is not None:
                break
        if self.forwards_everything and not any(plan.kind in BY_NAME for plan in plans):
            made = query_plan(tuple(plans), text, parameter_types, self.world.catalog.version)
            return replace(made, looks_at=_looks_at(text))
        sent = "; ".join(plan.sql or POISON for plan in plans)
        made = query_plan(tuple(plans), sent, parameter_types, self.world.catalog.version)
        is_asked = len(statements) == 1 and self._may_ask(statements[0], plans[0].error)
        return replace(made, asked=text) if is_asked else made

    def _may_ask(self, statement: RawStatement, error: FaucetError | None) -> bool:
        """Say whether the server may be asked for its own words: nothing that parsing a query finds is hidden from the role.

        Names of roles are, which regrole looks up.
        """
        if error is None or not error.sqlstate.startswith(_ASKED):
            return False
        is_analysed = is_query(statement.stmt) or "CallStmt" in statement.stmt
        return is_analysed and self._may_ask_of(statement.text)

    def _may_ask_of(self, text: str) -> bool:
        return self.world.may_define and "regrole" not in text.lower()

    def _decide_statement(
        self, statement: RawStatement, context: RewriteContext, reading: Reading | None = None
    ) -> list[StatementPlan]:
        try:
            if self.forwards_everything and not _is_by_name(statement.stmt):
                return [self._observed(statement, context) if self._observes else _forwarded(statement)]
            self._check_parameter_types(context.parameter_types)
            return self._rewritten(statement, context, reading)
        except FaucetError as error:
            return [_refused(statement.text, error, statement)]
        except RecursionError:
            too_complex = FaucetError(Sqlstate.STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
            return [_refused(statement.text, too_complex, statement)]
        except Exception as problem:  # noqa: BLE001 - the last line of "nothing fails open": our own bug refuses the statement
            return [_refused(statement.text, _internal_error(statement.text, problem), statement)]

    def _observed(self, statement: RawStatement, context: RewriteContext) -> StatementPlan:
        """Forward a statement, and say what enforcement would have done with it."""
        forwarded = _forwarded(statement)
        try:
            self._check_parameter_types(context.parameter_types)
            decided = self._rewritten(statement, context, None)
        except FaucetError as error:
            would = f"refuse with {error.sqlstate}: {error.reason}"
        except Exception as problem:  # noqa: BLE001 - observing must not get in the way of what is forwarded
            would = f"refuse with {Sqlstate.INTERNAL_ERROR}: {type(problem).__name__}"
        else:
            would = "allow, rewritten" if any(plan.sql != statement.text for plan in decided) else "allow"
        return replace(forwarded, observed=f"observe: would {would}", reasons=("mode: observe",))

    def _check_parameter_types(self, parameter_types: tuple[int, ...]) -> None:
        for oid in parameter_types:
            if not (is_parameter_type_allowed(oid) or oid in self.world.types or self.world.may_define):
                raise FaucetError(
                    Sqlstate.UNDEFINED_OBJECT,
                    f"type with OID {oid} does not exist",
                    reason="parameter type not allowed",
                )

    def _rewritten(
        self, statement: RawStatement, context: RewriteContext, reading: Reading | None
    ) -> list[StatementPlan]:
        query, fingerprint, literals = normalise(statement.text)
        rewritten = rewrite_statement(statement.stmt, context)
        if reading is not None:
            reading.is_over = True  # what follows prints
        inner = self._inner_plan(rewritten.inner, context) if rewritten.inner is not None else None
        made = StatementPlan(
            verb=rewritten.verb,
            tables=inner.plan.statements[0].tables if inner is not None else rewritten.tables,
            query=query,
            fingerprint=fingerprint,
            literals=literals,
            context=context_of(statement.text),
            reasons=rewritten.reasons,
            sql="" if rewritten.steps else print_verified(rewritten.tree),
            kind=rewritten.kind,
            name=rewritten.name,
            settings=rewritten.settings,
            tag=rewritten.tag,
            swallow_rows=rewritten.swallow_rows,
            check_table=rewritten.check_table,
            pin=rewritten.pin,
            changes_catalog=rewritten.changes_catalog,
            inner=inner,
            clean_errors=not self.world.sees_everything,
        )
        return [
            replace(
                made,
                sql=print_verified(step.tree),
                tag=step.tag,
                swallow_rows=step.swallow_rows,
                is_step=step.tag is None,
            )
            for step in rewritten.steps
        ] or [made]

    def _inner_plan(self, inner: Inner, context: RewriteContext) -> InnerPlan:
        """Decide what a PREPARE prepares. Raises the error of its refusal."""
        plan = self.decide(inner.text, context.search_path, inner.types)
        if plan.refused is not None and plan.refused.error is not None:
            raise plan.refused.error.moved_by(context.text.find(inner.text))
        return InnerPlan(inner.text, inner.types, plan)


def _is_by_name(stmt: Node) -> bool:
    return not BY_NAME_NODES.isdisjoint(stmt) or executed_in(stmt) is not None


def _filled(statement: StatementPlan, template: Template, shape: TextShape, text: str) -> QueryPlan:
    sent = template.fill(shape)
    given = GivenText(shape.literals, context_of(text))
    return QueryPlan((statement,), sent, query_frame=messages.query(sent), given=given)


def query_plan(
    statements: tuple[StatementPlan, ...], text: str, parameter_types: tuple[int, ...], version: int
) -> QueryPlan:
    """`version`: of the catalog; what was prepared under another one may speak of types and tables that are gone."""
    name = hashlib.sha256(f"{version}{parameter_types}{text}".encode()).hexdigest()[:24]
    return QueryPlan(
        statements,
        text,
        query_frame=messages.query(text),
        parse_frame=messages.parse(f"pgf_{name}", text, parameter_types),
        statement_name=f"pgf_{name}".encode(),
    )


def _looks_at(text: str) -> str:
    """Say whether a text that is forwarded as it is may see the names that prepared statements have upstream."""
    lower = text.lower()
    if "pg_prepared_statement" in lower:
        return LOOKS_AT_NAMES
    return LOOKS_AT_TEXT if "execute" in lower else ""


def _forwarded(statement: RawStatement) -> StatementPlan:
    query, fingerprint, literals = normalise(statement.text)
    seen = observe_statement(statement.stmt)
    return StatementPlan(
        verb=seen.verb,
        tables=seen.tables,
        query=query,
        fingerprint=fingerprint,
        literals=literals,
        context=context_of(statement.text),
        reasons=("access: full",),
        sql=statement.text,
        kind=seen.kind,
        name=seen.name,
        settings=seen.settings,
        resets=seen.resets,
        pin=seen.pin,
        clean_errors=False,
    )


def _forwarded_unparsed(text: str) -> StatementPlan:
    """The server, not we, says what is wrong with it."""
    return StatementPlan("UNKNOWN", (), "", "", (), (), ("access: full",), text, clean_errors=False)


def _refused(text: str, error: FaucetError, statement: RawStatement | None = None) -> StatementPlan:
    if statement is None:
        return StatementPlan("UNKNOWN", (), "", "", (), (), (), "", error=error.settled())
    try:
        query, fingerprint, literals = normalise(text)
        seen = observe_statement(statement.stmt)
        return StatementPlan(
            seen.verb,
            seen.tables,
            query,
            fingerprint,
            literals,
            context_of(text),
            (),
            "",
            error=error.settled(),
            kind=seen.kind,
        )
    except Exception:  # noqa: BLE001 - what describes a refusal must not be able to undo it
        return StatementPlan("UNKNOWN", (), "", "", (), (), (), "", error=error.settled())


def _internal_error(text: str, problem: Exception) -> FaucetError:
    """Word our own bug: an id to quote, and the place for the audit; never the text or a value."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace is not None else "?"
    return FaucetError(
        Sqlstate.INTERNAL_ERROR,
        f"internal error in pgfaucet, id {_digest(text)}; the statement was refused",
        hint="Report the id to the operator; the audit record of this statement names the place.",
        reason=f"{type(problem).__name__} at {place}",
    )


def _digest(text: str) -> str:
    """Name a text for one run of the process; keyed, so that the text cannot be guessed from it."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8, key=_ID_KEY).hexdigest()
