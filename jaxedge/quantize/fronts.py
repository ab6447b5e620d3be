"""What is done to a layer's inputs so that they are easier to quantise.

Channels are divided by factors, by which the weights are multiplied
(SmoothQuant, arXiv:2211.10438; AWQ, arXiv:2306.00978), or mixed by a rotation
that the weights undo (QuaRot, arXiv:2404.00456).

Letters: B calibration vectors, I inputs, O outputs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks

# Share of the inputs' range that SmoothQuant moves into the weights.
STRENGTH = 0.5
# Exponents that AWQ tries: 20 from 0 on.
_POWERS = np.arange(20) / 20
# Rotations are made of factors of at most so many entries.
_FACTOR = 64


def prepare(x: jax.Array, factor: jax.Array | None, turn: int) -> jax.Array:
    """Inputs [..., I] divided by factors [I], then rotated."""
    if factor is not None:
        x = x / factor.reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype)
    return rotate(x, turn)


def smooth(x: jax.Array, w: jax.Array, strength: float = STRENGTH) -> jax.Array:
    """SmoothQuant's factors (eq. 4), [I].

    max|x|^strength / max|w|^(1 - strength), channel by channel; 1 where either
    is zero.

    Args:
        x: calibration vectors, [B, I].
        w: weights, [I, O].
        strength: from 0, all range to the inputs, to 1, all to the weights.
    """
    checks.in_range("strength", strength, 0, 1)
    of_x, of_w = jnp.abs(x).max(0), jnp.abs(w).max(1)
    live = (of_x > 0) & (of_w > 0)
    of_x, of_w = (jnp.where(live, size, 1) for size in (of_x, of_w))
    return of_x**strength / of_w ** (1 - strength)


def aware(
    x: jax.Array,
    w: jax.Array,
    rounded: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """AWQ's factors: a power of the inputs' mean size, [I].

    Of the exponents 0, 1/20, ..., 19/20 that with the least error of the
    outputs; factors are divided by the geometric mean of their extremes, as in
    the authors' code.

    Args:
        x: calibration vectors, [B, I].
        w: weights, [I, O].
        rounded: the weights as they will be quantised.
    """
    size = jnp.abs(x).mean(0)
    mean = size.mean()
    # Of a channel of zeros that of the mean.
    size = jnp.where(size > 0, size / jnp.where(mean > 0, mean, 1), 1)
    gram = x.T @ x

    def factors(power: jax.Array) -> jax.Array:
        s = jnp.maximum(size**power, 1e-4)
        return s / jnp.sqrt(s.max() * s.min())

    def error(power: jax.Array) -> jax.Array:
        s = factors(power)[:, None]
        off = rounded(w * s) / s - w
        return jnp.sum(off * (gram @ off))

    powers = jnp.asarray(_POWERS, jnp.float32)
    return factors(powers[jnp.argmin(jax.lax.map(error, powers))])


def rotation_size(inputs: int) -> int:
    """The largest power of two that divides a number of inputs.

    An odd number is not rotated at all.
    """
    return inputs & -inputs


def rotate(x: jax.Array, size: int) -> jax.Array:
    """Multiplies groups of entries of the last axis by a Hadamard matrix.

    The matrix is symmetric and orthogonal: twice is nothing.

    Args:
        x: [..., I].
        size: of a group, a power of two that divides I.
    """
    if size == 1:
        return x
    shape, dtype = x.shape, x.dtype
    # 1 / sqrt(2) in bfloat16 would make every rotation shorter.
    x = x.astype(jnp.float32).reshape(-1, size)
    left = size
    while left > 1:
        part = min(left, _FACTOR)
        left //= part
        h = jnp.asarray(_hadamard(part) / np.sqrt(part), jnp.float32)
        # One factor of the Kronecker product, then the next comes to the end.
        x = x.reshape(-1, size // part, part) @ h
        x = jnp.swapaxes(x, 1, 2)
    return x.reshape(shape).astype(dtype)


def _hadamard(size: int) -> np.ndarray:
    """Entries of plus and minus one: the parity of i & j (Sylvester)."""
    i = np.arange(size)
    return 1.0 - 2.0 * (np.bitwise_count(i[:, None] & i) % 2)
