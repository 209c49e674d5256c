"""A policy directory to values: every *.yaml and *.yml directly in it, all problems reported at once. Reads files; writes none."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pgfaucet.config import Config, DatabaseConfig, ServerConfig, parse_address
from pgfaucet.policy.document import SECTIONS, DatabaseModel, PolicyTestModel, RoleModel, ServerModel
from pgfaucet.policy.environment import refuse_references, substitute
from pgfaucet.policy.inherit import Inheritance
from pgfaucet.policy.model import Policy, Source
from pgfaucet.policy.not_yet import refuse_not_yet
from pgfaucet.policy.problem import PolicyErrors as PolicyErrors  # noqa: PLC0414 - callers take it from here
from pgfaucet.policy.problem import Problem, in_order, known_names
from pgfaucet.policy.reading import read
from pgfaucet.policy.roles import Draft, check_role, draft
from pgfaucet.policy.settle import settle_database, settle_server
from pgfaucet.policy.testcases import check_test, policy_test
from pgfaucet.policy.yamltree import MAX_FILE_BYTES, MappingNode, Node, ScalarNode, SequenceNode, compose, source_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from pgfaucet.policy.model import Role

MAX_NAME_BYTES: Final = 63  # NAMEDATALEN, less its NUL
SUFFIXES: Final = frozenset({".yaml", ".yml"})

M = TypeVar("M", bound="BaseModel")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a policy directory says."""

    config: Config
    policy: Policy


