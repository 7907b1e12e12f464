"""What the source of this package says, symbol by symbol: what is defined, what names stand for, and what counts.

It is parsed and never imported. Which symbols a step reaches is in :mod:`vit_registers.pipeline.digest`.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = "vit_registers"
ROOT = Path(__file__).parents[1]
PARAMS = "vit_registers.params.base:Strict"  # what declarations of params inherit from
# Bases that call no method of ours by name.
PASSIVE = {"ABC", "Protocol", "Generic", "object", "Exception", "TypedDict", "NamedTuple"}
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Target = tuple[str, str | None]  # a symbol of a module of this package, or a module as a whole


@dataclass
class Module:
    """What a module defines, imports, and does besides."""

    name: str
    symbols: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)


@functools.cache
def _file(module: str) -> Path | None:
    """The file of a module of this package; None where there is no such module."""
    path = ROOT.joinpath(*module.split(".")[1:])
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


def _imported(node: ast.stmt) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Local names that an import makes, and what they stand for: a module, or a name in one."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, (alias.name, None)) if alias.asname else (alias.name.split(".")[0], (alias.name, None))
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            yield alias.asname or alias.name, (node.module, alias.name)


def _for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@functools.cache
def module_of(name: str) -> Module:
    """A module of this package by its full name, parsed once."""
    path = _file(name)
    if path is None:
        raise ModuleNotFoundError(f"no module {name}")
    module = Module(name)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports.update(_imported(node))
        elif _for_types_only(node):
            for inner in node.body:  # type: ignore[attr-defined]
                module.imports.update(_imported(inner))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.symbols[node.name] = [node]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in (inner for each in targets for inner in ast.walk(each) if isinstance(inner, ast.Name)):
                module.symbols.setdefault(target.id, []).append(node)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            module.loose.append(node)
    return module


@functools.cache
def resolve(module: str, name: str | None) -> Target | None:
    """A symbol behind the names that modules pass on; None for what is not of this package."""
    if module.split(".")[0] != PACKAGE:
        return None
    if name is None:
        return module, None
    if _file(f"{module}.{name}") is not None:
        return f"{module}.{name}", None
    found = module_of(module)
    if name in found.symbols:
        return module, name
    if name in found.imports:
        return resolve(*found.imports[name])
    return None


class _Names:
    """Names of one symbol resolved: those that it imports by itself, then those of its module."""

    def __init__(self, module: str, node: ast.AST) -> None:
        self.module = module_of(module)
        inner = (each for each in ast.walk(node) if isinstance(each, ast.Import | ast.ImportFrom))
        self.own = dict(pair for each in inner for pair in _imported(each))

    def target(self, node: ast.AST) -> Target | None:
        """What a name, or an attribute of a module, stands for in this package."""
        if isinstance(node, ast.Name):
            imported = self.own.get(node.id) or self.module.imports.get(node.id)
            if imported:
                return resolve(*imported)
            return (self.module.name, node.id) if node.id in self.module.symbols else None
        if isinstance(node, ast.Attribute):
            inside = self.target(node.value)
            if inside is not None and inside[1] is None:
                return resolve(inside[0], node.attr)
        return None

    def library(self, name: str) -> str | None:
        """The library that a name comes from, by the name it is imported as."""
        imported = self.own.get(name) or self.module.imports.get(name)
        return imported[0].split(".")[0] if imported and imported[0].split(".")[0] != PACKAGE else None


@functools.cache
def is_declaration(target: Target) -> bool:
    """Whether a class holds params."""
    if ":".join(map(str, target)) == PARAMS:
        return True
    module, name = target
    nodes = module_of(module).symbols.get(name or "", [])
    if not nodes or not isinstance(nodes[0], ast.ClassDef):
        return False
    names = _Names(module, nodes[0])
    bases = (names.target(base.value if isinstance(base, ast.Subscript) else base) for base in nodes[0].bases)
    return any(base is not None and is_declaration(base) for base in bases)


@functools.cache
def is_called_from_outside(target: Target) -> bool:
    """Whether a library may call any method of a class, because it or a base of it inherits from there."""
    module, name = target
    nodes = module_of(module).symbols.get(name or "", [])
    if not nodes or not isinstance(nodes[0], ast.ClassDef) or ":".join(map(str, target)) == PARAMS:
        return False
    names = _Names(module, nodes[0])
    for base in nodes[0].bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        found = names.target(plain)
        last = plain.attr if isinstance(plain, ast.Attribute) else getattr(plain, "id", "")
        if found is None and last not in PASSIVE:
            return True
        if found is not None and is_called_from_outside(found):
            return True
    return False


# Parts of the syntax tree that change nothing that runs.
_SILENT = {"ctx", "annotation", "returns", "type_comment", "kind", "type_params"}


def _said(node: Any, names: _Names) -> str:
    """What code says: no docstrings, annotations and imports, and names of this package by themselves."""
    if isinstance(node, list):
        return "[" + ",".join(_said(each, names) for each in node) + "]"
    if isinstance(node, ast.Import | ast.ImportFrom):
        return ""
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Name | ast.Attribute):
        target = names.target(node)
        if target and target[1]:
            return f"Name({target[1]})"
    parts = []
    for name, value in ast.iter_fields(node):
        if name in _SILENT:
            continue
        if name == "body" and isinstance(node, Definition) and _is_docstring(value[0]):
            value = value[1:]
        parts.append(_said(value, names))
    return f"{type(node).__name__}({','.join(parts)})"


def _is_docstring(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@dataclass(frozen=True)
class Code:
    """One piece of code: a hash of what it says, the symbols it names, libraries it uses, attributes it mentions."""

    said: str
    targets: tuple[Target, ...]
    libraries: tuple[str, ...]
    mentioned: tuple[str, ...]


_READ: dict[tuple[str, int], Code] = {}  # by module and identity of the node: modules are parsed once and kept


def read(module: str, node: ast.stmt) -> Code:
    """One statement of a module, read once."""
    key = (module, id(node))
    if key not in _READ:
        names = _Names(module, node)
        targets, libraries, mentioned = set(), set(), set()
        for each in ast.walk(node):
            if isinstance(each, ast.Name | ast.Attribute):
                target = names.target(each)
                if target is not None and target[1] is not None:
                    targets.add(target)
                elif isinstance(each, ast.Name) and (library := names.library(each.id)):
                    libraries.add(library)
            if isinstance(each, ast.Attribute):
                mentioned.add(each.attr)
        said = hashlib.sha256(_said(node, names).encode()).hexdigest()
        _READ[key] = Code(said, tuple(targets), tuple(libraries), tuple(mentioned))
    return _READ[key]


@functools.cache
def bare(target: Target) -> ast.ClassDef:
    """A class without its methods, and of params without its fields."""
    node = module_of(target[0]).symbols[target[1] or ""][0]
    assert isinstance(node, ast.ClassDef)
    declared = is_declaration(target)
    body = [
        inner
        for inner in node.body
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
        and not (declared and isinstance(inner, ast.AnnAssign) and "ClassVar" not in ast.unparse(inner))
    ]
    return ast.ClassDef(node.name, node.bases, node.keywords, body or [ast.Pass()], node.decorator_list)
