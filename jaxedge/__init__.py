"""Neural networks on simulated edge hardware, as pure JAX functions.

The rooms are imported on first use, so that `import jaxedge` stays light and
never touches an optional extra:

    core      keys, pytree dataclasses, argument checks
    quantize  number formats
    hardware  what a physical array does to a matrix product
    features  from raw data to arrays
    learn     learning rules without a network
    models    thin flax.linen networks that run on any hardware
    data      named data sets with one face
    recipes   one published system a file
    run       the loop, checkpoints, chip studies, report, command line
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = (
    "core",
    "quantize",
    "hardware",
    "learn",
    "features",
    "models",
    "data",
    "recipes",
    "run",
)

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"jaxedge.{name}")
    raise AttributeError(f"module 'jaxedge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
