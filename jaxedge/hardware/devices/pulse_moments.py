"""Mean and variance of a cell after many pulses in random order."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class Trains(NamedTuple):
    """Pulses that cells are given; all of the cells' shape.

    Attributes:
        ups: upward pulses.
        downs: downward pulses.
        up: upward step where f is 1, in weights.
        down: downward step, likewise.
    """

    ups: jax.Array
    downs: jax.Array
    up: jax.Array
    down: jax.Array


def moments(
    responses: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    w: jax.Array,
    trains: Trains,
    std: ArrayLike,
    *,
    relative: bool,
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of what `w` becomes, without bounds.

    With r_up = -ups log(1 - up c), c = -f_up'(w), and r_down likewise, w
    decays by exp(-rate), rate = r_up + r_down, to where both directions
    balance: the product of all steps' factors, whatever their order. A law
    that is not linear counts by its tangent at `w`.

    Args:
        responses: w -> (f_up, f_down).
        w: start, in weights.
        trains: the pulses.
        std: of one pulse, relative to its step.
        relative: whether that spread scales with f.
    """
    ups, downs, up, down = trains
    (f_up, f_down), (c_up, c_down) = jax.jvp(
        responses, (w,), (jnp.ones_like(w),)
    )
    many_up = ups * up * _discrete(-up * c_up)
    many_down = downs * down * _discrete(down * c_down)
    rate = many_down * c_down - many_up * c_up
    drift = (many_up * f_up - many_down * f_down) * _decayed(rate)
    own = _own_variance(responses, w, drift, rate, trains, relative)
    order = _order_variance(responses, w, drift, rate, trains)
    return w + drift, jnp.asarray(std) ** 2 * own + order


def _own_variance(
    responses: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    w: jax.Array,
    drift: jax.Array,
    rate: jax.Array,
    trains: Trains,
    relative: bool,
) -> jax.Array:
    """Of the pulses' own spread, for a std of 1.

    int_0^1 f(t)^2 exp(-2 rate (1 - t)) dt for each direction, where f(t) =
    a + b exp(-rate t) on the way.
    """
    once, twice, left = _decayed(rate), _decayed(2 * rate), jnp.exp(-rate)
    curved = rate > 1e-3
    total = jnp.where(curved, 1 - left, 1)

    def one(n: jax.Array, step: jax.Array, start: jax.Array, end: jax.Array):
        if not relative:
            return n * step**2 * twice
        a = jnp.where(curved, start + (end - start) / total, end)
        b = start - a
        power = a**2 * twice + 2 * a * b * left * once + (b * left) ** 2
        return n * step**2 * power

    starts, ends = responses(w), responses(w + drift)
    return one(trains.ups, trains.up, starts[0], ends[0]) + one(
        trains.downs, trains.down, starts[1], ends[1]
    )


def _order_variance(
    responses: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    w: jax.Array,
    drift: jax.Array,
    rate: jax.Array,
    trains: Trains,
) -> jax.Array:
    """Of the order: a late pulse has decayed less than an early one."""
    ups, downs, up, down = trains
    f_up, f_down = responses(w + drift / 2)
    mixed = ups * downs / jnp.maximum(ups + downs, 1)
    spread = _decayed(2 * rate) - _decayed(rate) ** 2
    return mixed * (up * f_up + down * f_down) ** 2 * spread


def _discrete(z: jax.Array) -> jax.Array:
    """-log(1 - z) / z: how much faster whole steps decay than their rate."""
    z = jnp.clip(z, None, 1 - 1e-6)  # One step that passes the bound.
    small = jnp.abs(z) < 1e-4
    safe = jnp.where(small, 1e-4, z)
    return jnp.where(small, 1 + z / 2, -jnp.log1p(-safe) / safe)


def _decayed(rate: jax.Array) -> jax.Array:
    """(1 - exp(-rate)) / rate."""
    small = jnp.abs(rate) < 1e-4
    safe = jnp.where(small, 1, rate)
    return jnp.where(small, 1 - rate / 2, -jnp.expm1(-safe) / safe)
