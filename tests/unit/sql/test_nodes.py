"""Every node class of the grammar, decided on purpose: who reads it, or that nobody does."""

from __future__ import annotations

import pytest
from pglast.parser import parse_sql_json

from pgfaucet.errors import FaucetError
from pgfaucet.sql import rewrite
from pgfaucet.sql.definitions import DEFINITIONS
from pgfaucet.sql.expressions import EXPRESSIONS
from pgfaucet.sql.from_clause import FROM_ITEMS
from pgfaucet.sql.nodes import NODE_NUMBERS
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import RewriteContext
from pgfaucet.sql.utility import STATEMENTS
from tests.unit.sql.test_utility import tree, world

QUERIES = frozenset(Resolver.statements)

PARTS = """
    Alias TypeName A_Star ResTarget MultiAssignRef SortBy WindowDef RangeTableFuncCol DefElem LockingClause TableSampleClause GroupingSet
    WithClause InferClause OnConflictClause CTESearchClause CTECycleClause CommonTableExpr MergeWhenClause ReturningOption
    ReturningClause JsonFormat JsonReturning JsonBehavior JsonOutput JsonTablePathSpec JsonTableColumn JsonAggConstructor
    RawStmt IntoClause CollateExpr ColumnDef IndexElem ObjectWithArgs RoleSpec CurrentOfExpr
    Integer Float Boolean String BitString
"""
"""Read, or refused, by the handler of the node that holds them; they stand nowhere else."""

ANALYSED = """
    TableFunc Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr DistinctExpr NullIfExpr
    ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore RelabelType CoerceViaIO ArrayCoerceExpr ConvertRowtypeExpr
    CaseTestExpr ArrayExpr RowCompareExpr JsonConstructorExpr JsonExpr JsonTablePath JsonTablePathScan
    JsonTableSiblingJoin MergeAction CoerceToDomain CoerceToDomainValue NextValueExpr InferenceElem ReturningExpr TargetEntry RangeTblRef
    FromExpr OnConflictExpr Query RangeTblEntry RTEPermissionInfo RangeTblFunction WithCheckOption SortGroupClause WindowClause
    RowMarkClause SetOperationStmt ReturnStmt PLAssignStmt InlineCodeBlock CallContext IntList OidList
"""
"""Made by the server's analysis, or by PL/pgSQL: never in the tree of a client's text."""

CLOSED_STATEMENTS = """
    GrantRoleStmt CreateTableSpaceStmt DropTableSpaceStmt AlterTableSpaceOptionsStmt AlterTableMoveAllStmt AlterExtensionStmt
    AlterExtensionContentsStmt CreateFdwStmt AlterFdwStmt CreateForeignServerStmt AlterForeignServerStmt CreateForeignTableStmt
    CreateUserMappingStmt AlterUserMappingStmt DropUserMappingStmt ImportForeignSchemaStmt CreateAmStmt CreatePLangStmt
    CreateRoleStmt AlterRoleStmt AlterRoleSetStmt DropRoleStmt SecLabelStmt LoadStmt CreatedbStmt AlterDatabaseStmt
    AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt DropdbStmt AlterSystemStmt CheckPointStmt DropOwnedStmt ReassignOwnedStmt
    CreatePublicationStmt AlterPublicationStmt CreateSubscriptionStmt AlterSubscriptionStmt DropSubscriptionStmt
"""
"""Refused to every role that does not have `access: full`."""

PARTS_OF_DEFINITIONS = """
    TableLikeClause PartitionElem PartitionSpec PartitionBoundSpec PartitionRangeDatum PartitionCmd TriggerTransition AlterTableCmd
    ATAlterConstraint AccessPriv Constraint CreateOpClassItem StatsElem FunctionParameter VacuumRelation PublicationTable
    PublicationObjSpec
"""

GROUPS = {
    "queries": QUERIES,
    "utilities": frozenset(STATEMENTS),
    "definitions": frozenset(DEFINITIONS),
    "from items": frozenset(FROM_ITEMS),
    "expressions": frozenset(EXPRESSIONS),
    "parts": frozenset(PARTS.split()),
    "analysed": frozenset(ANALYSED.split()),
    "closed statements": frozenset(CLOSED_STATEMENTS.split()),
    "parts of definitions": frozenset(PARTS_OF_DEFINITIONS.split()),
}


