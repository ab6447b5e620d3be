"""Networks whose matrices are small floating-point numbers.

    seen = quantized.inputs(lambda params: model.apply(params, x), params)
    small = quantized.convert(params, seen, bits=(4, 4), method="fpq")
    logits = model.apply(small, x)

Every layer is calibrated with what it sees in the network as it was trained, as
in LLM-FP4 (arXiv:2310.16836, appendix F).
"""

from collections.abc import Callable, Mapping
import re
from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.trees import map_named, pytree
from jaxedge.hardware import calibration
from jaxedge.hardware.weights import Product, Weight, is_weight
from jaxedge.quantize import search
from jaxedge.quantize.search import QuantizedLinear


@pytree
class Quantized(Weight):
    """A matrix [I, O] of small floating-point numbers.

    Attributes:
        layer: its codes and scales, and those of its inputs.
    """

    layer: QuantizedLinear

    @property
    def shape(self) -> tuple[int, int]:  # pyright: ignore
        """[I, O]."""
        return self.layer.inputs, self.layer.weight_scale.shape[-1]

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del key  # Digital: a read has no noise.
        return product(self.layer.activations(x), self.layer.weights)


def inputs(
    run: Callable[[Any], Any], params: Any, pattern: str = "kernel$"
) -> dict[str, jax.Array]:
    """What reaches the matrices of a network.

    Args:
        run: the network on calibration inputs, a function of parameters, as
            for `hardware.calibration.observe`.
        params: parameters or variables, of arrays.
        pattern: regular expression, searched in the path of each matrix [I, O].

    Returns:
        By path, the vectors of all its calls, [B, I], in order.

    Raises:
        UsageError: if no matrix matches, or a value cannot leave its scan.
    """
    chosen = _matching(params, pattern)
    found = calibration.observe(
        run,
        params,
        lambda leaf, x: x.reshape(-1, x.shape[-1]),
        lambda path, leaf: path in chosen,
    )
    return {path: jnp.concatenate(calls) for path, calls in found.items()}


def convert(params: Any, seen: Mapping[str, jax.Array], **how: Any) -> Any:
    """A network with `Quantized` matrices.

    Args:
        params: as for `inputs`.
        seen: from `inputs`: which matrices, and what they are calibrated with.
        **how: `bits`, `method` and `search` of `quantize.search.linear`.

    Returns:
        `params` with leaves in place of these matrices.

    Raises:
        UsageError: as `search.linear`, with the name of the layer.
    """

    def one(path: str, leaf: Any) -> Any:
        if path not in seen:
            return leaf
        try:
            return Quantized(search.linear(seen[path], leaf, **how))
        except checks.UsageError as error:
            raise checks.UsageError(f"{path}: {error}") from None

    return map_named(one, params, is_leaf=is_weight)


def _matching(params: Any, pattern: str) -> set[str]:
    """Paths of the matrices that a pattern names."""
    paths: list[str] = []

    def note(path: str, leaf: Any) -> None:
        if jnp.ndim(leaf) == 2:
            paths.append(path)

    map_named(note, params)
    found = {path for path in paths if re.search(pattern, path)}
    if not found:
        raise checks.UsageError(
            f"the pattern {pattern!r} names no matrix; there are:"
            f" {', '.join(paths) or 'none'}."
        )
    return found
