"""Features of co-occurrence matrices.

Letters: A directions, G grey levels, M = G * G pairs of them. float32 holds the
features to 1e-5 of those in float64 because means are taken away before powers,
and because what is left of nearly equal entropies is summed from terms that are
not negative: I = sum q phi(p / q - 1) with q = p_x p_y and phi(t) = (1 + t)
log(1 + t) - t is the mutual information HX + HY - HXY.
"""

import math
from typing import NamedTuple

import jax
from jax.custom_batching import custom_vmap
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import histogram
from jaxedge.features.radiomics import options as options_lib
from jaxedge.features.radiomics.glcm_mcc import maximal_correlation

_SMALL = 0.1  # where phi is a series
_LN2 = math.log(2)

_IBSI = {
    "joint_max": "MaximumProbability",
    "joint_avg": "JointAverage",
    "joint_var": "SumSquares",
    "joint_entr": "JointEntropy",
    "diff_avg": "DifferenceAverage",
    "diff_var": "DifferenceVariance",
    "diff_entr": "DifferenceEntropy",
    "sum_avg": "SumAverage",
    "sum_var": "ClusterTendency",
    "sum_entr": "SumEntropy",
    "energy": "JointEnergy",
    "contrast": "Contrast",
    "dissimilarity": "DifferenceAverage",
    "inv_diff": "Id",
    "inv_diff_norm": "Idn",
    "inv_diff_mom": "Idm",
    "inv_diff_mom_norm": "Idmn",
    "inv_var": "InverseVariance",
    "corr": "Correlation",
    "auto_corr": "Autocorrelation",
    "clust_tend": "ClusterTendency",
    "clust_shade": "ClusterShade",
    "clust_prom": "ClusterProminence",
    "info_corr1": "Imc1",
    "info_corr2": "Imc2",
}


def from_matrix(
    counts_AxGxG: ArrayLike,
    grey_G: ArrayLike | None,
    n_grey: ArrayLike,
    *,
    flat: ArrayLike | None = None,
    definitions: str = "pyradiomics",
) -> dict[str, jax.Array]:
    """Features of matrices, as `glcm.features`.

    Args:
        counts_AxGxG: of pairs, at least 0; one matrix a direction.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G, which spares a sort.
        n_grey: highest grey level of the region.
        flat: whether the region has one grey level, of which MCC is 1; None
            where n_grey is 1.
        definitions: "pyradiomics", or "ibsi" for the mean over directions and
            the merged matrix.

    Returns:
        Name -> float32 [], the mean over directions that have a pair, NaN if
        none has.

    Raises:
        UsageError: for another shape of counts, or unknown definitions.
    """
    options_lib.check_definitions(definitions)
    shape = jnp.shape(counts_AxGxG)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise checks.UsageError(
            f"counts has shape {shape}, but must be [A, G, G], a matrix of"
            " grey levels for each direction."
        )
    n_grey = jnp.asarray(n_grey, jnp.float32)
    flat = n_grey == 1 if flat is None else jnp.asarray(flat)
    counts = jnp.asarray(counts_AxGxG)
    grey = None if grey_G is None else jnp.asarray(grey_G, jnp.float32)
    if definitions == "pyradiomics":
        return _averaged(counts, grey, n_grey, flat)
    merged = counts.sum(0, keepdims=True)
    found = {}
    for way, stack in (("avg", counts), ("comb", merged)):
        values = _averaged(stack, grey, n_grey, flat)
        found |= {f"cm_{tag}_3D_{way}": values[_IBSI[tag]] for tag in _IBSI}
    return found


@jax.jit
def _averaged(
    counts_AxGxG: jax.Array,
    grey_G: jax.Array | None,
    n_grey: jax.Array,
    flat: jax.Array,
) -> dict[str, jax.Array]:
    """Means over directions that have a pair."""
    used_A = counts_AxGxG.sum((1, 2)) > 0
    each = _each(_parts(counts_AxGxG, grey_G), n_grey)
    found = {}
    for name, value_A in each.items():
        mean = jnp.where(used_A, value_A, 0).sum() / used_A.sum()
        found[name] = mean.astype(jnp.float32)
    found["MCC"] = jnp.where(flat, 1, found["MCC"])
    return found


class _Moments(NamedTuple):
    """Mean and central moments of levels, [A].

    They come from moments about a whole number near the mean, whose terms are
    whole numbers. The variance of those is at least half the distance to it, so
    that little is lost.
    """

    mean: jax.Array
    second: jax.Array
    third: jax.Array
    fourth: jax.Array


