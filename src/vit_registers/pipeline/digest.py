"""One digest of the code that a step runs, symbol by symbol.

Snakemake does not see the source behind a shell command. Each job therefore carries a digest of the functions and
classes that its step reaches, of what they say, and not of the files they stand in: a real edit of one of them redoes
the step; a comment, a docstring, a function that was moved or a helper that was added redoes nothing.

Reached are, from the step's function and from the classes of the objects in its config, all names that resolve to
functions, classes and constants of this package. Of a class of ours only methods count whose names reached code
mentions (or that Python calls by itself); a class that inherits from a library counts whole, as the library may call
any method. Fields of params do not count: their values are tracked as the config. Versions of the packages that decide
numbers count where they are used.
"""

import ast
import atexit
import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vit_registers.core.files import digest, read_json, sha256, write_json

PACKAGE = "vit_registers"
ROOT = Path(__file__).parents[1]
# Packages whose version decides numbers or pictures, by the name that they are imported as.
DISTRIBUTIONS = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "open_clip": "open_clip_torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "pandas": "pandas",
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "seaborn": "seaborn",
    "jinja2": "jinja2",
}
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
def _module(name: str) -> Module:
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
def _resolve(module: str, name: str | None) -> Target | None:
    """A symbol behind the names that modules pass on; None for what is not of this package."""
    if module.split(".")[0] != PACKAGE:
        return None
    if name is None:
        return module, None
    if _file(f"{module}.{name}") is not None:
        return f"{module}.{name}", None
    found = _module(module)
    if name in found.symbols:
        return module, name
    if name in found.imports:
        return _resolve(*found.imports[name])
    return None


class _Names:
    """Names of one symbol resolved: those that it imports by itself, then those of its module."""

    def __init__(self, module: str, node: ast.AST) -> None:
        self.module = _module(module)
        inner = (each for each in ast.walk(node) if isinstance(each, ast.Import | ast.ImportFrom))
        self.own = dict(pair for each in inner for pair in _imported(each))

    def target(self, node: ast.AST) -> Target | None:
        """What a name, or an attribute of a module, stands for in this package."""
        if isinstance(node, ast.Name):
            imported = self.own.get(node.id) or self.module.imports.get(node.id)
            if imported:
                return _resolve(*imported)
            return (self.module.name, node.id) if node.id in self.module.symbols else None
        if isinstance(node, ast.Attribute):
            inside = self.target(node.value)
            if inside is not None and inside[1] is None:
                return _resolve(inside[0], node.attr)
        return None

    def library(self, name: str) -> str | None:
        """The library that a name comes from, by the name it is imported as."""
        imported = self.own.get(name) or self.module.imports.get(name)
        return imported[0].split(".")[0] if imported and imported[0].split(".")[0] != PACKAGE else None


@functools.cache
def _is_declaration(target: Target) -> bool:
    """Whether a class holds params."""
    if ":".join(map(str, target)) == PARAMS:
        return True
    module, name = target
    nodes = _module(module).symbols.get(name or "", [])
    if not nodes or not isinstance(nodes[0], ast.ClassDef):
        return False
    names = _Names(module, nodes[0])
    bases = (names.target(base.value if isinstance(base, ast.Subscript) else base) for base in nodes[0].bases)
    return any(base is not None and _is_declaration(base) for base in bases)


@functools.cache
def _is_called_from_outside(target: Target) -> bool:
    """Whether a library may call any method of a class, because it or a base of it inherits from there."""
    module, name = target
    nodes = _module(module).symbols.get(name or "", [])
    if not nodes or not isinstance(nodes[0], ast.ClassDef) or ":".join(map(str, target)) == PARAMS:
        return False
    names = _Names(module, nodes[0])
    for base in nodes[0].bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        found = names.target(plain)
        last = plain.attr if isinstance(plain, ast.Attribute) else getattr(plain, "id", "")
        if found is None and last not in PASSIVE:
            return True
        if found is not None and _is_called_from_outside(found):
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
class _Code:
    """One piece of code: a hash of what it says, the symbols it names, libraries it uses, attributes it mentions."""

    said: str
    targets: tuple[Target, ...]
    libraries: tuple[str, ...]
    mentioned: tuple[str, ...]


_READ: dict[tuple[str, int], _Code] = {}  # by module and identity of the node: modules are parsed once and kept


def _read(module: str, node: ast.stmt) -> _Code:
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
        _READ[key] = _Code(said, tuple(targets), tuple(libraries), tuple(mentioned))
    return _READ[key]


@functools.cache
def _bare(target: Target) -> ast.ClassDef:
    """A class without its methods, and of params without its fields."""
    node = _module(target[0]).symbols[target[1] or ""][0]
    assert isinstance(node, ast.ClassDef)
    declared = _is_declaration(target)
    body = [
        inner
        for inner in node.body
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
        and not (declared and isinstance(inner, ast.AnnAssign) and "ClassVar" not in ast.unparse(inner))
    ]
    return ast.ClassDef(node.name, node.bases, node.keywords, body or [ast.Pass()], node.decorator_list)


