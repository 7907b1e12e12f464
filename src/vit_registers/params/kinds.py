"""Things of which there are kinds: a class for each, in a file of its own, found by being in its package or below it.

A new kind of data set, model source, recipe or intervention is one file: params, the methods text, labels and what is
done all follow from its class. Modules of kinds import nothing heavy (torch, timm) at their top, as params are read by
every command.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, get_args

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from vit_registers.params.base import Strict


@cache
def kinds(package: str, base: type[Strict], other_than: str | None = None) -> dict[str, type[Strict]]:
    """Subclasses of ``base`` that declare a literal ``kind``, by each of its values, from all modules of ``package``.

    ``other_than``: a module that is passed over, as a kind that is made of the others must be while it is declared.
    """
    found: dict[str, type[Strict]] = {}
    for module in _modules(package, other_than):
        for value in vars(module).values():
            if not (isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__):
                continue
            for kind in get_args(value.model_fields["kind"].annotation) if "kind" in value.model_fields else ():
                if kind in found:
                    raise TypeError(f"{module.__name__}: kind '{kind}' is there already, as {found[kind].__name__}")
                found[kind] = value
    return dict(sorted(found.items()))


def _modules(package: str, other_than: str | None) -> Iterator[Any]:
    """All modules of a package and of the packages in it, by name."""
    folder = importlib.import_module(package)
    for found in sorted(pkgutil.iter_modules(folder.__path__), key=lambda each: each.name):
        if found.ispkg:
            yield from _modules(f"{package}.{found.name}", other_than)
        elif found.name != other_than:
            yield importlib.import_module(f"{package}.{found.name}")


@dataclass(frozen=True)
class KindsIn:
    """Annotation of a field: its value is of one of the kinds that ``package`` has, told by its key ``kind``.

    ``recipe: Annotated[Recipe, KindsIn("vit_registers.training.recipes")]`` is a Recipe for a reader and for mypy, and
    the union of all classes of recipes, however many there are, for whoever validates params.
    """

    package: str
    other_than: str | None = None  # a module of the package whose kind the value may not be

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Schema of the union."""
        classes = list(dict.fromkeys(kinds(self.package, source, self.other_than).values()))
        union: Any = classes[0] if len(classes) == 1 else Annotated[reduce(or_, classes), Field(discriminator="kind")]
        return handler.generate_schema(union)