def _moments(
    counts_AxK: jax.Array, values_K: jax.Array, scale_A: jax.Array
) -> _Moments:
    """Of whole numbers `values_K` that occur so often among `scale_A`."""

    def raw(power: jax.Array) -> jax.Array:
        return (counts_AxK * power).sum(-1) / scale_A

    centre_A = jnp.round(raw(values_K[None]))
    away = values_K[None] - centre_A[:, None]
    rest, t2, t3, t4 = raw(away), raw(away**2), raw(away**3), raw(away**4)
    return _Moments(
        centre_A + rest,
        t2 - rest**2,
        t3 - 3 * rest * t2 + 2 * rest**3,
        t4 - 4 * rest * t3 + 6 * rest**2 * t2 - 3 * rest**4,
    )


class _Parts(NamedTuple):
    """What the features of each direction are made from.

    Attributes:
        p_AxGxG: probabilities of pairs.
        row_AxG: of the first level.
        column_AxG: of the second.
        first: moments of the first level.
        second: of the second.
        sum: of the sum of both.
        gap: of their distance |g_i - g_j|.
        gaps: such distances, [1, K], and their probabilities [A, K].
        entropies: of sum and distance, [A], bits.
    """

    p_AxGxG: jax.Array
    row_AxG: jax.Array
    column_AxG: jax.Array
    first: _Moments
    second: _Moments
    sum: _Moments
    gap: _Moments
    gaps: tuple[jax.Array, jax.Array]
    entropies: tuple[jax.Array, jax.Array]


def _parts(counts_AxGxG: jax.Array, grey_G: jax.Array | None) -> _Parts:
    total_A = counts_AxGxG.sum((1, 2))
    scale_A = jnp.where(total_A > 0, total_A, 1).astype(jnp.float32)
    row_AxG, column_AxG = counts_AxGxG.sum(2), counts_AxGxG.sum(1)
    number = counts_AxGxG.shape[-1]
    if grey_G is None:
        grey = jnp.arange(1.0, number + 1)
        sums, gaps = jnp.arange(2.0, 2 * number + 1), jnp.arange(float(number))
        together, apart = _diagonals(counts_AxGxG)
        entropy = _ungrouped
    else:
        grey = grey_G
        sums = (grey[:, None] + grey[None]).ravel()
        gaps = jnp.abs(grey[:, None] - grey[None]).ravel()
        together = apart = counts_AxGxG.reshape(-1, number**2)
        entropy = _grouped
    p_of_gap = apart / scale_A[:, None]
    return _Parts(
        counts_AxGxG / scale_A[:, None, None],
        row_AxG / scale_A[:, None],
        column_AxG / scale_A[:, None],
        _moments(row_AxG, grey, scale_A),
        _moments(column_AxG, grey, scale_A),
        _moments(together, sums, scale_A),
        _moments(apart, gaps, scale_A),
        (gaps[None], p_of_gap),
        (
            entropy(sums, together / scale_A[:, None]),
            entropy(gaps, p_of_gap),
        ),
    )


def _each(parts: _Parts, n_grey: jax.Array) -> dict[str, jax.Array]:
    """Features of each direction, [A]."""
    first, second = parts.first, parts.second
    gap, p_AxK = parts.gaps

    def over_gaps(values: jax.Array) -> jax.Array:
        return (p_AxK * values).sum(-1)

    contrast = over_gaps(gap**2)
    # Var(x + y) and E(x - y)^2 hold the covariance.
    apart = contrast - (first.mean - second.mean) ** 2
    covariance = (parts.sum.second - apart) / 4
    spread = first.second * second.second
    safe = jnp.sqrt(jnp.where(spread > 0, spread, 1))
    share = gap / n_grey
    return {
        "Autocorrelation": covariance + first.mean * second.mean,
        "ClusterProminence": parts.sum.fourth,
        "ClusterShade": parts.sum.third,
        "ClusterTendency": parts.sum.second,
        "Contrast": contrast,
        "Correlation": jnp.where(spread > 0, covariance / safe, 1),
        "DifferenceAverage": parts.gap.mean,
        "DifferenceEntropy": parts.entropies[1],
        "DifferenceVariance": parts.gap.second,
        "Id": over_gaps(1 / (1 + gap)),
        "Idm": over_gaps(1 / (1 + gap**2)),
        "Idmn": over_gaps(1 / (1 + share**2)),
        "Idn": over_gaps(1 / (1 + share)),
        "InverseVariance": over_gaps(
            jnp.where(gap > 0, 1 / jnp.maximum(gap, 1) ** 2, 0)
        ),
        "JointAverage": first.mean,
        "JointEnergy": (parts.p_AxGxG**2).sum((1, 2)),
        "MaximumProbability": parts.p_AxGxG.max((1, 2)),
        "SumAverage": parts.sum.mean,
        "SumEntropy": parts.entropies[0],
        "SumSquares": first.second,
        **_information(parts),
        "MCC": maximal_correlation(
            parts.p_AxGxG, parts.row_AxG, parts.column_AxG
        ),
    }


