"""A part of the tree of a policy file, validated by its pydantic model; every error at its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pgfaucet.policy.fields import kind_of, mistakes_in
from pgfaucet.policy.problem import Problem, known_names
from pgfaucet.policy.yamltree import MERGE_KEY, MappingNode, Node, ScalarNode, SequenceNode, source_of, to_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from pgfaucet.policy.yamltree import Path

M = TypeVar("M", bound=BaseModel)

_EXPECTED: Final = {
    "model_type": ("a mapping", "write it as KEY: VALUE, indented below"),
    "model_attributes_type": ("a mapping", "write it as KEY: VALUE, indented below"),
    "dict_type": ("a mapping", "write it as KEY: VALUE, indented below"),
    "list_type": ("a list", "begin each item with a dash, or write them in brackets"),
}


def read(model: type[M], node: Node, problems: list[Problem]) -> M | None:
    """Validate a node; None, and the reasons in `problems`, if it doesn't hold what the model asks for."""
    empty = [_no_value(node, path) for path in _nulls(node, ())]
    problems.extend(empty)
    try:
        made = model.model_validate(to_value(node))
    except ValidationError as error:
        details = [detail for detail in error.errors(include_url=False) if detail["input"] is not None]
        problems.extend(problem for detail in details for problem in _problems(model, node, detail))
        return None
    return None if empty else made


def _nulls(node: Node, path: Path) -> Iterator[Path]:
    match node:
        case ScalarNode():
            if node.is_null:
                yield path
        case SequenceNode():
            for index, item in enumerate(node.items):
                yield from _nulls(item, (*path, index))
        case MappingNode():
            for key, value in node.values.items():
                yield from _nulls(value, (*path, key))


def _no_value(node: Node, path: Path) -> Problem:
    name = f'"{path[-1]}"' if path and isinstance(path[-1], str) else "this"
    return Problem(source_of(node, path, of_key=True), f"{name} has no value", "write one, or remove it")


def _problems(model: type[BaseModel], node: Node, detail: ErrorDetails) -> Iterator[Problem]:
    kind = detail["type"]
    path: Path = tuple(step for step in detail["loc"] if step != "[key]")
    if kind == "policy":
        for what, fix, further in mistakes_in(detail.get("ctx", {})):
            yield Problem(source_of(node, (*path, *further)), what, fix)
    elif kind == "extra_forbidden":
        key = str(path[-1])
        if key != MERGE_KEY:  # the tree has reported it
            yield Problem(
                source_of(node, path, of_key=True), f'unknown key "{key}"', known_names(key, _keys_at(model, path[:-1]))
            )
    elif kind == "missing":
        yield Problem(source_of(node, path[:-1], of_key=True), f'the key "{path[-1]}" is missing', "write it")
    else:
        expected, fix = _EXPECTED.get(kind, ("something else", "see docs/references/policy.md"))
        yield Problem(source_of(node, path), f"this is {kind_of(detail['input'])} where {expected} is expected", fix)


def _keys_at(model: type[BaseModel], path: Path) -> tuple[str, ...]:
    """Return the keys that the mapping at a path may have."""
    annotation: Any = model
    for step in path:
        if get_origin(annotation) in (dict, list):
            annotation = get_args(annotation)[-1]
        else:
            found = _model_in(annotation)
            annotation = found.model_fields[str(step)].annotation if found is not None else None
    found = _model_in(annotation)
    return tuple(found.model_fields) if found is not None else ()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((found for found in candidates if isinstance(found, type) and issubclass(found, BaseModel)), None)
