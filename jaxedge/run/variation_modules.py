"""The parts of a network that have learned grids, and their kinds.

Letters: M modules.
"""

from collections.abc import Sequence
import re
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core.trees import map_named
from jaxedge.hardware.weights import Weight
from jaxedge.models.learned_step import LearnedStep
from jaxedge.quantize.grid import Grid

# The kind of a module by its name, the first that is found in it.
_KINDS = (
    ("query", r"(^|/)query$"),
    ("key", r"(^|/)key$"),
    ("value", r"(^|/)value$"),
    ("probabilities", r"(^|/)prob$"),
    ("projection", r"(^|/)attention/(out|o)$"),
    ("MLP", r"(^|/)(up|gate|down)$"),
)
# Parts of a transformer, of several kinds each.
FAMILIES = {
    "attention": ("query", "key", "value", "probabilities", "projection"),
    "feed-forward": ("MLP",),
}


class Module(NamedTuple):
    """Grids that belong together.

    Attributes:
        kind: query, key, value, probabilities, projection, MLP, convolution or
            matrix.
        kernel: path of the weight with its inputs, if it has one.
        site: path of the place that its outputs reach, if that has a grid.
    """

    kind: str
    kernel: str | None
    site: str | None


def modules(params: Any) -> dict[str, Module]:
    """The modules with grids, by name, in the order of the parameters."""
    leaves = grids(params)
    found: dict[str, Module] = {}
    for path, leaf in leaves.items():
        if isinstance(leaf, LearnedStep):
            name = re.sub(r"/?kernel$", "", path)
            site = f"{name}_site"
            kept = site if site in leaves else None
            found[name] = Module(kind(name, leaf.ndim), path, kept)
    for path, leaf in leaves.items():
        name = path.removesuffix("_site")
        if isinstance(leaf, Grid) and name not in found:
            found[name] = Module(kind(name, 0), None, path)
    return dict(sorted(found.items(), key=lambda pair: _natural(pair[0])))


def kind(name: str, rank: int) -> str:
    """The kind of a module.

    Args:
        name: its path.
        rank: of its weight.
    """
    for said, pattern in _KINDS:
        if re.search(pattern, name):
            return said
    return "convolution" if rank > 2 else "matrix"


def groups(kinds: Sequence[str]) -> dict[str, np.ndarray]:
    """Modules that are looked at together, bool [M] by name.

    Kinds of which there are several modules, but not all; and `FAMILIES`,
    where a network has more than one.
    """
    of = np.array(kinds)
    found = {
        said: of == said
        for said in dict.fromkeys(kinds)
        if 1 < (of == said).sum() < len(of)
    }
    parts = {name: np.isin(of, part) for name, part in FAMILIES.items()}
    if all(part.any() for part in parts.values()):
        found |= parts
    return found


def grids(params: Any) -> dict[str, Any]:
    """Leaves with a learned grid, by path."""
    found: dict[str, Any] = {}

    def note(path: str, leaf: Any) -> None:
        if isinstance(leaf, Grid) or (
            isinstance(leaf, LearnedStep)
            and (leaf.grid is not None or leaf.inputs is not None)
        ):
            found[path] = leaf

    map_named(note, params, is_leaf=is_leaf)
    return found


def is_leaf(node: Any) -> bool:
    """Whether a node of a network's variables is a weight or a grid."""
    return isinstance(node, (Weight, Grid))


def _natural(name: str) -> list[Any]:
    """Sorts block_2 before block_10."""
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]
