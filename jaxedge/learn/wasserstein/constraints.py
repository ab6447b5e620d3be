"""Bounds on the weights of a critic, which bound its slopes.

Letters: O outputs, a kernel's last axis; R = all its other axes as one. A
kernel is the matrix W [O, R] that makes outputs of patches (Miyato,
arXiv:1802.05957); its largest singular value is sigma, with the singular
vectors u [O] and v [R].
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.wasserstein import inputs


def clip(params: Any, bound: ArrayLike) -> Any:
    """Every weight into [-bound, bound] (Arjovsky, arXiv:1701.07875).

    Args:
        params: a pytree of arrays, weights of ideal hardware; what is not
            floating point stays.
        bound: a positive number; .01 in the paper.

    Returns:
        Same structure, shapes and types.

    Raises:
        UsageError: for a bound that is not positive, or weights that are not
            finite.
    """
    inputs.scalar("bound", bound, open_low=True)

    def one(path, leaf):
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        checks.finite(f"params{jax.tree_util.keystr(path)}", leaf)
        most = jnp.asarray(bound, leaf.dtype)
        return jnp.clip(leaf, -most, most)

    return jax.tree_util.tree_map_with_path(one, params)


def power_start(key: jax.Array, w: ArrayLike) -> jax.Array:
    """A first u for the kernel w: a random direction.

    Args:
        key: a typed key, shape []; consumed.
        w: [..., O].

    Returns:
        [O], of length 1, at least float32.

    Raises:
        UsageError: for a kernel that is no array of finite real numbers.
    """
    inputs.one_key(key)
    w_RxO = _matrix(w)
    draw = jax.random.normal(key, w_RxO.shape[1:], w_RxO.dtype)
    return _unit(draw, jnp.ones_like(draw).at[1:].set(0))


def power_iteration(
    w: ArrayLike, u: ArrayLike, steps: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Brings u and v nearer to the first singular vectors of the kernel w.

    v = W^T u / |W^T u|, then u = W v / |W v| (Miyato, arXiv:1802.05957,
    algorithm 1). Neither has a gradient. An update of weights moves them
    little, so one step of this for each is enough: carry u on. A kernel of
    zeros leaves u as it is, and has v = 0.

    Args:
        w: [..., O], any rank from 1.
        u: [O], of `power_start` or of the step before; not 0.
        steps: at least 0, a Python number; 0 finds v and keeps u, as when a
            trained critic is evaluated.

    Returns:
        u [O] and v [R], of length 1, at least float32; v is along the kernel's
        axes but the last, in their order.

    Raises:
        UsageError: for numbers that are not finite, u of another shape or 0,
            or steps that are no whole number.
    """
    given, w_RxO, u = u, _matrix(w), inputs.points("u", u, "O")
    checks.whole("steps", steps)
    if u.shape != w_RxO.shape[1:]:
        raise checks.UsageError(
            f"u has shape {u.shape}, but must be {w_RxO.shape[1:]}, one number"
            " an output of the kernel; power_start makes one."
        )
    known = inputs.known("u", given)
    if checks.concrete(known) and not np.asarray(known).any():
        raise checks.UsageError(
            "u is 0 and would stay so; begin with power_start."
        )
    constant = jax.lax.stop_gradient((w_RxO, u.astype(w_RxO.dtype)))
    return _iterate(*constant, int(steps))


def spectral_norm(
    w: ArrayLike, u: ArrayLike, steps: int = 1
) -> tuple[jax.Array, jax.Array]:
    """w / sigma with sigma = u^T W v, and the u to carry on.

    The gradient of sigma is u v^T (Miyato, arXiv:1802.05957). u and v are those
    after `steps` of `power_iteration`, so sigma is at most the norm, and equals
    it once they have converged. The norm of a convolution as a whole, of
    patches that overlap, is another number.

    Args:
        w: [..., O], any rank from 1, floating point.
        u: [O], of `power_start` or of the step before; not 0.
        steps: at least 0, a Python number.

    Returns:
        w / sigma, shape and type of w, a kernel of zeros as it is; and u [O],
        at least float32.

    Raises:
        UsageError: as `power_iteration`.
    """
    u, v = power_iteration(w, u, steps)
    w_RxO = _matrix(w)
    sigma = _times(_times(v, w_RxO), u)
    some = sigma > 0
    scaled = w_RxO / jnp.where(some, sigma, 1)
    dtype = jnp.result_type(w)
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else scaled.dtype
    return scaled.reshape(jnp.shape(w)).astype(dtype), u


@functools.partial(jax.jit, static_argnames="steps")
def _iterate(
    w_RxO: jax.Array, u: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array]:
    none = jnp.zeros(w_RxO.shape[:1], w_RxO.dtype)
    u = _unit(u, u)

    def across(u):
        return _unit(_times(w_RxO, u), none)

    def step(_, state):
        u, _ = state
        v = across(u)
        return _unit(_times(v, w_RxO), u), v

    return jax.lax.fori_loop(0, steps, step, (u, none if steps else across(u)))


def _unit(x: jax.Array, otherwise: jax.Array) -> jax.Array:
    """x of length 1, or what to take where x is 0."""
    top = jnp.max(jnp.abs(x))
    some = top > 0
    # Squares of small numbers would be 0.
    x = x / jnp.where(some, top, 1)
    return jnp.where(
        some, x / jnp.where(some, jnp.linalg.norm(x), 1), otherwise
    )


def _matrix(w: ArrayLike) -> jax.Array:
    """W^T [R, O], at least float32."""
    shape = jnp.shape(w)
    if not shape:
        raise checks.UsageError("w is one number, but must be [..., O].")
    w = inputs.points("w", w, "R" * (len(shape) - 1) + "O")
    return w.reshape(-1, shape[-1])


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
