"""Outer products by stochastic pulse trains.

Every row and every column of an array sends a random train of pulses; a cell
moves by one step wherever two meet. In the mean that is an outer product, at
one operation for the whole array (Gokmen & Vlasov, Front. Neurosci. 10:333
(2016), section "Stochastic update rule").

Letters: B vectors, I inputs, O outputs, L slots of a train.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.hardware import sampling
from jaxedge.hardware.devices.pulsed import Cells, Pulsed


class Trains(NamedTuple):
    """How pulse trains are made.

    Attributes:
        slots: longest train, L.
        managed: whether each pair of vectors gets trains no longer than it
            needs, and both sides fire equally often (aihwkit's update and
            length management); without it every train has L slots and
            probabilities are sqrt(rate / (L step)) times the vectors.
    """

    slots: int = 31
    managed: bool = True


_TRAINS = Trains()


class Meetings(NamedTuple):
    """Pulses that each cell is to get, int32 [..., I, O].

    Attributes:
        ups: where the product of the signs is positive.
        downs: where it is negative.
    """

    ups: jax.Array
    downs: jax.Array


def meetings(
    key: jax.Array,
    x_BxI: jax.Array,
    d_BxO: jax.Array,
    rate: ArrayLike,
    step: ArrayLike,
    trains: Trains = _TRAINS,
) -> Meetings:
    """Where pulses meet, summed over the vectors.

    E[ups - downs] = rate / step sum_b x_b d_b^T, where no probability
    exceeds 1: with management as long as rate max|x| max|d| <= L step; beyond
    that the largest entries of d are cut off.

    Args:
        key: consumed.
        x_BxI: what the rows send.
        d_BxO: what the columns send.
        rate: learning rate, at least 0.
        step: of a pulse, in weights: the device's `granularity`.
        trains: how pulse trains are made.

    Returns:
        Counts [I, O].

    Raises:
        UsageError: for vectors that do not belong together, or bad numbers.
    """
    _check(x_BxI, d_BxO, rate, step, trains)
    rows, columns = _fire(key, x_BxI, d_BxO, rate, step, trains)
    # Of two signed trains the product sums to ups - downs, and of two
    # unsigned ones to ups + downs: small whole numbers, exact in float32.
    flat = lambda a: a.reshape(-1, a.shape[-1])  # noqa: E731
    rows, columns = flat(rows), flat(columns)
    exact = jax.lax.Precision.HIGHEST
    net = jnp.matmul(rows.T, columns, precision=exact)
    both = jnp.matmul(jnp.abs(rows.T), jnp.abs(columns), precision=exact)
    ups = jnp.round((both + net) / 2).astype(jnp.int32)
    return Meetings(ups, jnp.round(both).astype(jnp.int32) - ups)


def outer(
    key: jax.Array,
    device: Pulsed,
    cells: Cells,
    x_BxI: jax.Array,
    d_BxO: jax.Array,
    rate: ArrayLike,
    *,
    trains: Trains = _TRAINS,
    exact: bool = False,
) -> Cells:
    """Adds rate sum_b x_b d_b^T to cells [I, O], in the mean, by pulses.

    Args:
        key: consumed.
        device: of the cells.
        cells: [I, O].
        x_BxI: what the rows send.
        d_BxO: what the columns send.
        rate: learning rate, at least 0.
        trains: how pulse trains are made.
        exact: whether vectors and pulses follow one another as on hardware,
            one step at a time, or all at once as in `pulse_many`, which says
            what that costs.
    """
    if cells.w.shape != (x_BxI.shape[-1], d_BxO.shape[-1]):
        raise checks.UsageError(
            f"an outer product of {x_BxI.shape[-1]} inputs and"
            f" {d_BxO.shape[-1]} outputs does not fit cells of shape"
            f" {cells.w.shape}."
        )
    step = device.granularity
    if not exact:
        ups, downs = meetings(
            stream(key, "trains"), x_BxI, d_BxO, rate, step, trains
        )
        return device.pulse_many(stream(key, "steps"), cells, ups, downs)

    def one(cells: Cells, vector: tuple[jax.Array, ...]):
        b, x, d = vector
        met = meetings(
            stream(key, "trains", b), x[None], d[None], rate, step, trains
        )
        steps = stream(key, "steps", b)
        # One pair of vectors moves a cell in one direction only.
        return device.pulse(steps, cells, met.ups - met.downs), None

    order = jnp.arange(x_BxI.shape[0])
    return jax.lax.scan(one, cells, (order, x_BxI, d_BxO))[0]


def _fire(
    key: jax.Array,
    x_BxI: jax.Array,
    d_BxO: jax.Array,
    rate: ArrayLike,
    step: ArrayLike,
    trains: Trains,
) -> tuple[jax.Array, jax.Array]:
    """Signed trains of the rows [B, L, I] and the columns [B, L, O]."""
    L = trains.slots
    x, d = jnp.abs(x_BxI), jnp.abs(d_BxO)
    steps = jnp.divide(rate, step)  # pulses for a product of one
    if trains.managed:
        x_max = jnp.max(x, -1, keepdims=True)
        d_max = jnp.max(d, -1, keepdims=True)
        wanted = steps * x_max * d_max
        length = jnp.clip(jnp.ceil(wanted), 1, L)
        # Where L slots are too few, x keeps its probabilities and d is cut.
        d_max = d_max * jnp.minimum(1, L / jnp.maximum(wanted, L))
        lit = (x_max > 0) & (d_max > 0)
        ratio = jnp.where(lit, d_max, 1) / jnp.where(lit, x_max, 1)
        gain = jnp.sqrt(steps / length)
        p_x = jnp.where(lit, x * gain * jnp.sqrt(ratio), 0)
        p_d = jnp.where(lit, d * gain / jnp.sqrt(ratio), 0)
    else:
        length = jnp.full((x.shape[0], 1), L, jnp.float32)
        gain = jnp.sqrt(steps / L)
        p_x, p_d = x * gain, d * gain
    slot = jnp.arange(L, dtype=jnp.float32)[None, :, None]
    sent = slot < length[:, :, None]

    def train(name: str, v: jax.Array, p: jax.Array) -> jax.Array:
        shape = (v.shape[0], L, v.shape[1])
        u = sampling.uniform(stream(key, name), shape)
        return jnp.where(sent & (u < p[:, None]), jnp.sign(v)[:, None], 0)

    return train("rows", x_BxI, p_x), train("columns", d_BxO, p_d)


def _check(
    x: jax.Array,
    d: jax.Array,
    rate: ArrayLike,
    step: ArrayLike,
    trains: Trains,
) -> None:
    """Raises UsageError for vectors or numbers that cannot be."""
    if x.ndim != 2 or d.ndim != 2 or x.shape[0] != d.shape[0]:
        raise checks.UsageError(
            f"pulse trains need x [B, I] and d [B, O] of equally many vectors,"
            f" got {x.shape} and {d.shape}."
        )
    checks.in_range("rate", rate, 0)
    checks.in_range("step", step, 0, open_low=True)
    checks.whole("trains.slots", trains.slots, 1)
