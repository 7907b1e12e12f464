"""From YAML files to checked params; what is wrong is said in one line with file, key and what was expected."""

import contextlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vit_registers.core import doors
from vit_registers.core.errors import InputError, reason
from vit_registers.params.base import Strict
from vit_registers.params.bases import DatasetSource, Intervention, ModelSource, Recipe
from vit_registers.params.kinds import kinds
from vit_registers.params.study import Params


def missing(params: Params) -> list[str]:
    """A line for every data set or model of a run whose folder or files are not there: key, paths, what to do."""
    named: list[tuple[str, DatasetSource | ModelSource]] = [
        *((f"datasets.{name}", params.datasets[name]) for name in params.datasets_used()),
        *((f"models.{name}", params.models[name]) for name in params.models_used()),
    ]
    lines = []
    for where, source in named:
        absent = {key: path for key, path in source.paths().items() if not Path(path).exists()}
        if absent:
            first, *others = absent.values()
            nor = f" (nor {', '.join(repr(path) for path in others)})" if others else ""
            lines.append(f"{where}.{next(iter(absent))}: no such path '{first}'{nor}; {source.where()}")
    return lines


def check_paths(params: Params, source: str = "params.yaml") -> None:
    """Refuse a data set or a model whose folder or file is not there, before anything runs."""
    for line in missing(params):
        raise InputError(f"{source}: {line}")


MERGE = "tag:yaml.org,2002:merge"  # <<: *anchor
DEEPEST = 50  # levels of params; ours have eight
LONGEST = 100  # characters of a value that a message quotes
MOST = 200_000  # values of a file, what its aliases stand for counted wherever they stand
EXPECTED = "a params file in YAML"


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue  # what it brings is laid under the keys given here, and may be given again
            where, key = f"{self.name}: line {key_node.start_mark.line + 1}", self.construct_object(key_node, deep=deep)
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise InputError(f"{where}: a key is {_type(key)}; expected text, put it in quotes")
            if str(key) in seen:
                raise InputError(f"{where}: key '{key}' is given twice; keep one")
            seen.add(str(key))
        return super().construct_mapping(node, deep)

    def get_single_node(self) -> yaml.Node | None:
        """The whole file, unless its aliases make it endless or immense."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _weigh(node, str(self.name), {})
        return node


def _weigh(node: yaml.Node, name: str, known: dict[int, int | None], depth: int = 0) -> int:
    """Values below a node of YAML, with what aliases stand for counted every time; None in ``known``: being counted."""
    where = f"{name}: line {node.start_mark.line + 1}"
    if depth > DEEPEST:
        raise InputError(f"{where}: nested more than {DEEPEST} deep; expected {EXPECTED}")
    if id(node) in known:
        weight = known[id(node)]
        if weight is None:
            raise InputError(f"{where}: holds itself through an alias (*); write out what is meant")
        return weight
    known[id(node)] = None
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    below = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
    weight = 1 + sum(_weigh(part, name, known, depth + 1) for part in below)
    if weight > MOST:
        raise InputError(f"{where}: its aliases (*) stand for more than {MOST:,} values; write out what is meant")
    known[id(node)] = weight
    return weight


def _type(value: object) -> str:
    """What a value is, in words of YAML."""
    names = {dict: "a mapping", list: "a list", tuple: "a list", bool: "true or false", float: "a number"}
    return names.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose keys have to differ."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key '{key}' is given twice; keep one")
        found[key] = value
    return found


def read_yaml(path: Path | str) -> dict[str, Any]:
    """One YAML or JSON file as a mapping, or :class:`InputError` with file and line."""
    text = doors.read_text(path, EXPECTED, damaged="correct it", missing="name a params file that is there")
    with doors.door(path, EXPECTED, damaged="correct it"):  # JSON's 1e-05 is a number, which YAML 1.1 reads as text
        try:
            content = _json(text) if str(path).endswith(".json") else _yaml(text, path)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {error.lineno}: not valid JSON: {error.msg}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f"line {mark.line + 1}: " if mark else ""
            raise InputError(
                f"{path}: {line}not valid YAML: {getattr(error, 'problem', None) or reason(error)}"
            ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of params, got {_type(content)}")
    return content


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _yaml(text: str, path: Path | str) -> Any:
    loader = _Loader(text)
    loader.name = str(path)  # which marks of errors have from it
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def overlay(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` on top, mappings merged key by key, everything else replaced (as Snakemake does)."""
    merged = dict(base)
    for key, value in change.items():
        mergeable = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if mergeable else value
    return merged


