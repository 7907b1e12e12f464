"""A pipeline-orchestrated reproducibility study of artifact tokens and register tokens in Vision Transformers.

Beside the command line there is a small Python API, :mod:`vit_registers.api`. It is imported when it is first asked
for, since it needs torch and the command line does not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_registers.api import InputError, Neurons, find_register_neurons, load_neurons, test_time_registers

__version__ = "0.1.0"
__all__ = ["InputError", "Neurons", "find_register_neurons", "load_neurons", "test_time_registers"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vit_registers import api

        return getattr(api, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
