"""YAML text to a tree of nodes that know their file, line and column.

Made from the parser's events with a stack of our own, so that depth, size and aliases are bounded before anything is built.
No tag is obeyed and no scalar is interpreted here: what a text means is for the key that it stands under.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from pgfaucet.policy.model import Source
from pgfaucet.policy.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE_BYTES: Final = 4 << 20
MAX_DEPTH: Final = 24
MAX_NODES: Final = 500_000  # of one file, with every alias written out
MERGE_KEY: Final = "<<"

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True, eq=False)
class ScalarNode:
    """A leaf. `raw` is how it is written in the file."""

    source: Source
    text: str
    is_plain: bool  # without quotes
    raw: str = field(repr=False)

    @property
    def is_null(self) -> bool:
        """Whether nothing was written, or null."""
        return self.is_plain and self.text in _NULLS


@dataclass(frozen=True, slots=True, eq=False)
class SequenceNode:
    """A list."""

    source: Source
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class MappingNode:
    """Keys and values in the order of the file; `keys` says where each key stands."""

    source: Source
    keys: dict[str, Source] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)


Node = ScalarNode | SequenceNode | MappingNode
Path = tuple[str | int, ...]
"""Keys and indexes that lead from a node down to another."""

Value = str | list["Value"] | dict[str, "Value"] | None


class YamlError(Exception):
    """The text can't be read any further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def compose(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """Read one YAML document; None when it is empty or can't be read. Never raises for what is in `text`."""
    composer = _Composer(text, file)
    try:
        composer.run()
    except YamlError as error:
        composer.problems.append(error.problem)
        return None, composer.problems
    except yaml.YAMLError as error:
        composer.problems.append(_syntax_problem(error, file))
        return None, composer.problems
    return composer.root, composer.problems


def to_value(node: Node) -> Value:
    """Turn a tree into dictionaries, lists and texts; what is empty or null is None. Its size was bounded when it was composed."""
    match node:
        case ScalarNode():
            return None if node.is_null else node.text
        case SequenceNode():
            return [to_value(item) for item in node.items]
        case MappingNode():
            return {key: to_value(value) for key, value in node.values.items()}


def scalars(node: Node) -> Iterator[ScalarNode]:
    """Yield every leaf below a node, keys left out."""
    match node:
        case ScalarNode():
            yield node
        case SequenceNode():
            for item in node.items:
                yield from scalars(item)
        case MappingNode():
            for value in node.values.values():
                yield from scalars(value)


def source_of(root: Node, path: Path, *, of_key: bool = False) -> Source:
    """Return where the value at a path stands; a key's place for what spans lines or is empty, and wherever `of_key`.

    Where the path leaves the tree, the nearest place above.
    """
    node, key = root, None
    for step in path:
        if isinstance(node, MappingNode) and isinstance(step, str) and step in node.values:
            key, node = node.keys[step], node.values[step]
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
            key, node = None, node.items[step]
        else:
            return key or node.source
    shows_itself = isinstance(node, ScalarNode) and node.raw != ""
    return key if key is not None and (of_key or not shows_itself) else node.source


def node_at(node: Node, path: Path) -> Node | None:
    """Return the node at a path, or None."""
    for step in path:
        if isinstance(node, MappingNode) and isinstance(step, str) and step in node.values:
            node = node.values[step]
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return None
    return node


def entries(node: Node, *path: str | int) -> list[tuple[str, Source, Node]]:
    """Return key, place of the key, and value of each entry of the mapping at a path; none if there is no mapping."""
    found = node_at(node, path)
    return (
        [(key, found.keys[key], value) for key, value in found.values.items()] if isinstance(found, MappingNode) else []
    )


def texts(node: Node, *path: str | int) -> list[ScalarNode]:
    """Return the texts in the list at a path, or the one that stands there."""
    found = node_at(node, path)
    items = found.items if isinstance(found, SequenceNode) else [found]
    return [item for item in items if isinstance(item, ScalarNode)]


def position_in(node: ScalarNode, offset: int) -> Source:
    """Return where the character at `offset` of a scalar's text stands in the file.

    Follows the text through the raw form, so that quotes, escapes and block indentation are skipped.
    """
    index = -1
    for character in node.text[: offset + 1]:
        if character in " \n":
            found = next((at for at in range(index + 1, len(node.raw)) if node.raw[at].isspace()), -1)
        else:
            found = node.raw.find(character, index + 1)
        if found < 0:
            return node.source
        index = found
    before = node.raw[: max(index, 0)]
    lines = before.count("\n")
    column = len(before) - before.rfind("\n") if lines else node.source.column + len(before)
    return Source(node.source.file, node.source.line + lines, column)


class _Composer:
    """Builds the tree of one document from events."""

    def __init__(self, text: str, file: str) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._text = text
        self._file = file
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._stack: list[tuple[Node, str | None, int]] = []  # open collection, its anchor, count of nodes before it
        self._key: list[tuple[str, Source] | None] = []  # key waiting for its value, for each open collection
        self._count = 0
        self._documents = 0

    def run(self) -> None:
        for event in yaml.parse(self._text, Loader=_LOADER):
            match event:
                case yaml.DocumentStartEvent():
                    self._documents += 1
                    if self._documents > 1:
                        raise self._error(
                            event, "a second document begins here", "write one document in a file, without ---"
                        )
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.MappingStartEvent():
                    self._open(event, MappingNode(self._source(event)))
                case yaml.SequenceStartEvent():
                    self._open(event, SequenceNode(self._source(event)))
                case yaml.CollectionEndEvent():
                    self._close()
                case _:
                    pass

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._check_tag(event)
        if not _is_unicode(event.value):
            raise self._error(event, "this text holds half of a surrogate pair", "write the character itself")
        node = ScalarNode(self._source(event), event.value, not event.style, self._raw(event))
        if self._is_at_key():
            self._take_key(node)
            return
        if event.anchor:
            self._anchors[event.anchor] = (node, 1)
        self._add(node, 1, event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        known = self._anchors.get(event.anchor or "")
        if known is None:
            raise self._error(
                event,
                f'there is no anchor "&{event.anchor}" before this',
                f'write "&{event.anchor}" at what it stands for, or quotes around the *',
            )
        node, size = known
        if self._is_at_key():
            if not isinstance(node, ScalarNode):
                raise self._error(event, "a key is not a text", "write the key out")
            self._take_key(ScalarNode(self._source(event), node.text, node.is_plain, node.raw))
            return
        self._add(node, size, event)

    def _open(self, event: yaml.CollectionStartEvent, node: Node) -> None:
        self._check_tag(event)
        if self._is_at_key():
            raise self._error(event, "a key is not a text", "put quotes around the key if the brackets belong to it")
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(event, f"this is nested more than {MAX_DEPTH} levels deep", "no key of a policy file is")
        self._add(node, 1, event)
        self._stack.append((node, event.anchor, self._count))
        self._key.append(None)

    def _close(self) -> None:
        node, anchor, before = self._stack.pop()
        self._key.pop()
        if anchor:
            self._anchors[anchor] = (node, self._count - before + 1)

    def _is_at_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1][0], MappingNode) and self._key[-1] is None

    def _take_key(self, node: ScalarNode) -> None:
        if node.text == MERGE_KEY and node.is_plain:
            problem = Problem(node.source, "merge keys (<<) are not read", "write the keys out, or use inherits")
            self.problems.append(problem)
        self._key[-1] = (node.text, node.source)

    def _add(self, node: Node, size: int, event: yaml.Event) -> None:
        self._count += size
        if self._count > MAX_NODES:
            raise self._error(
                event,
                f"this file holds more than {MAX_NODES} values, aliases written out",
                "split it, or use fewer aliases",
            )
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1][0]
        if isinstance(parent, SequenceNode):
            parent.items.append(node)
        elif isinstance(parent, MappingNode) and (waiting := self._key[-1]) is not None:
            self._key[-1] = None
            self._add_entry(parent, *waiting, node)

    def _add_entry(self, parent: MappingNode, key: str, source: Source, node: Node) -> None:
        first = parent.keys.get(key)
        if first is not None:
            fix = f"it stands at {first} already; keep one"
            self.problems.append(Problem(source, f'the key "{key}" is written twice', fix))
            return
        parent.keys[key] = source
        parent.values[key] = node

    def _check_tag(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self.problems.append(
                Problem(
                    self._source(event),
                    f'the tag "{shown}" is not read',
                    "remove it; each key knows the type of its value",
                )
            )

    def _raw(self, event: Any) -> str:
        return self._text[event.start_mark.index : event.end_mark.index]

    def _source(self, event: Any) -> Source:
        return Source(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _error(self, event: yaml.Event, what: str, fix: str) -> YamlError:
        return YamlError(Problem(self._source(event), what, fix))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # "\ud800" where PyYAML has no libyaml
        return False
    return True


def _syntax_problem(error: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Problem(Source(file, 1, 1), "this is not YAML: " + str(error).splitlines()[0], "save it as UTF-8 text")
    source = Source(file, mark.line + 1, mark.column + 1)
    said = str(getattr(error, "problem", None) or error)
    return Problem(
        source,
        f"this is not YAML: {said}",
        _SYNTAX_FIXES.get(said, "look at the indentation, brackets and quotes here and in the line before"),
    )


_SYNTAX_FIXES: Final = {
    "did not find expected alphabetic or numeric character": 'put quotes around a * or & that is meant as text, as in "*"',
    "mapping values are not allowed in this context": "put quotes around a text that holds a colon, or mend the indentation",
    "found character that cannot start any token": "indent with spaces, and put quotes around a text that begins with %, @ or `",
}
