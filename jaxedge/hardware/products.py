"""The two products of JAX, on hardware.

Each function takes an equation of a jaxpr whose operand `side` (0 or 1) is a
parameter, and how that lies; it returns how its matrices lie, and a function
of the other operand, a leaf and a read key that gives the result.
"""

from collections.abc import Callable
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.hardware.convolution import Window, convolve
from jaxedge.hardware.mounts import Mount
from jaxedge.hardware.weights import Weight, multiply

Run = Callable[[jax.Array, Weight, jax.Array | None], jax.Array]


def product(eqn: Any, side: int, mount: Mount) -> tuple[Mount, Run] | None:
    """A product by a parameter; None where no array can compute it."""
    if eqn.primitive.name == "dot_general":
        return _dot(eqn, side, mount)
    if eqn.primitive.name == "conv_general_dilated":
        return _conv(eqn, side, mount)
    return None


def _dot(eqn: Any, side: int, mount: Mount) -> tuple[Mount, Run]:
    contract, batch = eqn.params["dimension_numbers"]
    w_shape = eqn.invars[side].aval.shape
    x_shape = eqn.invars[1 - side].aval.shape
    w_free = _others(w_shape, contract[side], batch[side])
    x_free = _others(x_shape, contract[1 - side], batch[1 - side])
    fan = math.prod(w_shape[i] for i in contract[side])
    outs = math.prod(w_shape[i] for i in w_free)
    groups = [w_shape[i] for i in batch[side]]

    mount = mount.transpose(*batch[side], *contract[side], *w_free)
    if groups:
        mount = mount.reshape(math.prod(groups), fan, outs).each()
    else:
        mount = mount.reshape(fan, outs)
    order = (*batch[1 - side], *x_free, *contract[1 - side])
    rows = [x_shape[i] for i in x_free]
    columns = [w_shape[i] for i in w_free]
    out = eqn.outvars[0].aval

    def matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
        return jax.lax.dot_general(
            x,
            matrix.astype(x.dtype),
            (((x.ndim - 1,), (0,)), ((), ())),
            precision=eqn.params["precision"],
            preferred_element_type=jnp.promote_types(x.dtype, out.dtype),
        )

    def run(x: jax.Array, w: Weight, key: jax.Array | None) -> jax.Array:
        x = _floating(x, out.dtype).transpose(order)
        if groups:
            y = _each(x.reshape(-1, *rows, fan), w, matmul, key)
        else:
            y = multiply(x.reshape(*rows, fan), w, matmul, key)
        y = y.reshape(*groups, *rows, *columns)
        if side == 0:
            places = range(len(groups), len(groups) + len(rows))
            y = jnp.moveaxis(y, tuple(places), tuple(range(-len(rows), 0)))
        return y.astype(out.dtype)

    return mount, run


def _each(
    x: jax.Array, w: Weight, matmul: Callable, key: jax.Array | None
) -> jax.Array:
    """Products of a stack of arrays, each with its own inputs and stream."""

    def one(x: jax.Array, w: Weight, place: jax.Array) -> jax.Array:
        own = None if key is None else jax.random.fold_in(key, place)
        return multiply(x, w, matmul, own)

    return jax.vmap(one)(x, w, jnp.arange(x.shape[0]))


def _conv(eqn: Any, side: int, mount: Mount) -> tuple[Mount, Run] | None:
    params = eqn.params
    if side == 0 or params["batch_group_count"] != 1:
        return None
    numbers = params["dimension_numbers"]
    out_axis, in_axis, *places = numbers.rhs_spec
    shape = eqn.invars[1].aval.shape
    sizes = tuple(shape[i] for i in places)
    mount = mount.transpose(*places, in_axis, out_axis)
    mount = mount.reshape(math.prod(sizes) * shape[in_axis], shape[out_axis])
    window = Window(
        sizes,
        tuple(params["window_strides"]),
        tuple(params["padding"]),
        tuple(params["rhs_dilation"]),
        tuple(params["lhs_dilation"]),
        params["feature_group_count"],
    )
    batch, feature, *axes = numbers.lhs_spec
    # Where the axes [B, *S, O] go, and from it which comes first.
    goal = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    order = sorted(range(len(goal)), key=goal.__getitem__)
    out = eqn.outvars[0].aval

    def run(x: jax.Array, w: Weight, key: jax.Array | None) -> jax.Array:
        x = _floating(x, out.dtype).transpose(batch, *axes, feature)
        y = convolve(x, w, window, key, params["precision"])
        return y.transpose(order).astype(out.dtype)

    return mount, run


def _others(shape: tuple[int, ...], *taken: tuple[int, ...]) -> list[int]:
    """Axes that are neither contracted nor batched."""
    return [i for i in range(len(shape)) if not any(i in t for t in taken)]


def _floating(x: jax.Array, dtype: Any) -> jax.Array:
    """One-hot inputs may be whole numbers."""
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(dtype)