def load(
    directory: Path, *, listen: str | None = None, workers: int | None = None, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Read a policy directory; `listen` and `workers` stand in for what it says. Raises PolicyErrors."""
    texts = read_directory(directory)
    return load_texts(
        directory, texts, listen=listen, workers=workers, environ=os.environ if environ is None else environ
    )


def load_texts(
    directory: Path,
    texts: Mapping[str, bytes],
    *,
    environ: Mapping[str, str],
    listen: str | None = None,
    workers: int | None = None,
) -> Loaded:
    """Load files that have been read: bytes by file name. Raises PolicyErrors."""
    reader = _Reader(directory, environ)
    for name, raw in sorted(texts.items()):
        reader.take(str(directory / name), raw)
    return reader.finish(listen, workers)


def policy_files(directory: Path) -> list[Path]:
    """Return the files that are read, sorted by name. Raises OSError."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_directory(directory: Path) -> dict[str, bytes]:
    """Read the policy files of a directory. Raises PolicyErrors."""
    try:
        paths = policy_files(directory)
    except OSError as error:
        raise PolicyErrors(
            [Problem(str(directory), f"cannot be read: {error.strerror}", "name a directory with policy files")]
        ) from None
    if not paths:
        raise PolicyErrors(
            [Problem(str(directory), "holds no *.yaml or *.yml file", "name a directory with policy files")]
        )
    texts: dict[str, bytes] = {}
    problems = []
    for path in paths:
        try:
            with path.open("rb") as file:
                texts[path.name] = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            problems.append(
                Problem(
                    Source(str(path), 1, 1),
                    f"cannot be read: {error.strerror}",
                    "mend its permissions, or move it away",
                )
            )
    if problems:
        raise PolicyErrors(problems)
    return texts


def unknown_role(name: str, policy: Policy, directory: Path | str = "--role") -> Problem:
    """Word that a role is not in the policy."""
    return Problem(str(directory), f'role "{name}" does not exist', known_names(name, policy.roles))


def version_of(roles: Mapping[str, Role]) -> str:
    """Hash what roles grant: SHA-256 over their merged content, without where and how it is written."""
    content = {name: asdict(role) for name, role in roles.items()}
    for role in content.values():
        del role["source"], role["description"]
        for grant in role["tables"]:
            del grant["source"], grant["expression_sources"]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class _Reader:
    """Gathers the sections of all files, and every problem."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._directory = directory
        self._environ = environ
        self._server: tuple[Source, Node, ServerModel | None] | None = None
        self._databases: dict[str, DatabaseConfig] = {}
        self._drafts: dict[str, Draft] = {}
        self._tests: list[tuple[Node, PolicyTestModel | None]] = []
        self._places: dict[tuple[str, str], Source] = {}  # where a name of a section was defined first

    # -- files

    def take(self, file: str, raw: bytes) -> None:
        """Read one file."""
        start = Source(file, 1, 1)
        if len(raw) > MAX_FILE_BYTES:
            self._report(start, f"this file has more than {MAX_FILE_BYTES >> 20} MB", "split it")
            return
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            self._report(Source(file, line, 1), "this is not UTF-8", "save the file as UTF-8 text")
            return
        root, problems = compose(text, file)
        self.problems += problems
        if isinstance(root, MappingNode):
            self._take_sections(root)
        elif root is not None and not (isinstance(root, ScalarNode) and root.is_null):
            self._report(start, "this is not a mapping", f"begin with one of {', '.join(SECTIONS)}")

    def _take_sections(self, root: MappingNode) -> None:
        takers = {
            "server": self._take_server,
            "databases": self._take_databases,
            "roles": self._take_roles,
            "tests": self._take_tests,
        }
        for key, node in root.values.items():
            source = root.keys[key]
            if key not in takers:
                if key != "<<":
                    self._report(source, f'unknown key "{key}"', known_names(key, SECTIONS))
            elif not (isinstance(node, ScalarNode) and node.is_null):
                takers[key](source, node)

    # -- sections

    def _take_server(self, source: Source, node: Node) -> None:
        if self._server is not None:
            self._report(source, f"server is written at {self._server[0]} already", "keep one")
            return
        refuse_not_yet(
            "server", substitute(node, self._environ, []), self.problems
        )  # an unset variable is reported once
        self._server = (source, node, self._read_with_environment(ServerModel, node))

    def _take_databases(self, source: Source, node: Node) -> None:
        for name, place, entry in self._entries("databases", source, node):
            model = self._read_with_environment(DatabaseModel, entry)
            if len(name.encode()) > MAX_NAME_BYTES:
                self._report(place, f"this name has more than {MAX_NAME_BYTES} bytes", "shorten it")
            if model is not None:
                self._databases[name] = settle_database(name, model, self._directory)

    def _take_roles(self, source: Source, node: Node) -> None:
        refuse_references(node, self.problems)
        refuse_not_yet("roles", node, self.problems)
        for name, place, entry in self._entries("roles", source, node):
            check_role(entry, self.problems)
            model = read(RoleModel, entry, self.problems)
            if model is not None:
                self._drafts[name] = draft(name, place, entry, model)

    def _take_tests(self, source: Source, node: Node) -> None:
        if not isinstance(node, SequenceNode):
            self._report(source, "tests is not a list", "begin each test with - role: NAME")
            return
        self._tests += [(item, read(PolicyTestModel, item, self.problems)) for item in node.items]

    def _entries(self, section: str, source: Source, node: Node) -> list[tuple[str, Source, Node]]:
        if not isinstance(node, MappingNode):
            self._report(source, f"{section} is not a mapping", "write each as NAME: and its keys indented below")
            return []
        found = []
        for name, entry in node.values.items():
            place = node.keys[name]
            first = self._places.setdefault((section, name), place)
            if first != place:
                self._report(place, f'{section[:-1]} "{name}" is written at {first} already', "rename or remove one")
            elif not name.strip() or not name.isprintable():
                self._report(place, "this name is empty or holds control characters", "rename it")
            elif isinstance(entry, ScalarNode) and entry.is_null:
                self._report(place, f'{section[:-1]} "{name}" has no value', "write its keys indented below")
            else:
                found.append((name, place, entry))
        return found

    def _read_with_environment(self, model: type[M], node: Node) -> M | None:
        unset: list[Problem] = []
        found: list[Problem] = []
        made = read(model, substitute(node, self._environ, unset), found)
        lines = {problem.source.line for problem in unset if isinstance(problem.source, Source)}
        self.problems += unset
        self.problems += [each for each in found if not (isinstance(each.source, Source) and each.source.line in lines)]
        return made if not unset else None

    # -- the whole

    def finish(self, listen: str | None, workers: int | None) -> Loaded:
        """Put the sections together. Raises PolicyErrors."""
        known = [name for section, name in self._places if section == "roles"]
        databases = [name for section, name in self._places if section == "databases"]
        inheritance = Inheritance(self._drafts, known, databases)
        roles = inheritance.roles()
        self.problems += inheritance.problems
        for node, _ in self._tests:
            check_test(node, known, self.problems)
        tests = tuple(policy_test(node, model) for node, model in self._tests if model is not None)
        server = self._settle_server(listen, workers)
        if self.problems or server is None:
            raise PolicyErrors(in_order(self.problems))
        return Loaded(Config(server, self._databases), Policy(version_of(roles), roles, tests))

    def _settle_server(self, listen: str | None, workers: int | None) -> ServerConfig | None:
        place, node, model = self._server or (str(self._directory), None, ServerModel())
        if model is None:
            return None

        def find(*path: str) -> Source | str:
            if listen is not None and path == ("listen",):
                return "--listen"
            return source_of(node, path) if node is not None else place

        if listen is not None:
            model = self._overridden(model, listen)
        if workers is not None:
            model = model.model_copy(update={"workers": workers})
        directory = Path(os.path.abspath(self._directory))  # noqa: PTH100 - resolve() would follow symbolic links
        return settle_server(model, directory, find, self.problems)

    def _overridden(self, model: ServerModel, listen: str) -> ServerModel:
        try:
            return model.model_copy(update={"listen": (parse_address(listen),)})
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            self._report("--listen", what, fix)
            return model

    def _report(self, source: Source | str, what: str, fix: str) -> None:
        self.problems.append(Problem(source, what, fix))
