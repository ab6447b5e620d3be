"""How a parameter lies on its array, whatever its own shape.

An array has rows of inputs and columns of outputs. A network may keep its
weights transposed, with heads as axes of their own, or stacked layer by layer.

Letters: I inputs (rows), O outputs (columns).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import weights
from jaxedge.hardware.weights import Product, Weight


class Mount(NamedTuple):
    """Steps from a parameter to the matrices [*lead, I, O] on the arrays.

    Attributes:
        shape: after the steps.
        steps: names of array methods, and the numbers they take.
        lead: number of leading axes, along which each entry is an array of
            its own. Steps count the other axes from 0.
    """

    shape: tuple[int, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...] = ()
    lead: int = 0

    def reshape(self, *sizes: int) -> "Mount":
        """With the axes after the leading ones reshaped."""
        shape = (*self.shape[: self.lead], *sizes)
        if shape == self.shape:
            return self
        steps = self.steps
        if steps and steps[-1][0] == "reshape":
            steps = steps[:-1]
        return Mount(shape, (*steps, ("reshape", shape)), self.lead)

    def transpose(self, *order: int) -> "Mount":
        """With the axes after the leading ones in another order."""
        order = (*range(self.lead), *(self.lead + i for i in order))
        if order == tuple(range(len(self.shape))):
            return self
        shape = tuple(self.shape[i] for i in order)
        return Mount(shape, (*self.steps, ("transpose", order)), self.lead)

    def each(self) -> "Mount":
        """With the next axis among the leading ones."""
        return self._replace(lead=self.lead + 1)

    def lay(self, parameter: Any) -> Any:
        """The parameter, of JAX or of numpy, as it lies on its arrays."""
        for step, numbers in self.steps:
            parameter = getattr(parameter, step)(numbers)
        return parameter

    def like(self, other: "Mount", shape: tuple[int, ...]) -> bool:
        """Whether both lay a parameter of this shape down alike."""
        if self == other:
            return True
        if (self.shape, self.lead) != (other.shape, other.lead):
            return False
        places = np.arange(math.prod(shape)).reshape(shape)
        return np.array_equal(self.lay(places), other.lay(places))


def natural(shape: tuple[int, ...]) -> Mount:
    """The last axis is the outputs, all others are inputs; as in `deploy`."""
    return Mount(shape).reshape(math.prod(shape[:-1]), shape[-1])


@pytree
class Mounted(Weight):
    """A parameter that lies on its array in another order than in memory.

    Attributes:
        leaf: its matrix on hardware. All its arrays have the leading axes of
            the mount.
        mount: how it lies.
        shape: of the parameter.
    """

    leaf: Any
    mount: Mount = static()
    shape: tuple[int, ...] = static()

    @property
    def by_vector(self) -> bool:  # pyright: ignore
        """As the hardware that it lies on."""
        return self.leaf.by_vector

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        raise checks.UsageError(
            f"a weight of shape {self.shape} lies on its array as a wrapped"
            " function uses it; only that function can multiply by it."
        )

    def turned(self, use: Mount) -> Weight | None:
        """A leaf for a use that sees the array in another way.

        A linear array works both ways round; converters and tiles do not, and
        give None.
        """
        if self.mount.like(use, self.shape):
            return self.leaf
        if self.by_vector or self.mount.lead or use.lead:
            return None
        return _Turned(self, use)


class _Turned(Weight):
    """A linear leaf read in another direction."""

    def __init__(self, mounted: Mounted, use: Mount):
        self.mounted, self.use = mounted, use

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        mount, shape = self.mounted.mount, self.mounted.shape

        def turn(matrix: jax.Array) -> jax.Array:
            parameter = jax.ShapeDtypeStruct(shape, matrix.dtype)
            # Moving entries about is undone by its transpose.
            back = jax.linear_transpose(mount.lay, parameter)
            return self.use.lay(back(matrix)[0])

        return self.mounted.leaf.multiply(
            x, lambda x, matrix: product(x, turn(matrix)), key
        )


def program(
    key: jax.Array, w: jax.Array | Weight, spec: weights.Spec, mount: Mount
) -> Weight:
    """Puts a parameter on hardware as its mount tells.

    Each array of a stack draws from the stream of its place.

    Args:
        key: chip key, consumed.
        w: array or `MaskedRandom` of any shape.
        spec: the hardware.
        mount: how the parameter lies on its arrays.

    Returns:
        What `weights.program` returns where the parameter lies as it would
        there, else a `Mounted`.
    """
    shape = tuple(w.shape)
    if len(shape) in weights.RANKS and mount.like(natural(shape), shape):
        return weights.program(key, w, spec)
    place = functools.partial(weights.program, spec=spec)
    for _ in range(mount.lead):
        place = jax.vmap(place)
    if mount.lead:
        jax.tree.map(functools.partial(checks.finite, "the weight"), w)
        lead = mount.shape[: mount.lead]
        places = jnp.arange(math.prod(lead)).reshape(lead)
        fold = jnp.vectorize(jax.random.fold_in, excluded={0})
        key = fold(key, places)
    leaf = place(key, jax.tree.map(mount.lay, w))
    return Mounted(leaf, mount, shape)