def _information(parts: _Parts) -> dict[str, jax.Array]:
    """Joint entropy and what the two levels tell of each other, [A], bits."""
    row, column = parts.row_AxG[:, :, None], parts.column_AxG[:, None]
    q = row * column
    here = q > 0
    # By two divisions: q of two rare levels is small.
    ratio = parts.p_AxGxG / jnp.where(here, row, 1)
    ratio = ratio / jnp.where(here, column, 1)
    told = jnp.where(here, q * _phi(ratio), 0).sum((1, 2)) / _LN2
    first, second = _entropy(parts.row_AxG), _entropy(parts.column_AxG)
    most = jnp.maximum(first, second)
    shared = -told / jnp.where(most > 0, most, 1)
    return {
        "Imc1": jnp.where(most > 0, shared, 0),
        # Entropies in bits below a natural exponent: so it is defined.
        "Imc2": jnp.sqrt(jnp.where(told > 0, -jnp.expm1(-2 * told), 0)),
        "JointEntropy": first + second - told,
    }


def _phi(ratio: jax.Array) -> jax.Array:
    """(1 + t) log(1 + t) - t of t = ratio - 1, at least 0."""
    t = ratio - 1
    series = t * t * _polynomial(jnp.clip(t, -_SMALL, _SMALL))
    safe = jnp.where(ratio > 0, ratio, 1)
    return jnp.where(jnp.abs(t) < _SMALL, series, ratio * jnp.log(safe) - t)


def _polynomial(t: jax.Array) -> jax.Array:
    """1/2 - t/6 + t^2/12 - ..., of terms (-t)^k / ((k + 1) (k + 2))."""
    value = jnp.zeros_like(t)
    for k in reversed(range(7)):
        value = 1 / ((k + 1) * (k + 2)) - t * value
    return value


def _entropy(p_AxK: jax.Array) -> jax.Array:
    """Entropy along the last axis, bits."""
    safe = jnp.where(p_AxK > 0, p_AxK, 1)
    return -(p_AxK * jnp.log2(safe)).sum(-1)


def _diagonals(counts_AxGxG: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Counts by i + j, [A, 2 G - 1], and by |i - j|, [A, G]."""
    number = counts_AxGxG.shape[-1]
    together = _skewed(counts_AxGxG).sum(1)
    signed = _skewed(counts_AxGxG[:, :, ::-1]).sum(1)
    below, above = signed[:, : number - 1][:, ::-1], signed[:, number:]
    return together, signed[:, number - 1 :].at[:, 1:].set(below + above)


def _skewed(stack_AxGxG: jax.Array) -> jax.Array:
    """Every row one place further to the right than that above."""
    a, number, _ = stack_AxGxG.shape
    wide = jnp.pad(stack_AxGxG, ((0, 0), (0, 0), (0, number)))
    flat = wide.reshape(a, -1)[:, : number * (2 * number - 1)]
    return flat.reshape(a, number, 2 * number - 1)


def _ungrouped(values_K: jax.Array, p_AxK: jax.Array) -> jax.Array:
    del values_K  # each occurs once
    return _entropy(p_AxK)


def _grouped(values_M: jax.Array, p_AxM: jax.Array) -> jax.Array:
    """Entropy of a symmetric function of two levels, bits [A]."""
    values = jax.lax.stop_gradient(values_M)  # Only what is equal matters.
    directions, number = len(p_AxM), math.isqrt(len(values_M))
    i, j = np.triu_indices(number)
    place = np.zeros((number, number), int)
    place[i, j] = place[j, i] = np.arange(len(i))
    group_M = _groups(values[i * number + j])[place.ravel()]
    first_A = jnp.arange(directions, dtype=jnp.int32) * len(i)
    cell_AxM = first_A[:, None] + group_M[None]
    size = directions * len(i)
    found = histogram.totals(cell_AxM.ravel(), p_AxM.ravel(), size)
    return _entropy(found.reshape(directions, len(i)))


@custom_vmap
def _groups(values_K: jax.Array) -> jax.Array:
    """A number below K for each group of equal whole numbers, at least 0."""
    fits = values_K.max() < len(values_K)
    return jax.lax.cond(fits, _themselves, _ranks, values_K)


@_groups.def_vmap
def _groups_of_many(size, batched, values_BxK):
    # A condition that differs within a batch would take both ways.
    del size, batched
    fits = values_BxK.max() < values_BxK.shape[-1]
    ranks = jax.vmap(_ranks)
    return jax.lax.cond(fits, _themselves, ranks, values_BxK), True


def _themselves(values: jax.Array) -> jax.Array:
    return values.astype(jnp.int32)


def _ranks(values_K: jax.Array) -> jax.Array:
    order = jnp.argsort(values_K)
    ranked = values_K[order]
    rises = jnp.concatenate([jnp.zeros(1, bool), ranked[1:] > ranked[:-1]])
    number_K = jnp.cumsum(rises.astype(jnp.int32))
    return histogram.totals(order, number_K, len(order))  # one value a cell
