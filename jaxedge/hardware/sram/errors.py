"""What a conversion is off by, in closed form.

Variances are those of the sum of one column, in units of x w squared; of the
ideal sum a converter with n steps returns the middle of its LSB (sram_cim 5.2).

Letters: B samples, N rows, M columns, n steps of a conversion.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.hardware.sram import columns
from jaxedge.hardware.sram.config import Config

# Noise of the comparator, LSB, at which its effect is tabulated.
_NOISES = np.concatenate([np.linspace(0, 1, 21), np.linspace(1.25, 8, 28)])
_POINTS = 16  # of an LSB
_MARGIN = 5  # stds of noise beyond which no decision fails


class Errors(NamedTuple):
    """Parts of the variance of a conversion, units^2, [] each.

    Attributes:
        quantisation: LSB^2 / 12.
        line: noise of the lines.
        offset: of the columns, static.
        comparator: noise of all decisions.
        branches: mismatch of the cells that multiply, static.
        steps: mismatch of the cells that convert, static.
        pulses: noise of the widths of pulses.
        clipping: sums beyond the last code, and lines at their limit.
    """

    quantisation: jax.Array
    line: jax.Array
    offset: jax.Array
    comparator: jax.Array
    branches: jax.Array
    steps: jax.Array
    pulses: jax.Array
    clipping: jax.Array

    @property
    def total(self) -> jax.Array:
        """Their sum."""
        return sum(self, start=jnp.zeros(()))


def predict(x_int: ArrayLike, w_int: ArrayLike, config: Config) -> Errors:
    """The mean square error over chips, reads, columns and samples.

    Args:
        x_int: input codes as they will come, [B, N].
        w_int: weight codes, [N, M].
        config: the design, with an embedded converter.

    Returns:
        Its parts. Those of the cells count the samples as they are, and so
        does clipping; the others depend on the LSB alone. A sample that clips
        has its other errors beside the clipping.
    """
    x = jnp.asarray(x_int, jnp.float32) - config.fold
    w = jnp.asarray(w_int, jnp.float32)
    cells = columns.draw(None, w, config)
    d, total = (
        x @ (cells.plus - cells.minus),
        jnp.abs(x) @ (cells.plus + cells.minus),
    )
    return of_sums(d, total, of_inputs(x, of_cells(w, config), config), config)


def of_sums(
    d: jax.Array,
    total: jax.Array,
    inputs: tuple[jax.Array, jax.Array],
    config: Config,
    some: int = 1,
) -> Errors:
    """The errors of sums as they come.

    Args:
        d: differences of the lines, units, [B, ..., M].
        total: what both lines lose together, units, same shape.
        inputs: from `of_inputs`.
        config: the design.
        some: every so many samples are looked at for the steps, whose mean is
            a smooth one.
    """
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    branches, pulses = inputs
    return Errors(
        quantisation=lsb**2 / 12,
        line=jnp.square(lsb * config.sigma_line),
        offset=jnp.square(lsb * config.sigma_off),
        comparator=lsb**2 * decisions(config),
        branches=branches,
        steps=of_steps(d[::some], config),
        pulses=pulses,
        clipping=jnp.mean(jnp.square(d - clipped_sum(d, total, config))),
    )


def of_inputs(
    x: jax.Array, cells: tuple[jax.Array, jax.Array], config: Config
) -> tuple[jax.Array, jax.Array]:
    """Variance by the branches that multiply and by their pulses, units^2.

    Args:
        x: folded inputs, [B, ..., N].
        cells: from `of_cells`, [..., N] each.
        config: the design.
    """
    squares, lit = cells
    mismatch = jnp.sum(jnp.mean(x**2, 0) * squares, -1)
    pulses = jnp.sum(jnp.mean(x != 0, 0, dtype=jnp.float32) * lit, -1)
    return (
        jnp.square(config.sigma_cell) * jnp.mean(mismatch),
        jnp.square(config.sigma_pulse) * jnp.mean(pulses),
    )


def of_cells(w: jax.Array, config: Config) -> tuple[jax.Array, jax.Array]:
    """Means over the columns of sum_b 4^b and of the number of lit branches.

    Args:
        w: weight codes, [..., N, M].
        config: the design.

    Returns:
        Units^2, whose mismatch has that variance, and branches, [..., N].
    """
    planes = [(a + b).mean(-1) for a, b in columns.branches(w, config)]
    squares = sum(4.0**b * plane for b, plane in enumerate(planes))
    return jnp.asarray(squares), jnp.asarray(sum(planes))


def clipped_sum(d: jax.Array, total: jax.Array, config: Config) -> jax.Array:
    """The sums that lines and codes can hold, units.

    Args:
        d: difference of the lines, units.
        total: their sum, units.
        config: the design.
    """
    swing = config.swing
    plus, minus = (total + d) / 2, (total - d) / 2
    d = jnp.minimum(plus, swing) - jnp.minimum(minus, swing)
    return jnp.clip(d, -swing, swing - 1)


def of_steps(d: jax.Array, config: Config) -> jax.Array:
    """The variance by the mismatch of the converter's cells, units^2, [].

    sigma^2 LSB^2 sum_k 4^(k-1) / cells (sram_cim 5.2), for sums far from zero.
    Nearer, the first decision is right and no later one takes it back: a code
    never gets the other sign, and errors z towards it count up to the sum's
    distance t alone, E[z^2; z < t] = P(t) - t p(t) of a normal variable.

    Args:
        d: sums as they come, units, any shape.
        config: the design.
    """
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    std = lsb * config.sigma_cell * np.float32(np.sqrt(step_power(config)))
    t = jnp.abs(d + 0.5) / jnp.where(std > 0, std, 1)
    normal = jax.scipy.stats.norm
    return jnp.square(std) * jnp.mean(normal.cdf(t) - t * normal.pdf(t))


def step_power(config: Config) -> float:
    """Sum over the steps of 4^(k-1) / cells, the variance in LSB^2 of one.

    383 for 8 steps and up to 64 cells.
    """
    sizes = 4.0 ** np.arange(config.steps)
    return float((sizes / config.cells()).sum())


def decisions(config: Config) -> jax.Array:
    """Variance that the comparator's noise adds to a sum, LSB^2, [].

    Successive approximation does not take back a wrong decision: the error is
    that of the code's whole path. From a table, linear between its entries.
    """
    sigma = jnp.asarray(config.sigma_cmp, jnp.float32)
    table = _decisions(config.steps).astype(np.float32)
    return jnp.interp(sigma, _NOISES.astype(np.float32), table)


@functools.cache
def _decisions(steps: int) -> np.ndarray:
    """The variance at every one of _NOISES, LSB^2.

    P(code | sum) is the product over its decisions of the probability of each;
    the sums are spread evenly over LSBs around zero.
    """
    from scipy import special

    span = 2 ** (steps - 1)
    sums = (np.arange(-4 * _POINTS, 4 * _POINTS) + 0.5) / _POINTS
    sums = sums[np.abs(sums) < span]
    found = []
    for sigma in _NOISES:
        reach = int(np.ceil(4 + 2 * _MARGIN * sigma + 2))
        codes = np.arange(max(-reach, -(2**steps)), min(reach, 2**steps))
        error = codes[:, None] + 0.5 - sums
        chance = np.ones_like(error)
        place = codes + 2**steps
        for k in range(steps, -1, -1):
            up = (place >> k) & 1
            # What is compared before bit k is known: the bits above it.
            base = (place >> (k + 1) << (k + 1)) + 2**k - 2**steps
            away = np.where(up, 1, -1)[:, None] * (sums - base[:, None])
            chance *= special.ndtr(away / sigma) if sigma else (away > 0)
        found.append((chance * error**2).sum(0).mean() - 1 / 12)
    return np.maximum(np.array(found), 0)


def optimal_clip(samples: ArrayLike, bits: int) -> float:
    """The range of a converter with the least mean square error, on the host.

    A wider one rounds more, a narrower one clips more: the optimum of Max
    (IRE Trans. Inf. Theory 6, 7 (1960)) for a uniform quantiser, found for any
    samples; what boosted-clipping gains (arXiv:2507.09776).

    Args:
        samples: what is converted, any shape and unit, with both signs.
        bits: resolution, at least 1: 2^bits levels in the middle of equal
            steps, none at zero.

    Returns:
        Half of the range: the outermost thresholds are a step inside it; unit
        of the samples.
    """
    checks.whole("bits", bits, 1)
    values = np.abs(np.asarray(samples, np.float64)).ravel()
    checks.finite("samples", values)
    if not values.size or not values.max():
        raise checks.UsageError(
            "samples are empty or all zero; give sums as they will come."
        )
    half = 2 ** (bits - 1)

    def error(limit: float) -> float:
        step = limit / half
        level = np.minimum(np.floor(values / step), half - 1) + 0.5
        return float(np.mean((values - level * step) ** 2))

    # The error has small waves: look on a grid, then finer around its best.
    low, high = values.max() / 200, values.max()
    for _ in range(4):
        grid = np.linspace(low, high, 101)
        best = int(np.argmin([error(limit) for limit in grid]))
        low, high = grid[max(best - 2, 0)], grid[min(best + 2, 100)]
    return float((low + high) / 2)