# Values of ``kind``: pydantic puts them into the path of an error.
TAGS = {
    kind
    for package, base in (
        ("data.sources", DatasetSource),
        ("models.sources", ModelSource),
        ("training.recipes", Recipe),
        ("interventions.kinds", Intervention),
    )
    for kind in kinds(f"vit_registers.{package}", base)
}


# What pydantic calls the alternatives of a value, such as a number or auto.
_ALTERNATIVE = re.compile(r"constrained-\w+|(literal|tuple|list|function-\w+)\[.*\]")


def _is_tag(path: tuple[Any, ...], place: int) -> bool:
    """Whether a part of an error's path is a tag: those follow a name in a section, or a place in a list,
    or end the path.
    (A recipe may be called what its kind is called.)
    """
    if place == len(path) - 1 and place and _ALTERNATIVE.fullmatch(str(path[place])):
        return True
    return path[place] == "[key]" or (path[place] in TAGS and (place == 2 or isinstance(path[place - 1], int)))


def _explain(error: Any) -> str:
    """``key.path: what was expected``; the tags that pydantic adds for unions are left out of the path."""
    parts = [part for place, part in enumerate(error["loc"]) if not _is_tag(error["loc"], place)]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    if error["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    elif error["type"] == "missing":
        message = "missing; give it a value"
    elif isinstance(given, str | int | float | bool | None):
        quoted = repr(given) if len(repr(given)) <= LONGEST else f"{repr(given)[:LONGEST]}..."
        message = f"{message[0].lower()}{message[1:]}, got {quoted}"
        if isinstance(given, str) and error["type"] == "float_type":
            with contextlib.suppress(ValueError):
                message += f" (YAML reads this as text: write {float(given):.1e})"
    return f"{where}: {message}" if where else message


def _refuse_odd(value: Any, source: str, key: str = "", depth: int = 0) -> None:
    """Refuse what no params are made of: numbers that are not finite, dates, and what has no end."""
    if depth > DEEPEST:
        raise InputError(f"{source}: {key.split('.')[0]}: nested more than {DEEPEST} deep, or in itself; correct it")
    if isinstance(value, dict):
        for name, part in value.items():
            _refuse_odd(part, source, f"{key}.{name}".lstrip("."), depth + 1)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            _refuse_odd(part, source, f"{key}[{place}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{source}: {key}: expected a finite number, got {value}; give one, or null where it may be")
    elif not isinstance(value, str | int | float | None):
        raise InputError(f"{source}: {key}: expected text or a number, got {_type(value)}; put it in quotes")


def _refuse_repeated(value: Any, source: str, key: str = "") -> None:
    """Refuse a list that has one name or number twice: its jobs, rows or columns would be there twice as well."""
    if isinstance(value, Strict):
        for name in type(value).model_fields:
            _refuse_repeated(getattr(value, name), source, f"{key}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for name, part in value.items():
            _refuse_repeated(part, source, f"{key}.{name}")
    elif isinstance(value, list):  # and no tuple: of a fixed number of values, as a colour has
        for place, part in enumerate(value):
            if isinstance(part, str | int | float) and part in value[:place]:
                raise InputError(f"{source}: {key}: {part!r} is given twice; keep one")
            _refuse_repeated(part, source, f"{key}[{place}]")


def parse(content: dict[str, Any], source: str = "params.yaml") -> Params:
    """Validate params, or raise :class:`InputError` naming file, key and what was expected, for the first error."""
    _refuse_odd(content, source)
    try:
        params = Params.model_validate_json(json.dumps(content, allow_nan=False))
    except ValidationError as invalid:
        errors = invalid.errors()
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{source}: {_explain(errors[0])}{more}") from None
    except (TypeError, ValueError) as error:  # numbers of thousands of digits
        raise InputError(f"{source}: {reason(error)}; correct it") from None
    _refuse_repeated(params, source)
    return params


def load(paths: Iterable[Path | str] = ("params.yaml",)) -> Params:
    """Read ``params.yaml`` and any overlays on top of it, in order."""
    paths = list(paths)
    content: dict[str, Any] = {}
    for path in paths:
        content = overlay(content, read_yaml(path))
    return parse(content, " + ".join(str(path) for path in paths))
