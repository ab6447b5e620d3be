"""Distributions of a positive level, given by their mean and spread."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.hardware.sampling import to_normal


def truncated(u: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """Normal truncated above 0, from a uniform on (-1, 1)."""
    spread = jnp.greater(std, 0)
    mean_stds = jnp.asarray(mean, u.dtype) / jnp.where(spread, std, 1)
    below = jnp.where(spread, jax.scipy.stats.norm.cdf(-mean_stds), 0)
    return jnp.asarray(mean) + std * to_normal(u * (1 - below) + below)


def lognormal(u: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """Lognormal with the given mean and std of the conductance itself."""
    ratio = jnp.divide(std, mean)
    power = ratio**2
    # sqrt(log1p(power)) / ratio, by its series where float32 cannot divide;
    # the root alone would have no slope at 0.
    large = power > 1e-4
    safe = jnp.where(large, power, 1)
    factor = jnp.where(large, jnp.sqrt(jnp.log1p(safe) / safe), 1 - power / 4)
    location = jnp.log(jnp.asarray(mean)) - jnp.log1p(power) / 2
    return jnp.exp(location + ratio * factor * to_normal(u))


FAMILIES: dict[str, Callable[..., jax.Array]] = {
    "normal": truncated,
    "lognormal": lognormal,
}
