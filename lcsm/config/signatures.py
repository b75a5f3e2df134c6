"""Constructor signatures of lcsm's classes, read from their source so that no heavy module is imported for a check."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lcsm.config.annotations import from_source
from lcsm.config.locate import PACKAGE


@dataclass(frozen=True)
class Signature:
    """What a constructor takes.

    Attributes:
        fields: name -> annotation.
        required: names without a default.
        open: there are **keywords, so unknown names cannot be refused here.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    open: bool = False


@dataclass(frozen=True)
class Definition:
    """A class or function found in a source file: its syntax tree and the file that defines it."""

    node: ast.ClassDef | ast.FunctionDef
    module: str


def of_source(target: str) -> Signature | None:
    """The signature behind "lcsm.module.Class" or "lcsm.module.function"; None if no such definition exists."""
    definition = find(*target.rpartition(".")[::2])
    if definition is None:
        return None
    if isinstance(definition.node, ast.FunctionDef):
        return of_function(definition.node, bound=False)
    return of_class(definition)


def of_class(definition: Definition) -> Signature:
    """The signature of the first __init__ along a class and its bases inside lcsm, or of its dataclass fields."""
    node = definition.node
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            signature = of_function(statement, bound=True)
            return flattened(signature, statement, definition.module) if is_marked(statement, "flat") else signature
    if is_marked(node, "dataclass"):
        return of_dataclass(definition)
    for base in node.bases if isinstance(node, ast.ClassDef) else []:
        parent = find(definition.module, ast.unparse(base))
        if parent is not None:
            return of_class(parent)
    return Signature()


def of_function(node: ast.FunctionDef, bound: bool) -> Signature:
    """The signature of a function; the first argument of a bound one is left out."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][1 if bound else 0 :]
    everything = [*positional, *arguments.kwonlyargs]
    defaulted = {argument.arg for argument in positional[len(positional) - len(arguments.defaults) :]}
    if not arguments.defaults:
        defaulted = set()
    defaulted |= {
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }
    return Signature(
        {argument.arg: from_source(argument.annotation) for argument in everything},
        frozenset(argument.arg for argument in everything) - defaulted,
        arguments.kwarg is not None,
    )


def of_dataclass(definition: Definition) -> Signature:
    """The signature that the dataclass decorator gives a class, with the fields of its bases."""
    node = definition.node
    fields: dict[str, Any] = {}
    required: set[str] = set()
    for base in node.bases if isinstance(node, ast.ClassDef) else []:
        parent = find(definition.module, ast.unparse(base))
        if parent is not None and is_marked(parent.node, "dataclass"):
            inherited = of_dataclass(parent)
            fields |= inherited.fields
            required |= inherited.required
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            fields[line.target.id] = from_source(line.annotation)
            required |= {line.target.id} if line.value is None else set()
    return Signature(fields, frozenset(required))


def flattened(signature: Signature, node: ast.FunctionDef, module: str) -> Signature:
    """The signature that `lcsm.data.settings.flat` gives a constructor: fields in the place of dataclasses."""
    whole: dict[str, Signature] = {}
    for argument in (*node.args.args, *node.args.kwonlyargs):
        found = find(module, argument.annotation.id) if isinstance(argument.annotation, ast.Name) else None
        if found is not None and is_marked(found.node, "dataclass"):
            whole[argument.arg] = of_dataclass(found)
    fields: dict[str, Any] = {}
    for name, annotation in signature.fields.items():
        fields |= whole[name].fields if name in whole else {name: annotation}
    inner = [part.required for part in whole.values()]
    return Signature(fields, frozenset().union(signature.required - whole.keys(), *inner), signature.open)


def is_marked(node: ast.ClassDef | ast.FunctionDef, decorator: str) -> bool:
    """Whether a definition has a decorator."""
    return any(decorator in ast.dump(line) for line in node.decorator_list)


def of_object(component: Any) -> Signature:
    """The signature of an imported class or function; annotations that are texts are read as source."""
    fields, required, is_open = {}, set(), False
    for name, parameter in inspect.signature(component).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            annotation = parameter.annotation
            if isinstance(annotation, str):
                annotation = from_source(ast.parse(annotation, mode="eval").body)
            fields[name] = Any if annotation is parameter.empty else annotation
            if parameter.default is parameter.empty:
                required.add(name)
    return Signature(fields, frozenset(required), is_open)


def find(module: str, name: str) -> Definition | None:
    """The definition of `name` in a module of lcsm, followed through `from ... import`."""
    tree = parse(module)
    if tree is None or not name.isidentifier():
        return None
    for statement in tree.body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef)) and statement.name == name:
            return Definition(statement, module)
        if isinstance(statement, ast.ImportFrom) and statement.module and statement.level == 0:
            for alias in statement.names:
                if name == (alias.asname or alias.name):
                    return find(statement.module, alias.name)
    return None


def names(module: str) -> list[str]:
    """The public classes that a module of lcsm defines, for messages."""
    tree = parse(module)
    found = [] if tree is None else [statement for statement in tree.body if isinstance(statement, ast.ClassDef)]
    return [statement.name for statement in found if not statement.name.startswith("_")]


@lru_cache
def parse(module: str) -> ast.Module | None:
    """The syntax tree of a module of lcsm; None for a module that is not there or not ours."""
    first, *rest = module.split(".")
    if first != PACKAGE.name or not all(part.isidentifier() for part in rest):
        return None
    path = Path(PACKAGE, *rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return ast.parse(candidate.read_text(encoding="utf-8"))
    return None
