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
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vit_registers.core.errors import InputError
from vit_registers.core.files import digest, read_json, sha256, write_json
from vit_registers.pipeline.source import (
    PACKAGE,
    ROOT,
    Definition,
    Target,
    bare,
    is_called_from_outside,
    is_declaration,
    module_of,
    read,
    resolve,
)

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
            for node in module_of(module).loose:
                if "__name__" not in ast.unparse(node):
                    self._code(module, "", node)
        for node in module_of(module).symbols[name]:
            if isinstance(node, ast.ClassDef):
                self._class(target, node)
            else:
                self._code(module, name, node)

    def _class(self, target: Target, node: ast.ClassDef) -> None:
        """What a class says beside its methods, and those of its methods that count whatever code mentions."""
        whole = is_called_from_outside(target) and not is_declaration(target)
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                if whole or (inner.name.startswith("__") and inner.name.endswith("__")):
                    self._code(target[0], f"{target[1]}.{inner.name}", inner)
                else:
                    self.methods[target, inner.name] = inner
        self._code(target[0], str(target[1]), bare(target))

    def _code(self, module: str, name: str, node: ast.stmt) -> None:
        """Put down what a piece of code says, and follow the names in it."""
        code = read(module, node)
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
    target = resolve(module, name)
    if target is None:
        raise ValueError(f"{function}: no such function")
    walk = _Walk()
    walk.add(target)
    for each in classes:
        # (params' class of all experiments is made when it is asked for, and stands in no module)
        if each[0].split(".")[0] == PACKAGE and each[1] in module_of(each[0]).symbols:
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
        try:
            content = read_json(path, "valid", "digests")
        except InputError:  # there is none, or it is damaged: parsed again
            content = {}
        self.digests: dict[str, str] = content["digests"] if content.get("valid") == self.valid else {}
        self.known = len(self.digests)

    def get(self, function: str, classes: tuple[tuple[str, str], ...]) -> str:
        key = f"{function} {' '.join(f'{module}:{name}' for module, name in classes)}"
        if key not in self.digests:
            self.digests[key] = _digest(function, classes)
        return self.digests[key]

    def save(self) -> None:
        if len(self.digests) > self.known:
            with suppress(InputError):  # nothing depends on it: the folder may be read-only
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
