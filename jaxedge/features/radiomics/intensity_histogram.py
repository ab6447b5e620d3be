"""Features of the histogram of grey levels (arXiv:1612.07003, 3.4 and 3.5).

The intensity-volume histogram is that of the grey levels given; for calibrated
units IBSI makes it of levels that are one unit wide. Levels that do not occur
need no row. Letters: G rows, each a grey level.
"""

import jax
import jax.numpy as jnp


def entropy(count_G: jax.Array) -> jax.Array:
    """Entropy of the grey levels, in bits."""
    return jax.scipy.special.entr(_shares(count_G)).sum() / jnp.log(2.0)


def uniformity(count_G: jax.Array) -> jax.Array:
    """Sum of the squared shares of the grey levels."""
    return (_shares(count_G) ** 2).sum()


def features(count_G: jax.Array, grey_G: jax.Array) -> dict[str, jax.Array]:
    """What IBSI takes from counts.

    Args:
        count_G: int32, voxels of each row, fewer than 2^24 in all.
        grey_G: int32, the grey level of each row, at least 1 where it counts
            anything.

    Returns:
        float32 scalars: ih_entropy, ih_uniformity, ih_mode (of several, that
        nearest the mean), gradients of the histogram, and ivh_*. The gradient
        of a histogram of one level is 0; where no level is rare enough for
        ivh_i*, it is the one above the highest.
    """
    grey_G = jnp.where(count_G > 0, grey_G, 0)
    found = {
        "ih_entropy": entropy(count_G),
        "ih_uniformity": uniformity(count_G),
        "ih_mode": _mode(count_G, grey_G),
        **_gradients(count_G, grey_G),
        **_volumes(count_G, grey_G),
    }
    return {tag: value.astype(jnp.float32) for tag, value in found.items()}


def _shares(count_G: jax.Array) -> jax.Array:
    return count_G / jnp.maximum(count_G.sum(), 1)


def _mode(count_G: jax.Array, grey_G: jax.Array) -> jax.Array:
    mean = (_shares(count_G) * grey_G).sum()
    most_G = count_G == count_G.max()
    away_G = jnp.where(most_G, jnp.abs(grey_G - mean), jnp.inf)
    return _first(away_G == away_G.min(), grey_G)


def _gradients(count_G: jax.Array, grey_G: jax.Array) -> dict[str, jax.Array]:
    """Half the difference of the neighbours, or the whole step at an end.

    Beside a level that occurs the gradient is not 0, or else it is nowhere, so
    that other levels need not be looked at.
    """
    highest = grey_G.max()
    level_K = jnp.concatenate([grey_G - 1, grey_G, grey_G + 1])
    occurs_K = jnp.tile(count_G > 0, 3)
    legal_K = occurs_K & (level_K >= 1) & (level_K <= highest)

    def count(wanted_K):
        same_KxG = wanted_K[:, None] == grey_G[None]
        return jnp.where(same_KxG, count_G[None], 0).sum(1)

    low_K = jnp.maximum(level_K - 1, 1)
    high_K = jnp.minimum(level_K + 1, highest)
    step_K = count(high_K) - count(low_K)
    slope_K = step_K / jnp.maximum(high_K - low_K, 1)
    rise = jnp.max(slope_K, where=legal_K, initial=-jnp.inf)
    fall = jnp.min(slope_K, where=legal_K, initial=jnp.inf)
    some = legal_K.any()
    return {
        "ih_max_grad": jnp.where(some, rise, 0),
        "ih_max_grad_g": _first(legal_K & (slope_K == rise), level_K),
        "ih_min_grad": jnp.where(some, fall, 0),
        "ih_min_grad_g": _first(legal_K & (slope_K == fall), level_K),
    }


def _volumes(count_G: jax.Array, grey_G: jax.Array) -> dict[str, jax.Array]:
    """Volume shares at 10 and 90 % of the range, and levels of such volumes."""
    n, highest = count_G.sum(), grey_G.max()
    lowest = _first(count_G > 0, grey_G)
    above_GxG = grey_G[None] > grey_G[:, None]
    above_G = jnp.where(above_GxG, count_G[None], 0).sum(1)
    found = {}
    for tenths in (1, 9):
        # In whole numbers, so that a level on the bound is on its right side.
        high_G = (grey_G - lowest) * 10 >= tenths * (highest - lowest)
        volume = jnp.where(high_G, count_G, 0).sum()
        rare_G = (count_G > 0) & (above_G * 10 <= tenths * n)
        found[f"ivh_v{tenths}0"] = volume / jnp.maximum(n, 1)
        found[f"ivh_i{tenths}0"] = _first(rare_G, grey_G + 1)
    found["ivh_diff_v10_v90"] = found["ivh_v10"] - found["ivh_v90"]
    found["ivh_diff_i10_i90"] = found["ivh_i10"] - found["ivh_i90"]
    return found


def _first(which_K: jax.Array, level_K: jax.Array) -> jax.Array:
    """The lowest of some levels; 0 of none."""
    lowest = jnp.min(level_K, where=which_K, initial=jnp.iinfo(jnp.int32).max)
    return jnp.where(which_K.any(), lowest, 0)
