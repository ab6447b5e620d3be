"""One published system a file; each composes the rooms below into a Recipe."""

from types import ModuleType

from jaxedge.core import checks
from jaxedge.recipes import classifier as classifier
from jaxedge.recipes import deplm as deplm
from jaxedge.recipes import edge_pruning as edge_pruning
from jaxedge.recipes import federated as federated
from jaxedge.recipes import in_memory as in_memory
from jaxedge.recipes import language as language
from jaxedge.recipes import pretrained as pretrained
from jaxedge.recipes import quantization_aware as quantization_aware
from jaxedge.recipes import ridl as ridl
from jaxedge.recipes import sequential_gan as sequential_gan
from jaxedge.recipes.recipe import Recipe as Recipe

RECIPES: dict[str, ModuleType] = {
    "classifier": classifier,
    "edge_pruning": edge_pruning,
    "pretrained": pretrained,
    "in_memory": in_memory,
    "deplm": deplm,
    "language": language,
    "quantization_aware": quantization_aware,
    "federated": federated,
    "ridl": ridl,
    "sequential_gan": sequential_gan,
}


def get(name: str) -> ModuleType:
    """The module of a recipe, with `parse` and `build`."""
    if name not in RECIPES:
        raise checks.unknown("recipe", name, RECIPES)
    return RECIPES[name]


__all__ = [
    "RECIPES",
    "Recipe",
    "classifier",
    "deplm",
    "edge_pruning",
    "federated",
    "get",
    "in_memory",
    "language",
    "pretrained",
    "quantization_aware",
    "ridl",
    "sequential_gan",
]
