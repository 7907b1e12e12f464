"""From YAML files to checked params; what is wrong is said in one line with file, key and what was expected."""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vit_registers.core.errors import InputError
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


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue  # what it brings is laid under the keys given here, and may be given again
            key = self.construct_object(key_node, deep=deep)
            if key in mapping:
                raise InputError(
                    f"{self.name}: line {key_node.start_mark.line + 1}: key '{key}' is given twice; keep one"
                )
            mapping[key] = None
        return super().construct_mapping(node, deep)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """One YAML or JSON file as a mapping, or :class:`InputError` with file and line."""
    try:
        with open(path, encoding="utf-8") as file:  # JSON's 1e-05 is a number, which YAML 1.1 reads as text
            content = json.load(file) if str(path).endswith(".json") else yaml.load(file, _Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such params file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}: not valid JSON: {error.msg}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise InputError(f"{path}: {line}not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of params, got {type(content).__name__}")
    return content


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


def _is_tag(path: tuple[Any, ...], place: int) -> bool:
    """Whether a part of an error's path is a tag: those follow a name in a section, or a place in a list.

    (A recipe may be called what its kind is called.)
    """
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
        message = f"{message[0].lower()}{message[1:]}, got {given!r}"
        if isinstance(given, str) and error["type"] == "float_type":
            with contextlib.suppress(ValueError):
                message += f" (YAML reads this as text: write {float(given):.1e})"
    return f"{where}: {message}" if where else message


def parse(content: dict[str, Any], source: str = "params.yaml") -> Params:
    """Validate params, or raise :class:`InputError` naming file, key and what was expected, for the first error."""
    try:
        return Params.model_validate_json(json.dumps(content))
    except ValidationError as invalid:
        errors = invalid.errors()
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{source}: {_explain(errors[0])}{more}") from None
    except TypeError as error:
        raise InputError(f"{source}: {error}") from None


def load(paths: Iterable[Path | str] = ("params.yaml",)) -> Params:
    """Read ``params.yaml`` and any overlays on top of it, in order."""
    paths = list(paths)
    content: dict[str, Any] = {}
    for path in paths:
        content = overlay(content, read_yaml(path))
    return parse(content, " + ".join(str(path) for path in paths))
