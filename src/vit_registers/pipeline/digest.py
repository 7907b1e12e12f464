"""Which of the package's files a step runs, and one digest of what they say.

Snakemake does not see the source behind a shell command. Each rule therefore carries the digest of its step's module
and of everything that module imports from this package: a real edit redoes the step and what follows, an edit of
comments, docstrings or layout redoes nothing, and an edit elsewhere does not touch it. DVC depends on the same files.
"""

import ast
import functools
from pathlib import Path

from vit_registers.core.files import digest

PACKAGE = "vit_registers"
ROOT = Path(__file__).parents[1]
# Declarations of params: all that they say reaches a step as its slice, which is tracked by value. Were they tracked
# as code too, a new key for one step would redo every training.
DECLARATIONS = {*(ROOT / "params").glob("*.py"), *(ROOT / "pipeline/slices").glob("*.py")}


def _file(module: str) -> Path | None:
    """The file of a module of this package; None where the name is an attribute, not a module."""
    path = ROOT.joinpath(*module.split(".")[1:])
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> set[str]:
    """Names of this package that a module imports, also inside functions; imports are absolute by rule."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == PACKAGE}


@functools.cache
def files(module: str) -> tuple[Path, ...]:
    """Files of ``module`` and of all it imports from this package, sorted by path."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = _file(waiting.pop())
        if path is not None and path not in found | DECLARATIONS:
            found.add(path)
            waiting += _imports(_parse(path))
    if not found:
        raise ModuleNotFoundError(f"no module {module}")
    return tuple(sorted(found))


def _meaning(tree: ast.Module) -> str:
    """The syntax tree as text, without positions, comments and docstrings."""
    tree = ast.parse(ast.unparse(tree))  # a copy: the parsed one is cached
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body[0] = ast.Pass()
    return ast.dump(tree)


@functools.cache
def code(module: str) -> str:
    """Sixteen hex digits that change if and only if the code that ``module`` runs changes."""
    contents = {str(path.relative_to(ROOT)): _meaning(_parse(path)) for path in files(module)}
    return digest(contents)[:16]
