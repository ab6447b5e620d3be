"""Statistics of counts by level and extent against float64 sums."""

import jax
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import emphases


def expected(c, i, j, n_voxels):
    """Sums over all cells, as arXiv:1612.07003 writes them."""
    i, j, n = i[:, None], j[None], c.sum()
    p = c / n
    some = p[p > 0]

    def mean(x):
        return (p * x).sum()

    by_i, by_j = c.sum(1), c.sum(0)
    return {
        "short": mean(1 / j**2),
        "long": mean(j**2),
        "low": mean(1 / i**2),
        "high": mean(i**2),
        "short_low": mean(1 / (i * j) ** 2),
        "short_high": mean((i / j) ** 2),
        "long_low": mean((j / i) ** 2),
        "long_high": mean((i * j) ** 2),
        "grey_non_uniformity": (by_i**2).sum() / n,
        "grey_non_uniformity_normalised": (by_i**2).sum() / n**2,
        "extent_non_uniformity": (by_j**2).sum() / n,
        "extent_non_uniformity_normalised": (by_j**2).sum() / n**2,
        "percentage": n / n_voxels,
        "grey_variance": mean((i - mean(i)) ** 2),
        "extent_variance": mean((j - mean(j)) ** 2),
        "entropy": -(some * np.log2(some)).sum(),
    }


def test_statistics_are_the_sums_in_double_precision():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.3, 50, (3, 6, 40)))
    counts[1] = 0
    counts[1, 2, 7] = 5  # one cell
    grey = np.array([1.0, 2, 5, 9, 40, 77])
    extent = np.arange(1.0, 41) ** 2
    run = jax.vmap(lambda c: emphases.statistics(c, grey, extent, 90_000))
    found = jax.jit(run)(counts.astype(np.int32))
    assert tuple(sorted(found)) == tuple(sorted(emphases.STATISTICS))
    for k in range(3):
        wanted = expected(counts[k].astype(np.float64), grey, extent, 90_000)
        for name, value in wanted.items():
            np.testing.assert_allclose(
                found[name][k], value, 2e-6, 1e-12, err_msg=f"{name} of {k}"
            )


def test_rows_and_columns_without_counts_do_not_matter():
    counts = np.array([[3, 0, 1], [0, 0, 0]], np.int32)
    # Nothing is divided by the 0 of a row or column that is not used.
    wide = emphases.statistics(
        counts, np.array([2.0, 0]), np.array([1.0, 0, 4]), 7
    )
    narrow = emphases.statistics(
        counts[:1, ::2], np.array([2.0]), np.array([1.0, 4]), 7
    )
    for name, value in narrow.items():
        np.testing.assert_allclose(wide[name], value, 1e-6, err_msg=name)


def test_another_number_of_grey_levels_is_named():
    np.testing.assert_array_equal(emphases.greys(None, 3), [1, 2, 3])
    with pytest.raises(UsageError, match=r"grey_G has shape \(2,\).* 3 rows"):
        emphases.greys([1, 2], 3)
