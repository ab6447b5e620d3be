"""Where to fold and where to clip, layer by layer.

Folding halves the range of even inputs, but drives the rows of inputs that are
mostly zero; clipping makes the LSB, and with it most errors, smaller. Which of
them pays depends on the layer (sram_cim 6), so the error is predicted for every
choice.

Letters: B samples, T arrays along the rows, N rows of one, M columns, F folding
points, L sizes of an LSB.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.hardware.noise import tile_matmul
from jaxedge.hardware.sram import columns as cells
from jaxedge.hardware.sram import errors
from jaxedge.hardware.sram.config import Config
from jaxedge.hardware.sram.macro import Spec, SramMacro

# More sizes of an LSB are thinned out, and more conversions are not looked at.
_LSBS = 32
_CONVERSIONS = 100_000


class Grid(NamedTuple):
    """What every choice would do to some inputs.

    Attributes:
        folds: folding points, [F].
        lsbs: units of an LSB, [L].
        error: predicted variance of a conversion, units^2, [F, L].
        clipped: share of the conversions that clip, in [0, 1], [F, L].
        drop: mean units that both lines lose to products, [F]; the energy of
            the lines is proportional to drop / LSB at a given swing in volts.
    """

    folds: np.ndarray
    lsbs: np.ndarray
    error: jax.Array
    clipped: jax.Array
    drop: jax.Array

    def line(self, config: Config) -> jax.Array:
        """Mean drop of a line over its swing, [F, L]."""
        swing = 2.0**config.steps * jnp.asarray(self.lsbs, jnp.float32)
        return self.drop[:, None] / (2 * swing[None, :])

    def best(self, clip_rate: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Index of the least error among those that clip at most so often.

        Where all clip more often, of the one that clips the least.

        Returns:
            Of the folding point and of the LSB, int32 [] each.
        """
        allowed = self.clipped <= jnp.maximum(clip_rate, self.clipped.min())
        error = jnp.where(allowed, self.error, jnp.inf)
        at = jnp.argmin(error)
        f, lsb = jnp.unravel_index(at, error.shape)
        return f, lsb


class Choice(NamedTuple):
    """What is best for a layer, and what it costs.

    Attributes:
        fold: folding point.
        lsb_units: units of an LSB.
        error: predicted std of a conversion, units of x w.
        clipped: share of the conversions that clip, in [0, 1].
        line: mean drop of a line over its swing.
    """

    fold: jax.Array
    lsb_units: jax.Array
    error: jax.Array
    clipped: jax.Array
    line: jax.Array


def explore(x_int: ArrayLike, w_int: ArrayLike, config: Config) -> Grid:
    """Predicts the errors of every folding point and LSB.

    Args:
        x_int: input codes as they will come, [B, N] or [B, T, N].
        w_int: weight codes, [N, M] or [T, N, M].
        config: the design; its own `fold` and `lsb_units` do not count.

    Returns:
        Signed inputs are never folded. Up to 32 sizes of an LSB, to the one
        with which nothing can clip.

    Raises:
        UsageError: for shapes that do not fit.
    """
    x = jnp.asarray(x_int, jnp.float32)
    w = jnp.asarray(w_int, jnp.float32)
    if x.ndim != w.ndim or w.ndim not in (2, 3):
        raise checks.UsageError(
            f"x_int {x.shape} and w_int {w.shape} must be [B, N] and [N, M], or"
            " [B, T, N] and [T, N, M]."
        )
    if w.ndim == 2:
        x, w = x[:, None], w[None]
    if x.shape[1:] != w.shape[:2]:
        raise checks.UsageError(
            f"x_int has {x.shape[1:]} rows, but w_int {w.shape[:2]}."
        )
    most = max(_CONVERSIONS // (w.shape[0] * w.shape[2]), 16)
    x = x[:: -(-len(x) // most)]
    folds, lsbs = _folds(config), _sizes(config)
    columns = cells.draw(None, w, config)
    units = columns.plus + columns.minus
    d0, added = tile_matmul(x, w), w.sum(1)
    of_cells = errors.of_cells(w, config)

    def fold(f: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        folded = x - f
        d = d0 - f * jnp.broadcast_to(added, d0.shape)
        total = tile_matmul(jnp.abs(folded), units)
        inputs = errors.of_inputs(folded, of_cells, config)

        def size(lsb: jax.Array) -> tuple[jax.Array, jax.Array]:
            sized = dataclasses.replace(config, fold=f, lsb_units=lsb)
            error = errors.of_sums(d, total, inputs, sized, some=8).total
            clipped = d != errors.clipped_sum(d, total, sized)
            return error, jnp.mean(clipped, dtype=jnp.float32)

        found = jax.lax.map(size, jnp.asarray(lsbs, jnp.float32))
        return *found, jnp.mean(total)

    error, clipped, drop = jax.lax.map(fold, jnp.asarray(folds, jnp.float32))
    return Grid(folds, lsbs, error, clipped, drop)


def choose(
    x_int: ArrayLike,
    w_int: ArrayLike,
    config: Config,
    clip_rate: ArrayLike = 1e-3,
) -> Choice:
    """The folding point and LSB with the least predicted error.

    Args:
        x_int: as for `explore`.
        w_int: as for `explore`.
        config: the design.
        clip_rate: share of the conversions that may clip, in [0, 1].
    """
    checks.in_range("clip_rate", clip_rate, 0, 1)
    grid = explore(x_int, w_int, config)
    return _choice(grid, grid.best(clip_rate), config)


def _choice(grid: Grid, at: Any, config: Config) -> Choice:
    return Choice(
        fold=jnp.asarray(grid.folds)[at[0]],
        lsb_units=jnp.asarray(grid.lsbs)[at[1]],
        error=jnp.sqrt(grid.error[at]),
        clipped=grid.clipped[at],
        line=grid.line(config)[at],
    )


def needs(leaf: SramMacro, x: jax.Array) -> Grid:
    """What every choice would do in one call of a leaf, inputs [..., I]."""
    code, _, _ = leaf.inputs(x)
    rows = leaf.rows(code)
    rows = rows.reshape(-1, *rows.shape[-2:])
    return explore(rows, leaf.columns.codes, leaf.spec.config)


def fitted(spec: Spec, grids: Sequence[Grid]) -> Config:
    """The design with what is best for all calls, by what `needs` gave."""

    def mean(*parts: Any) -> jax.Array:
        return jnp.mean(jnp.stack(parts), 0)

    found = jax.tree.map(mean, *grids)
    config = spec.config
    grid = found._replace(folds=_folds(config), lsbs=_sizes(config))
    best = _choice(grid, grid.best(jnp.asarray(spec.clip_rate)), config)
    return dataclasses.replace(config, fold=best.fold, lsb_units=best.lsb_units)


def _folds(config: Config) -> np.ndarray:
    """Folding points that are looked at."""
    return np.arange(1 if config.x_signed else 2**config.x_bits)


def _sizes(config: Config) -> np.ndarray:
    """LSBs that are looked at: whole units."""
    whole = dataclasses.replace(config, fold=0).unclipped()
    if whole <= _LSBS:
        return np.arange(1, whole + 1)
    return np.unique(np.geomspace(1, whole, _LSBS).round().astype(int))
