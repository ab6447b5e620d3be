"""Maps of co-occurrence features that are means over pairs of voxels.

The matrix of a kernel is never made. For each direction, what a pair (i, j) of
grey levels adds to a feature is written at its first voxel, and summed over the
boxes of all voxels at once. That holds for features linear in the matrix, and
for moments about the kernel's mean, which `boxes.whole_moments` takes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.features.radiomics import boxes, neighbours
from jaxedge.features.radiomics.options import Options

# What a pair of grey levels adds, by (i, j, n_grey).
_LINEAR: dict[str, Callable[..., jax.Array]] = {
    "Autocorrelation": lambda i, j, n: i * j,
    "Contrast": lambda i, j, n: (i - j) ** 2,
    "DifferenceAverage": lambda i, j, n: jnp.abs(i - j),
    "Id": lambda i, j, n: 1 / (1 + jnp.abs(i - j)),
    "Idm": lambda i, j, n: 1 / (1 + (i - j) ** 2),
    "Idmn": lambda i, j, n: 1 / (1 + ((i - j) / n) ** 2),
    "Idn": lambda i, j, n: 1 / (1 + jnp.abs(i - j) / n),
    "InverseVariance": lambda i, j, n: jnp.where(
        i == j, 0, 1 / jnp.maximum((i - j) ** 2, 1)
    ),
    "SumAverage": lambda i, j, n: i + j,
}


class _Kernels(NamedTuple):
    """Sums over the kernels of all voxels along one direction, rows.

    Attributes:
        count: pairs.
        linear: name -> sum of what the pairs add.
        total: moments of i + j; None where no feature needs them.
        apart: moments of |i - j|; likewise.
    """

    count: jax.Array
    linear: dict[str, jax.Array]
    total: boxes.Moments | None
    apart: boxes.Moments | None


def _mean(kernels: _Kernels, name: str) -> jax.Array:
    return kernels.linear[name] / jnp.maximum(kernels.count, 1)


def _central(moments: boxes.Moments | None, power: int) -> jax.Array:
    assert moments is not None
    return moments.central(power)


def _correlation(kernels: _Kernels) -> jax.Array:
    # Var(i + j) = 2 Var(i) + 2 Cov and E (i - j)^2 = 2 Var(i) - 2 Cov.
    total, contrast = _central(kernels.total, 2), _mean(kernels, "Contrast")
    spread = total + contrast
    flat = spread == 0
    return jnp.where(flat, 1, (total - contrast) / jnp.where(flat, 1, spread))


def _sum_squares(kernels: _Kernels) -> jax.Array:
    return (_central(kernels.total, 2) + _mean(kernels, "Contrast")) / 4


class _Rule(NamedTuple):
    """How a feature of a direction follows from its kernels.

    Attributes:
        linear: the sums that it needs, of `_LINEAR`.
        total: highest power of i + j; 0 for none.
        apart: highest power of |i - j|; 0 for none.
        value: from a direction's kernels.
        ordered: whether it holds where a pair counts one way only.
    """

    linear: tuple[str, ...]
    total: int
    apart: int
    value: Callable[[_Kernels], jax.Array]
    ordered: bool = True


def _linear_rule(name: str) -> _Rule:
    return _Rule((name,), 0, 0, lambda kernels: _mean(kernels, name))


def _total_rule(power: int) -> _Rule:
    return _Rule((), power, 0, lambda kernels: _central(kernels.total, power))


RULES: dict[str, _Rule] = {name: _linear_rule(name) for name in _LINEAR} | {
    "ClusterProminence": _total_rule(4),
    "ClusterShade": _total_rule(3),
    "ClusterTendency": _total_rule(2),
    "Correlation": _Rule(("Contrast",), 2, 0, _correlation, False),
    "DifferenceVariance": _Rule((), 0, 2, lambda k: _central(k.apart, 2)),
    "JointAverage": _Rule(
        ("SumAverage",), 0, 0, lambda k: _mean(k, "SumAverage") / 2, False
    ),
    "SumSquares": _Rule(("Contrast",), 2, 0, _sum_squares, False),
}


def known(name: str, options: Options) -> bool:
    """Whether `maps` makes a feature of the class under these options."""
    if name not in RULES:
        return False
    rule = RULES[name]
    straight = not (rule.total or rule.apart)
    return (straight or options.weighting is None) and (
        rule.ordered or options.symmetric
    )


def maps(
    grey_ZxYxX: jax.Array,
    valid_ZxYxX: jax.Array,
    names: tuple[str, ...],
    *,
    radius: int,
    n_grey: jax.Array,
    spacing: jax.Array,
    options: Options,
) -> dict[str, jax.Array]:
    """Features of the pairs in the kernel around every voxel.

    Args:
        grey_ZxYxX: float32 grey levels.
        valid_ZxYxX: bool, the voxels whose pairs count.
        names: of features that are `known`.
        radius: of the kernel, in voxels.
        n_grey: the highest grey level of the whole region.
        spacing: [3], mm along (z, y, x).
        options: as of the matrices.

    Returns:
        name -> [Z, Y, X], the mean over directions that have pairs; NaN where
        none has.
    """
    steps_Ax3 = neighbours.offsets(options.distances, options.plane)
    frame = boxes.frame(
        grey_ZxYxX.shape, radius, options.plane, max(options.distances)
    )
    rows = (
        boxes.flatten(grey_ZxYxX, frame, 1),
        boxes.flatten(valid_ZxYxX, frame, False),
    )
    squares_A = _squares(steps_Ax3, spacing, options)
    order_A = jnp.argsort(squares_A)

    def along(state, direction):
        step, square = direction
        sums, weights, nearest = state
        kernels = _kernels(rows, step, names, frame, n_grey)
        some = kernels.count > 0
        # Directions come nearest first: a kernel's first sets its unit, so that
        # exp(-d^2) of slices centimetres apart is not 0.
        nearest = jnp.minimum(nearest, jnp.where(some, square, jnp.inf))
        weight = jnp.where(some, jnp.exp(nearest - square), 0)
        if options.weighting is not None:
            weight = weight * kernels.count
        sums = {
            name: sums[name] + weight * RULES[name].value(kernels)
            for name in names
        }
        return (sums, weights + weight, nearest), None

    nothing = jnp.zeros(frame.length, grey_ZxYxX.dtype)
    start = (dict.fromkeys(names, nothing), nothing, nothing + jnp.inf)
    directions = (jnp.asarray(steps_Ax3)[order_A], squares_A[order_A])
    (sums, weights, _), _ = jax.lax.scan(along, start, directions)
    share = 1 / jnp.where(weights > 0, weights, jnp.nan)
    return {
        name: boxes.unflatten(total * share, frame)
        for name, total in sums.items()
    }


def _squares(
    steps_Ax3: np.ndarray, spacing: jax.Array, options: Options
) -> jax.Array:
    """Squared distance by which a direction is weighted; 0 for no weights."""
    if options.weighting in (None, "no_weighting"):
        return jnp.zeros(len(steps_Ax3))
    return neighbours.distance(steps_Ax3, spacing[None], options.weighting) ** 2


def _kernels(
    rows: tuple[jax.Array, jax.Array],
    step: jax.Array,
    names: tuple[str, ...],
    frame: boxes.Frame,
    n_grey: jax.Array,
) -> _Kernels:
    """What the features need of one direction."""
    rules = [RULES[name] for name in names]
    grey, valid = rows
    there = jnp.dot(step, jnp.asarray(frame.strides))
    other = jnp.roll(grey, -there)
    both = valid & jnp.roll(valid, -there)
    wanted = sorted({name for rule in rules for name in rule.linear})
    linear = {
        name: jnp.where(both, _LINEAR[name](grey, other, n_grey), 0)
        for name in wanted
    }
    level, level2 = grey.astype(jnp.int32), other.astype(jnp.int32)
    middle = jnp.asarray(n_grey, jnp.int32)
    total, apart = (
        boxes.whole_moments(values, both, frame, step, order=order)
        if order
        else None
        for values, order in (
            (level + level2 - middle, max(rule.total for rule in rules)),
            (jnp.abs(level - level2), max(rule.apart for rule in rules)),
        )
    )
    linear["count"] = both.astype(grey.dtype)
    linear = boxes.sums(linear, frame, step)
    return _Kernels(linear.pop("count"), linear, total, apart)