def test_each_class_is_in_one_group():
    grouped = sorted(name for group in GROUPS.values() for name in group)
    assert grouped == sorted(NODE_NUMBERS)


def refusal_of(stmt):
    with pytest.raises(FaucetError) as caught:
        rewrite.rewrite_statement(stmt, RewriteContext(world(), ("public",), ""))
    return caught.value


def select(**fields):
    return {"SelectStmt": {"limitOption": "LIMIT_OPTION_DEFAULT", "op": "SETOP_NONE", **fields}}


@pytest.mark.parametrize("kind", sorted(NODE_NUMBERS.keys() - EXPRESSIONS.keys()))
def test_no_other_class_is_an_expression(kind):
    error = refusal_of(select(targetList=[{"ResTarget": {"val": {kind: {}}}}]))
    assert (error.sqlstate, error.reason) == ("0A000", f"not listed: {kind}")


@pytest.mark.parametrize("kind", sorted(NODE_NUMBERS.keys() - FROM_ITEMS.keys()))
def test_no_other_class_is_an_item_of_from(kind):
    error = refusal_of(select(fromClause=[{kind: {}}]))
    assert (error.sqlstate, error.reason) == ("0A000", f"not listed: {kind}")


@pytest.mark.parametrize("kind", sorted(NODE_NUMBERS.keys() - QUERIES - STATEMENTS.keys()))
def test_no_other_class_is_a_statement(kind):
    error = refusal_of({kind: {}})
    assert error.sqlstate == "42501"
    assert error.message.startswith("permission denied to execute ")


ELSEWHERE = {"SetToDefault", "MergeSupportFunc", "XmlSerialize"}
"""In INSERT and MERGE only, or in need of a catalog of types."""

SAMPLES = """
    id + 1; $1; id and total; (id = 1) is true; case when id = 1 then 2 end; coalesce(id, 1); greatest(id, 1); (id, total); id is null; id::text
    id collate "C"; abs(id); lpad(str := 'x'); current_date; (select 1); array[id]; (array[id])[1]; (array[id])[1:2]
    xmlelement(name x, id); json_value('{}', '$' passing id as b); json_arrayagg(id); json_objectagg('k': id)
    json_object('k': id); json_array(id); json_array(select 1); json('{}'); json_scalar(id); json_serialize('{}'); id is json; grouping(id)
    id = any(array[1]); id in (1, 2)
"""


def nodes_of(tree):
    """Give each wrapped node of a tree: the dictionary around it, and its class."""
    if isinstance(tree, list):
        for item in tree:
            yield from nodes_of(item)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in NODE_NUMBERS and len(tree) == 1:
                yield tree, key
            yield from nodes_of(value)


def sample_nodes():
    for text in filter(None, (part.strip() for line in SAMPLES.splitlines() for part in line.split(";"))):
        for sql in (f"select {text} from kv", f"select 1 from kv where {text}"):
            stmt = tree(sql)
            for number, (_, kind) in enumerate(nodes_of(stmt)):
                if kind in EXPRESSIONS:
                    yield pytest.param(sql, number, kind, id=f"{kind} {number} in {sql}")


def test_the_samples_hold_every_expression():
    assert {param.values[2] for param in sample_nodes()} == EXPRESSIONS.keys() - ELSEWHERE


@pytest.mark.parametrize(("sql", "number", "kind"), list(sample_nodes()))
def test_no_expression_takes_a_field_that_it_does_not_know(sql, number, kind):
    stmt = tree(sql)
    holder, _ = list(nodes_of(stmt))[number]
    holder[kind]["unheard_of"] = {}
    assert refusal_of(stmt).sqlstate in {"0A000", "42501"}


def test_the_names_are_those_of_the_parser():
    """That a class of another spelling would be missed is seen here."""
    text = parse_sql_json("select a, $1, f(b), (select 1) from t x join u on true where a is null")
    for name in (
        "SelectStmt",
        "ResTarget",
        "ColumnRef",
        "ParamRef",
        "FuncCall",
        "SubLink",
        "RangeVar",
        "JoinExpr",
        "NullTest",
    ):
        assert name in NODE_NUMBERS
        assert f'"{name}"' in text
