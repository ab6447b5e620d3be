"""Networks whose matrices are small floating-point numbers.

    seen = quantized.inputs(lambda params: model.apply(params, x), params)
    small = quantized.convert(params, seen, bits=(4, 4), method="fpq")
    logits = model.apply(small, x)

Every layer is calibrated with what it sees in the network as it was trained, as
in LLM-FP4 (arXiv:2310.16836, appendix F).
"""

from collections.abc import Callable, Iterator, Mapping
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named, pytree, static
from jaxedge.hardware import calibration
from jaxedge.hardware.weights import TABLE, Product, Weight, is_weight
from jaxedge.quantize import search
from jaxedge.quantize.layer import QuantizedLinear


@pytree
class Quantized(Weight):
    """A matrix [I, O], or a kernel [h, w, I, O], of small numbers.

    Attributes:
        layer: codes and scales of the matrix, and those of its inputs; of a
            kernel the matrix [h w I, O], whose inputs are patches.
        kernel: h and w, or nothing.
    """

    layer: QuantizedLinear
    kernel: tuple[int, ...] = static(default=())

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore
        """[I, O] or [h, w, I, O]."""
        inputs = self.layer.inputs
        for side in self.kernel:
            inputs //= side
        return *self.kernel, inputs, self.layer.outputs

    @property
    def by_vector(self) -> bool:  # pyright: ignore
        """Patches have scales of their own."""
        return bool(self.kernel)

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del key  # Digital: a read has no noise.
        return product(self.layer.activations(x), self.layer.weights)


@pytree
class _Unrolled(Weight):
    """A kernel as it is, that meets patches."""

    matrix: jax.Array
    shape: tuple[int, ...] = static()
    by_vector = True

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del key
        return product(x, self.matrix)


def inputs(
    run: Callable[[Any], Any],
    params: Any,
    pattern: str = "kernel$",
    rows: np.ndarray | None = None,
) -> dict[str, jax.Array]:
    """What reaches the matrices and kernels of a network.

    Args:
        run: the network on calibration inputs, a function of parameters, as
            for `hardware.calibration.observe`.
        params: parameters or variables, of arrays.
        pattern: regular expression, searched in the path of each matrix [I, O]
            and kernel [h, w, I, O].
        rows: places of the vectors of a call that are kept, such as those that
            are no padding; None keeps all.

    Returns:
        By path, the vectors of all its calls, [B, I], in order; those of a
        kernel are patches.

    Raises:
        UsageError: if no matrix matches, or a value cannot leave its scan.
    """
    chosen = matching(params, pattern)

    def unroll(path: str, leaf: Any) -> Any:
        if path not in chosen or jnp.ndim(leaf) != 4:
            return leaf
        return _Unrolled(leaf.reshape(-1, leaf.shape[-1]), leaf.shape)

    def look(leaf: Any, x: jax.Array) -> jax.Array:
        x = x.reshape(-1, x.shape[-1])
        return x if rows is None else x[rows]

    found = calibration.observe(
        run, map_named(unroll, params), look, lambda path, leaf: path in chosen
    )
    return {path: jnp.concatenate(calls) for path, calls in found.items()}


def convert(params: Any, seen: Mapping[str, jax.Array], **how: Any) -> Any:
    """A network with `Quantized` matrices.

    Args:
        params: as for `inputs`.
        seen: from `inputs`: which matrices, and what they are calibrated with.
        **how: `bits`, `method` and so on of `quantize.search.linear`.

    Returns:
        `params` with leaves in place of these matrices.

    Raises:
        UsageError: as `search.linear`, with the name of the layer.
    """

    def one(path: str, leaf: Any) -> Any:
        if path not in seen:
            return leaf
        return quantise(path, leaf, seen[path], **how)

    return map_named(one, params, is_leaf=is_weight)


def quantise(path: str, w: jax.Array, x: jax.Array, **how: Any) -> Quantized:
    """One matrix or kernel, as `convert` does it."""
    try:
        layer = search.linear(x, w.reshape(-1, w.shape[-1]), **how)
    except checks.UsageError as error:
        raise checks.UsageError(f"{path}: {error}") from None
    return Quantized(layer, w.shape[:-2])


def values(params: Any) -> Any:
    """The values of `Quantized` leaves as plain arrays, for other hardware.

    FP4 weights on noisy crossbars, for example. Inputs are as they are: what a
    layer does to its inputs first has to be nothing.

    Raises:
        UsageError: for a layer whose inputs are divided or rotated.
    """

    def one(path: str, leaf: Any) -> Any:
        if not isinstance(leaf, Quantized):
            return leaf
        if leaf.layer.factor_I is not None or leaf.layer.turn > 1:
            raise checks.UsageError(
                f"{path} has weights for inputs that are divided or rotated,"
                " which other hardware does not do; use another method, such"
                " as fpq."
            )
        return leaf.layer.weights.reshape(leaf.shape)

    return map_named(one, params, is_leaf=is_weight)


def leaves(params: Any) -> Iterator[tuple[str, Quantized]]:
    """The `Quantized` leaves of a network with their paths, in order."""
    found: list[tuple[str, Quantized]] = []

    def note(path: str, leaf: Any) -> None:
        if isinstance(leaf, Quantized):
            found.append((path, leaf))

    map_named(note, params, is_leaf=is_weight)
    return iter(found)


def matching(params: Any, pattern: str) -> set[str]:
    """Paths of the matrices and kernels that a pattern names.

    Tables, whose names end in "embedding", multiply nothing.

    Raises:
        UsageError: if there are none, or for a pattern that is no regular
            expression.
    """
    paths: list[str] = []

    def note(path: str, leaf: Any) -> None:
        if jnp.ndim(leaf) in (2, 4) and not path.endswith(TABLE):
            paths.append(path)

    map_named(note, params)
    try:
        found = {path for path in paths if re.search(pattern, path)}
    except re.error as error:
        raise checks.UsageError(
            f"the pattern {pattern!r} is no regular expression: {error}."
        ) from None
    if not found:
        raise checks.UsageError(
            f"the pattern {pattern!r} names no matrix; there are:"
            f" {', '.join(paths) or 'none'}."
        )
    return found
