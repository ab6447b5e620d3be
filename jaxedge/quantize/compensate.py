"""Rounding that makes up for its own errors: GPTQ, arXiv:2210.17323.

Weights are rounded input by input; those of the inputs that are left move so
that the outputs stay what they were, as far as the inputs go together.

Letters: I inputs, O outputs, n inputs whose weights share a scale.
"""

import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxedge.core import checks

# Share of the mean power of the inputs that is added to each (the authors'
# code). With few calibration vectors more is better.
DAMP = 0.01


class Grid(Protocol):
    """Where weights may lie. Hashable, as it is part of the program."""

    def choose(
        self, given: Any, parts: jax.Array, importance: jax.Array
    ) -> Any:
        """The scale of weights [O, n], a pytree with a first axis [O].

        Args:
            given: what `rounding` was given.
            parts: the weights.
            importance: of each input, [n]: the error of the outputs that a unit
                of error leaves once the others have made up for it.
        """
        ...

    def round(self, given: Any, w: jax.Array, scale: Any) -> jax.Array:
        """Weights of one input, [O], by these scales."""
        ...


def rounding(
    w: jax.Array,
    gram: jax.Array,
    grid: Grid,
    size: int,
    given: Any = None,
    damp: float | jax.Array = DAMP,
) -> tuple[jax.Array, Any]:
    """Rounds weights, each to the benefit of the outputs.

    Args:
        w: weights, [I, O].
        gram: X^T X of the inputs, [I, I].
        grid: where they may lie.
        size: n; the last group may be short.
        given: what the grid needs beside, arrays.
        damp: share of the mean of the diagonal that is added to it.

    Returns:
        Values [I, O], and scales [ceil(I / n), O, ...].

    Raises:
        UsageError: for a bad `damp` or size, shapes that do not fit, or inputs
            that go together too closely for the damping.
    """
    checks.in_range("damp", damp, 0, open_low=True)
    checks.whole("size", size, 1)
    if w.ndim != 2 or gram.shape != (len(w), len(w)):
        raise checks.UsageError(
            f"w {w.shape} and gram {gram.shape} must be [I, O] and [I, I]."
        )
    values, scales = _rounding(w, gram, grid, size, given, damp)
    if checks.concrete(values) and not jnp.all(jnp.isfinite(values)):
        raise checks.UsageError(
            f"with damp = {damp} the inputs go together too closely for the"
            f" precision of float32; {DAMP} is usual."
        )
    return values, scales


@functools.partial(jax.jit, static_argnames=("grid", "size"))
def _rounding(
    w: jax.Array,
    gram: jax.Array,
    grid: Grid,
    size: int,
    given: Any,
    damp: float | jax.Array,
) -> tuple[jax.Array, Any]:
    inputs = w.shape[0]
    groups = -(-inputs // size)
    fill = groups * size - inputs
    diagonal = jnp.diagonal(gram)
    load = damp * _mean(diagonal)
    gram = gram + load * jnp.eye(inputs, dtype=gram.dtype)
    # Upper U with U^T U the inverse: what is left to do is triangular.
    upper = _inverse_root(gram)
    # An input that is filled in has no weight and hurts no other.
    upper = jnp.pad(upper, [(0, fill)] * 2)
    pad = jnp.arange(inputs + fill) >= inputs
    upper = upper + jnp.diag(pad.astype(upper.dtype))
    rest = jnp.pad(w, [(0, fill), (0, 0)])

    def group(rest: jax.Array, at: jax.Array) -> tuple[jax.Array, Any]:
        block = jax.lax.dynamic_slice_in_dim(rest, at, size)
        u = jax.lax.dynamic_slice_in_dim(upper, at, size)
        inner = jax.lax.dynamic_slice_in_dim(u, at, size, 1)
        importance = 1 / jnp.diagonal(inner) ** 2
        scale = grid.choose(given, block.T, importance)

        def one(block: jax.Array, i: jax.Array) -> tuple[jax.Array, Any]:
            value = grid.round(given, block[i], scale)
            off = (block[i] - value) / inner[i, i]
            # Rows before i are done: U is zero there.
            block = block - inner[i][:, None] * off[None]
            return block, (value, off)

        _, (values, off) = jax.lax.scan(one, block, jnp.arange(size))
        return rest - u.T @ off, (values, scale)

    _, (values, found) = jax.lax.scan(group, rest, size * jnp.arange(groups))
    return values.reshape(-1, w.shape[1])[:inputs], found


def _mean(diagonal: jax.Array) -> jax.Array:
    """Mean power; 1 if there is none."""
    mean = diagonal.mean()
    return jnp.where(mean > 0, mean, 1)


def _inverse_root(gram: jax.Array) -> jax.Array:
    """Upper U with U^T U = gram^-1."""
    # The Cholesky factor of the matrix from its other end, inverted: no
    # inverse is formed.
    turned = jnp.linalg.cholesky(gram[::-1, ::-1])[::-1, ::-1]
    eye = jnp.eye(len(gram), dtype=gram.dtype)
    return jax.scipy.linalg.solve_triangular(turned, eye, lower=False)
