"""IR drop in closed form: what wires leave of every cell, approximately.

To first order in the resistance of the wires a cell loses the share

    u = r_word sum_k m(c, k) G_rk + r_bit sum_k n(r, k) G_kc

of its current, where m and n count the segments that two cells share on their
way to the driver and to the ground. The matrix T that an array multiplies by is
then about G (1 - u); G / (1 + u) has the same first order and, unlike it, stays
positive in long lines. Sums over segments are running sums: the cost is that of
reading the array. `wires` has the exact solution, `error` the distance to it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.hardware import wires


class Trims(NamedTuple):
    """Factors of the drop along word and bit lines; 1 is first order."""

    word: ArrayLike = 1.0
    bit: ArrayLike = 1.0


def approximate(
    conductance: jax.Array,
    *,
    r_word: ArrayLike,
    r_bit: ArrayLike,
    trims: Trims = Trims(),  # noqa: B008 - frozen
    below: ArrayLike = 0,
) -> jax.Array:
    """The matrix that an array with its wires multiplies by, approximately.

    On the arrays of device_physics 4.1 (half of the cells formed, half of the
    rows on) currents are within 1.2 % of their spread of the exact ones at
    128 x 128 and 1 ohm, where ideal wires are 122 % off, and within 9.4 % at
    256 x 256 (`scripts/bench/wires.py --drop`).

    Args:
        conductance: of the cells, S, [..., R, C]: drivers at the left ends of
            the rows, grounds at the bottom ends of the columns. Rows that are
            gated off are rows of zeros.
        r_word: resistance of one segment of a word line, ohm, at least 0.
        r_bit: of one segment of a bit line.
        trims: from `calibrate`.
        below: segments of bit line below the last row, beyond the first,
            number or [..., 1, 1].

    Returns:
        Siemens, [..., R, C]: current = voltage @ this.

    Raises:
        UsageError: for a negative resistance or conductance.
    """
    return conductance * kept(
        conductance, r_word=r_word, r_bit=r_bit, trims=trims, below=below
    )


def kept(
    conductance: jax.Array,
    *,
    r_word: ArrayLike,
    r_bit: ArrayLike,
    trims: Trims = Trims(),  # noqa: B008 - frozen
    below: ArrayLike = 0,
) -> jax.Array:
    """The share 1 / (1 + u) of its current that each cell keeps, [..., R, C].

    Arguments and errors as for `approximate`.
    """
    checks.in_range("conductance", conductance, 0)
    checks.in_range("r_word", r_word, 0)
    checks.in_range("r_bit", r_bit, 0)
    word = r_word * trims.word * _shared(conductance, -1)
    upward = jnp.flip(conductance, -2)
    bit = _shared(upward, -2) + below * jnp.sum(upward, -2, keepdims=True)
    bit = r_bit * trims.bit * jnp.flip(bit, -2)
    return jnp.reciprocal(1 + word + bit)


def _shared(g: jax.Array, axis: int) -> jax.Array:
    """sum_k (1 + min(i, k)) g_k along an axis."""
    return jnp.cumsum(jax.lax.cumsum(g, g.ndim + axis, reverse=True), axis)


def solved(lines: jax.Array, ohm: Any, below: Sequence[int]) -> jax.Array:
    """What `kept` approximates, of arrays [N, U, R, C], by `wires.iterate`.

    Args:
        lines: conductances, S; U may be another `below` each.
        ohm: resistance of a segment of word and bit line.
        below: segments below the last row, beyond the first, [U].
    """

    def one(g: jax.Array, rows: int) -> jax.Array:
        array = jnp.pad(g, ((0, rows), (0, 0)))  # Other rows are gated off.
        drive = jnp.eye(len(g), len(array))
        found = wires.iterate(array, drive, r_word=ohm, r_bit=ohm).current
        return jnp.where(g > 0, found / jnp.where(g > 0, g, 1), 1)

    return jnp.stack(
        [
            jnp.stack([one(g, n) for g, n in zip(array, below, strict=True)])
            for array in lines
        ]
    )


def calibrate(
    conductances: Sequence[Any],
    *,
    r_word: float,
    r_bit: float,
    voltages: Any | None = None,
) -> Trims:
    """Trims that bring the approximation closest to the exact currents.

    Least squares of the currents over sample arrays, on the host.

    Args:
        conductances: arrays as they will come, S, [R, C] each.
        r_word: resistance of one segment of a word line, ohm, above 0.
        r_bit: of one segment of a bit line.
        voltages: inputs as they will come, V, [B, R]; without them 64 binary
            vectors, half of the rows on.

    Returns:
        Trims; on arrays like the samples they take about a quarter off the
        error of long lines, on others they may not.

    Raises:
        UsageError: for no arrays, or what `wires.solve` refuses.
    """
    # Only host code needs scipy, and this room loads without it.
    from scipy import optimize

    if not len(conductances):
        raise checks.UsageError(
            "calibrate got no arrays; program a few chips and give their"
            " conductances."
        )
    pairs = [
        (np.asarray(g, np.float64), _inputs(g, voltages)) for g in conductances
    ]
    exact = [wires.solve(g, v, r_word=r_word, r_bit=r_bit) for g, v in pairs]

    def residual(trims):
        word, bit = trims
        parts = [
            v @ _host(g, r_word * word, r_bit * bit) - y
            for (g, v), y in zip(pairs, exact, strict=True)
        ]
        return np.concatenate([part.ravel() for part in parts]) / size

    size = np.std(exact[0])
    found = optimize.least_squares(residual, (1.0, 1.0), bounds=(0, np.inf))
    return Trims(*(float(x) for x in found.x))


def error(
    conductance: Any,
    *,
    r_word: float,
    r_bit: float,
    trims: Trims = Trims(),  # noqa: B008 - frozen
    voltages: Any | None = None,
) -> float:
    """Distance of the approximation to the exact currents.

    Returns:
        Root mean square of the difference, relative to the standard deviation
        of the exact currents (the residual of device_physics 4.1). Arguments
        as in `calibrate`, for one array.
    """
    g = np.asarray(conductance, np.float64)
    v = _inputs(g, voltages)
    exact = wires.solve(g, v, r_word=r_word, r_bit=r_bit)
    near = v @ _host(g, r_word * trims.word, r_bit * trims.bit)
    return float(np.sqrt(np.mean((near - exact) ** 2)) / np.std(exact))


def _inputs(g: Any, voltages: Any | None) -> np.ndarray:
    if voltages is None:
        rng = np.random.default_rng(0)
        return (rng.random((64, np.shape(g)[0])) < 0.5).astype(np.float64)
    return np.asarray(voltages, np.float64)


def _host(g: np.ndarray, word: Any, bit: Any) -> np.ndarray:
    """`approximate` in numpy and float64."""

    def shared(g):
        return np.cumsum(np.cumsum(g[:, ::-1], 1)[:, ::-1], 1)

    down = shared(g.T[:, ::-1])[:, ::-1].T
    return g / (1 + word * shared(g) + bit * down)
