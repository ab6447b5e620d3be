"""Tensors of PyTorch networks as variables of networks of this package.

PyTorch has matrices as [O, I] and kernels as [O, I, h, w]; here they are
[I, O] and [h, w, I, O].
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named

_SHOWN = 5  # More names than that help nobody.
_COLLECTIONS = ("params", "batch_stats")
# Last names of variables and of tensors.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "slope": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
# Prefixes of the networks within networks of transformers.
_PREFIX = re.compile(r"^(module|vit|deit|swin)\.")
# Tensors that no output depends on: counts, and what is computed here.
_HARMLESS = re.compile(
    r"(^|\.)(num_batches_tracked|relative_position_index|attn_mask)$"
)


class Naming(NamedTuple):
    """How a library names the tensors of a network.

    Attributes:
        library: its name.
        marks: tensors that only this naming has together.
        places: path of a part -> its tensors, without the last name; "{}" are
            numbers. ":1" at the end is the second third of the rows of a
            tensor that holds three; "_" at the end joins the last name. A part
            that is a variable itself has the whole name.
    """

    library: str
    marks: tuple[str, ...]
    places: Mapping[str, str]

    def tensor(self, path: str) -> tuple[str, int | None]:
        """The tensor of a variable, and which third of it."""
        path = path.partition("/")[2]
        for part, place in self.places.items():
            pattern = re.escape(part).replace(r"\{\}", r"(\d+)")
            found = re.fullmatch(f"{pattern}(?:/(\\w+))?", path)
            if found is None:
                continue
            *numbers, leaf = found.groups()
            name, _, third = place.format(*numbers).partition(":")
            if leaf is not None:
                name += ("" if name.endswith("_") else ".") + _LEAVES[leaf]
            return name, int(third) if third else None
        raise KeyError(f"{self.library} has no place for {path}")


def variables(
    model: nn.Module,
    image: Sequence[int],
    arrays: Mapping[str, Any],
    namings: Sequence[Naming],
) -> dict[str, Any]:
    """Variables of a network, every tensor in its place.

    Args:
        model: the network.
        image: shape of its inputs, [H, W, C].
        arrays: tensors by their names.
        namings: that are known; the first whose marks are there counts.

    Returns:
        Collections of `model` in numpy, float32.

    Raises:
        UsageError: for names of no known kind, and tensors that are missing,
            that have no place, are of another shape or type or not finite.
    """
    given = {
        _PREFIX.sub("", name): (name, np.asarray(array))
        for name, array in arrays.items()
        if not _HARMLESS.search(name)
    }
    naming = _recognise(given, namings)
    inputs = np.zeros((1, *image), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    shapes = {k: shapes[k] for k in _COLLECTIONS if k in shapes}
    missing: dict[str, None] = {}  # In order.
    wrong: dict[str, None] = {}
    used: set[str] = set()

    def variable(path: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray | None:
        name, third = naming.tensor(path)
        used.add(name)
        if name not in given:
            missing[name] = None
            return None
        original, tensor = given[name]
        array = _turned(_floats(original, tensor), path, leaf.ndim, third)
        if array.shape != leaf.shape:
            wrong[f"{original} {tensor.shape} for {path} {leaf.shape}"] = None
            return None
        return np.ascontiguousarray(array)

    made = map_named(variable, shapes)
    other = [given[name][0] for name in given if name not in used]
    for fault, found in (
        ("lack", [*missing]),
        ("do not fit the network:", [*wrong]),
        ("have no place in the network for", other),
    ):
        if found:
            raise checks.UsageError(
                f"the tensors ({naming.library}) {fault} {_some(found)}; check"
                " that the network has the sizes of the one they are of."
            )
    return made


def _recognise(names: Mapping[str, Any], namings: Sequence[Naming]) -> Naming:
    for naming in namings:
        if all(mark in names for mark in naming.marks):
            return naming
    known = "; ".join(f"{' and '.join(n.marks)} ({n.library})" for n in namings)
    raise checks.UsageError(
        f"the tensors ({_some([*names]) or 'none'}) are of no known network;"
        f" one has {known}."
    )


def _floats(name: str, array: np.ndarray) -> np.ndarray:
    """Finite numbers as float32."""
    if not jax.numpy.issubdtype(array.dtype, np.floating):
        raise checks.UsageError(
            f"{name} is {array.dtype}, but must be floating-point; save the"
            " network unquantised."
        )
    array = array.astype(np.float32)
    checks.finite(name, array)
    return array


def _turned(
    array: np.ndarray, path: str, rank: int, third: int | None
) -> np.ndarray:
    """A tensor with its axes as they are here."""
    if third is not None and array.ndim and len(array) % 3 == 0:
        array = np.split(array, 3)[third]
    while array.ndim > rank and array.shape[0] == 1:  # A batch of one table.
        array = array[0]
    if path.endswith("kernel"):
        array = (
            np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array
        )
    return array


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
