"""Products with arrays whose cells are read anew for every vector."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.hardware import sampling
from jaxedge.hardware.weights import Product, matmul


class Seen(NamedTuple):
    """A matrix as one call reads it.

    Attributes:
        matrices: of every term of the I-V law, S, [..., R, O]; that of linear
            cells is G+ - G-.
        variance: of one read of G+ - G-, S^2, same shape; None without noise.
    """

    matrices: tuple[jax.Array, ...]
    variance: jax.Array | None


def noisy_product(
    drives: tuple[jax.Array, ...],
    array: Seen,
    product: Product,
    key: jax.Array | None,
) -> jax.Array:
    """A product whose cells are read anew for every vector.

    Independent Gaussian noise on every cell adds N(0, sum_i x_i^2 var_ij) to
    an output: exact in distribution, without a draw a cell (D.3).
    """
    pairs = zip(drives, array.matrices, strict=True)
    y = functools.reduce(jnp.add, [product(x, m) for x, m in pairs])
    if array.variance is None or key is None:
        return y
    # Noise of a cell is one of its whole current.
    power = product(jnp.square(sum(drives)), array.variance)
    # sqrt has no slope at 0, where no input is lit.
    std = jnp.sqrt(jnp.maximum(power, jnp.finfo(y.dtype).tiny))
    noisy = jnp.any(array.variance > 0)
    return y + std * sampling.draw_if(
        noisy, sampling.to_normal, key, y.shape, y.dtype
    )


# So many products one after the other beat a batched one on CPU.
_FEW = 8


def tile_matmul(x: jax.Array, tiles: jax.Array) -> jax.Array:
    """[..., U, R] times [U, R, O] to [..., U, O]."""
    if len(tiles) <= _FEW:
        parts = [matmul(x[..., u, :], tile) for u, tile in enumerate(tiles)]
        return jnp.stack(parts, -2)
    return jnp.einsum("...tr,tro->...to", x, tiles.astype(x.dtype))