class _Walk:
    """All that is reached from some symbols."""

    def __init__(self) -> None:
        self.said: set[tuple[str, str]] = set()  # name and hash of every symbol and method that counts
        self.libraries: set[str] = set()
        self.mentioned: set[str] = set()  # attributes that reached code names
        self.reached: set[Target] = set()
        self.modules: set[str] = set()
        self.waiting: list[Target] = []
        self.methods: dict[tuple[Target, str], Definition] = {}  # of reached classes, not mentioned so far

    def add(self, target: Target) -> None:
        """Reach a symbol, unless it is reached already."""
        if target[1] is not None and target not in self.reached:
            self.reached.add(target)
            self.waiting.append(target)

    def run(self) -> None:
        """Follow names until nothing new is reached."""
        while True:
            while self.waiting:
                self._symbol(self.waiting.pop())
            due = [key for key in self.methods if key[1] in self.mentioned]
            if not due:
                return
            for owner, name in due:
                self._code(owner[0], f"{owner[1]}.{name}", self.methods.pop((owner, name)))

    def _symbol(self, target: Target) -> None:
        module, name = target
        assert name is not None
        if module not in self.modules:
            self.modules.add(module)
            for node in _module(module).loose:
                if "__name__" not in ast.unparse(node):
                    self._code(module, "", node)
        for node in _module(module).symbols[name]:
            if isinstance(node, ast.ClassDef):
                self._class(target, node)
            else:
                self._code(module, name, node)

    def _class(self, target: Target, node: ast.ClassDef) -> None:
        """What a class says beside its methods, and those of its methods that count whatever code mentions."""
        whole = _is_called_from_outside(target) and not _is_declaration(target)
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                if whole or (inner.name.startswith("__") and inner.name.endswith("__")):
                    self._code(target[0], f"{target[1]}.{inner.name}", inner)
                else:
                    self.methods[target, inner.name] = inner
        self._code(target[0], str(target[1]), _bare(target))

    def _code(self, module: str, name: str, node: ast.stmt) -> None:
        """Put down what a piece of code says, and follow the names in it."""
        code = _read(module, node)
        self.said.add((name, code.said))
        self.libraries.update(code.libraries)
        self.mentioned.update(code.mentioned)
        for target in code.targets:
            self.add(target)


def _classes(config: Any) -> tuple[tuple[str, str], ...]:
    """Module and name of the class of every declaration in a config, each once."""
    return tuple(sorted(set(_declarations(config))))


def _declarations(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        yield type(value).__module__, type(value).__qualname__
        for name in type(value).model_fields:
            yield from _declarations(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _declarations(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _declarations(inner)


def _reached(function: str, classes: tuple[tuple[str, str], ...]) -> _Walk:
    """All that ``module:function`` reaches on a config that holds objects of these classes."""
    module, _, name = function.partition(":")
    target = _resolve(module, name)
    if target is None:
        raise ValueError(f"{function}: no such function")
    walk = _Walk()
    walk.add(target)
    for each in classes:
        # (params' class of all experiments is made when it is asked for, and stands in no module)
        if each[0].split(".")[0] == PACKAGE and each[1] in _module(each[0]).symbols:
            walk.add(each)
    walk.run()
    return walk


def _packages() -> dict[str, str]:
    """Versions of the libraries that decide numbers, by the name that they are imported as."""
    return {name: version(distribution) for name, distribution in DISTRIBUTIONS.items()}


@functools.cache
def _digest(function: str, classes: tuple[tuple[str, str], ...]) -> str:
    walk = _reached(function, classes)
    used = {name: of_one for name, of_one in sorted(_packages().items()) if name in walk.libraries}
    return digest([sorted(walk.said), used])[:16]


class _Kept:
    """Digests in a file, for as long as neither the sources nor the libraries change."""

    def __init__(self, path: Path) -> None:
        sources = {str(file.relative_to(ROOT)): sha256(file) for file in sorted(ROOT.rglob("*.py"))}
        self.path, self.valid = path, digest([sources, _packages(), sys.version])
        content = read_json(path) if path.is_file() else {}
        self.digests: dict[str, str] = content["digests"] if content.get("valid") == self.valid else {}
        self.known = len(self.digests)

    def get(self, function: str, classes: tuple[tuple[str, str], ...]) -> str:
        key = f"{function} {' '.join(f'{module}:{name}' for module, name in classes)}"
        if key not in self.digests:
            self.digests[key] = _digest(function, classes)
        return self.digests[key]

    def save(self) -> None:
        if len(self.digests) > self.known:
            write_json(self.path, {"valid": self.valid, "digests": self.digests})


_KEPT: list[_Kept] = []


def keep(path: Path) -> None:
    """Keep the digests of this process in a file, and take what another has left there: parsing takes two seconds."""
    _KEPT[:] = [_Kept(path)]
    atexit.register(_KEPT[0].save)


def code(function: str, config: Any = None) -> str:
    """Sixteen hex digits that change if and only if the code changes that ``module:function`` runs on ``config``.

    ``config``: the step's part of params; the classes of the objects in it count as named by the function.
    """
    classes = _classes(config)
    return _KEPT[0].get(function, classes) if _KEPT else _digest(function, classes)
